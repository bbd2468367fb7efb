/** Translation flushes that guests ask for: of the calling vCPU, of a bitmap of vCPUs, of all. */
import { Errno } from '@xenhost/base';
import type { HypercallCall } from '../hypercall/types.ts';
import type { TlbPort } from '../sched/api.ts';
import { readU64 } from './access.ts';

export const ALL_VCPUS = 0xffff_ffff;

export class Flusher {
  readonly #tlb: TlbPort;
  constructor(tlb: TlbPort) {
    this.#tlb = tlb;
  }

  local(call: HypercallCall): void {
    if (call.vcpu && call.engine) this.#tlb.flushCaller(call.vcpu, call.engine);
  }
  pageLocal(call: HypercallCall, linear: bigint): void {
    call.engine?.invalidatePage(linear);
  }
  some(call: HypercallCall, mask: number): void {
    this.#tlb.flushVcpus(call.domain, mask, true);
  }
  pageSome(call: HypercallCall, mask: number, linear: bigint): void {
    this.#tlb.invalidatePage(call.domain, mask, linear);
  }

  /** The vCPUs of a bitmap in the caller's memory (64-bit words, as many as it has vCPUs), or -EFAULT. */
  mask(call: HypercallCall, pointer: bigint): number {
    // A domain has at most 32 vCPUs: one word.
    const word = readU64(call.memory, pointer);
    return word === undefined ? -Errno.EFAULT : Number(word & 0xffff_ffffn);
  }
}
