/** The seam between the hypercall dispatch and the subsystems that answer. */
import type { Domid } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

/** What kind of caller: decides which hypercalls exist and how wide arguments and structures are. */
export type CallerKind = 'pv64' | 'pv32' | 'hvm64' | 'hvm32' | 'privcmd';

/**
 * Memory of the caller, by the addresses that its hypercall arguments hold: a guest's virtual addresses, or the arena of
 * a privcmd request. Guest-controlled: read once, then check.
 */
export interface CallerMemory {
  /** A copy of the bytes, or undefined when any of them is not readable (-EFAULT). */
  read(address: bigint, length: number): Uint8Array | undefined;
  /**
   * Reads `nr` 32-bit words into the first of `into`, each once. False, with nothing said about the memory, where that is
   * not done the short way: `read` decides then. Absent: there is no short way.
   */
  readWords?(address: bigint, nr: number, into: Uint32Array): boolean;
  /** False when not writable (-EFAULT); may have written a part. */
  write(address: bigint, bytes: Uint8Array): boolean;
}

export interface HypercallCall {
  readonly kind: CallerKind;
  readonly domid: Domid;
  readonly domain: DomainRef;
  /** The calling vCPU; undefined for privcmd. */
  readonly vcpu: VcpuRef | undefined;
  /** The engine that has `vcpu` loaded: its registers live there, not in the record; undefined for privcmd. */
  readonly engine: Engine | undefined;
  /** Six arguments, zero-extended; 32-bit callers' are cut to 32 bits. A handler that continues rewrites them. */
  readonly args: bigint[];
  readonly memory: CallerMemory;
  /** True when the operation should stop at the next safe point and be continued (work bound or event pending). */
  shouldPreempt(): boolean;
}

/**
 * A result for RAX (negative errno), or `continue`: the instruction is run again with `call.args` as the handler left
 * them, events being delivered in between. `noResult`: the handler has set the registers itself (iret).
 */
export type HypercallResult = number | bigint | 'continue' | 'noResult';
export type HypercallHandler = (call: HypercallCall) => HypercallResult;
