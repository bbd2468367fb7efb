/** The 2-level ABI: a bitmap of ports in shared_info, a selector word in each vcpu_info. `xen/common/event_2l.c`. */
import { Errno } from '@xenhost/base';
import { EVTCHN_2L_NR_CHANNELS, EVTCHN_PLACES } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import type { EventAbi, EventTargets } from './abi.ts';
import { clearBit, testAndSetBit, testBit } from './bits.ts';
import type { PortView } from './records.ts';
import { vcpuInfoAddress } from './vcpu-info.ts';

/** Width of the guest's words in shared_info. */
export const guestWidth = (domain: DomainRef): 32 | 64 => ((domain.v.flags & DomainFlag.pv32) !== 0 ? 32 : 64);

export class TwoLevelAbi implements EventAbi {
  readonly #memory: MachineMemory;
  readonly #targets: EventTargets;

  constructor(memory: MachineMemory, targets: EventTargets) {
    this.#memory = memory;
    this.#targets = targets;
  }

  maxPorts(domain: DomainRef): number {
    return EVTCHN_2L_NR_CHANNELS[guestWidth(domain)];
  }

  init(): void {
    // A bound port needs no preparation: its bits are where they are.
  }

  setPending(domain: DomainRef, port: number, _record: PortView, vcpuId: number): void {
    const places = this.#places(domain, port);
    if (places === undefined || testAndSetBit(this.#memory, places.pending, port)) return;
    if (!testBit(this.#memory, places.mask, port)) this.#select(domain, port, vcpuId);
    this.#targets.wakePollers(domain, port);
  }

  clearPending(domain: DomainRef, port: number): void {
    const places = this.#places(domain, port);
    if (places !== undefined) clearBit(this.#memory, places.pending, port);
  }

  unmask(domain: DomainRef, port: number, record: PortView): void {
    const places = this.#places(domain, port);
    if (places === undefined || !testBit(this.#memory, places.mask, port)) return;
    clearBit(this.#memory, places.mask, port);
    if (testBit(this.#memory, places.pending, port)) this.#select(domain, port, record.notifyVcpu);
  }

  isPending(domain: DomainRef, port: number): boolean {
    const places = this.#places(domain, port);
    return places !== undefined && testBit(this.#memory, places.pending, port);
  }

  isBusy(): boolean {
    return false;
  }

  setPriority(): number {
    return -Errno.ENOSYS;
  }

  /** Sets the selector bit of the port's word and raises the upcall when it was clear. */
  #select(domain: DomainRef, port: number, vcpuId: number): void {
    const vcpu = this.#targets.vcpu(domain, vcpuId);
    const info = vcpu && vcpuInfoAddress(vcpu);
    if (vcpu === undefined || info === undefined) return;
    const width = guestWidth(domain);
    const selector = info + EVTCHN_PLACES[width].pendingSelector;
    if (!testAndSetBit(this.#memory, selector, Math.floor(port / width))) this.#targets.markEventsPending(vcpu);
  }

  /** Byte addresses of the bitmaps; undefined for a port out of range or before there is a shared_info. */
  #places(domain: DomainRef, port: number): { pending: number; mask: number } | undefined {
    const sharedInfo = domain.v.sharedInfoMfn;
    if (sharedInfo === 0 || port >= this.maxPorts(domain)) return undefined;
    const places = EVTCHN_PLACES[guestWidth(domain)];
    return { pending: sharedInfo * 4096 + places.pending, mask: sharedInfo * 4096 + places.mask };
  }
}
