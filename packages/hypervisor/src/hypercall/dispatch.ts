/**
 * From a hypercall instruction, or a request of Domain-0's tools, to the row of the table and back to registers:
 * arguments, results, continuations, multicalls. Called with the hypervisor lock held.
 */
import { Errno, layout } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import { TraceEvent } from '@xenhost/xen-abi';
import type { DomainTable } from '../domain/table.ts';
import type { Core } from '../state/core.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { COUNTER } from '../trace/counter-table.ts';
import { GuestMemory } from './guest-memory.ts';
import { HypercallTable } from './table.ts';
import type { HypercallHandlers } from './table.ts';
import type { CallerKind, CallerMemory, HypercallCall, HypercallResult } from './types.ts';

/** Length of `syscall` and of `int 0x82`. */
const PV_INSTRUCTION_LENGTH = 2n;
/** A hypercall that has run this long stops at its next safe point, in ns. */
const PREEMPT_NS = 1_000_000n;
const MULTICALL_ARGS = 6;
/** What the number's bits in a trace record hold. */
const MAX_TRACED_OP = 0xf_ffffn;

const MulticallEntry = layout('multicall_entry', {
  op: 'u64', result: 'u64', arg0: 'u64', arg1: 'u64', arg2: 'u64', arg3: 'u64', arg4: 'u64', arg5: 'u64',
}); // prettier-ignore

/** Index of the first argument among its 64-bit words; `op` and `result` come before. */
const FIRST_ARG = 2;

function entryBuffer(): { readonly words: Uint32Array; readonly longs: BigUint64Array; readonly bytes: Uint8Array } {
  const bytes = new Uint8Array(MulticallEntry.size);
  return { bytes, words: new Uint32Array(bytes.buffer), longs: new BigUint64Array(bytes.buffer) };
}

export interface DispatchModules {
  readonly table: DomainTable;
  readonly handlers: HypercallHandlers;
  /** Something waits for this pCPU or vCPU: another vCPU to be scheduled, a request, an event. */
  hasOtherWork(vcpu: VcpuRef): boolean;
}

export class HypercallDispatch {
  readonly #core: Core;
  readonly #m: DispatchModules;
  readonly #rows: HypercallTable;
  #memory: GuestMemory | undefined;
  /** The entry of a multicall that is being read or written. */
  readonly #entry = entryBuffer();

  constructor(core: Core, modules: DispatchModules) {
    this.#core = core;
    this.#m = modules;
    this.#rows = new HypercallTable({ ...modules.handlers, multicall: (call) => this.#multicall(call) });
  }

  /** Runs the hypercall that a PV guest's registers ask for. RIP is past the instruction. */
  fromPv64(vcpu: VcpuRef, engine: Engine): void {
    const { state } = engine;
    const args = [state.rdi, state.rsi, state.rdx, state.r10, state.r8, state.r9];
    const call = this.#guestCall('pv64', vcpu, engine, args);
    const result = this.#run(state.rax, call);
    if (result === 'noResult') return;
    if (result === 'continue') {
      [state.rdi, state.rsi, state.rdx, state.r10, state.r8, state.r9] = [0, 1, 2, 3, 4, 5].map((i) =>
        BigInt.asUintN(64, args[i] ?? 0n),
      ) as [bigint, bigint, bigint, bigint, bigint, bigint];
      state.rip = BigInt.asUintN(64, state.rip - PV_INSTRUCTION_LENGTH);
      return;
    }
    state.rax = BigInt.asUintN(64, BigInt(result));
  }

  /** A request of Domain-0's tools. `args` are rewritten for 'continue'. */
  fromTools(domain: DomainRef, op: number, args: bigint[], memory: CallerMemory): bigint | 'continue' {
    const deadline = this.#core.clock.monotonicNs() + PREEMPT_NS;
    const result = this.#run(BigInt(op), {
      kind: 'privcmd',
      domid: domain.domid,
      domain,
      vcpu: undefined,
      engine: undefined,
      args,
      memory,
      shouldPreempt: () => this.#core.clock.monotonicNs() >= deadline,
    });
    if (result === 'continue') return result;
    return result === 'noResult' ? 0n : BigInt(result);
  }

  #guestCall(kind: CallerKind, vcpu: VcpuRef, engine: Engine, args: bigint[]): HypercallCall {
    const domain = this.#m.table.domainOf(vcpu);
    let deadline = 0n;
    return {
      kind, domid: domain.domid, domain, vcpu, engine, args,
      memory: (this.#memory ??= new GuestMemory(engine, this.#core.memory)),
      shouldPreempt: () => {
        if (this.#m.hasOtherWork(vcpu)) return true;
        const now = this.#core.clock.monotonicNs();
        if (deadline === 0n) deadline = now + PREEMPT_NS;
        return now >= deadline;
      },
    }; // prettier-ignore
  }

  #run(op: bigint, call: HypercallCall, traceAs: number = TraceEvent.PV_HYPERCALL_V2): HypercallResult {
    const { counters, tracer } = this.#core;
    const number = Number(op);
    if (op >= 0n) counters.hypercall(number);
    if (tracer.on && call.vcpu && op >= 0n && op <= MAX_TRACED_OP) tracer.hypercall(traceAs, number, call.args);
    const row = this.#rows.find(op, call.kind);
    if (!row) return -Errno.ENOSYS;
    if (row.isPrivilegedOnly && !(call.domain.v.flags & DomainFlag.privileged)) return -Errno.EPERM;
    return row.handler(call);
  }

  /**
   * multicall (13): `nr` entries, run in order. One that must be continued is written back with its new arguments and
   * the whole is continued from there. iret ends it, the registers being those of the new frame.
   */
  #multicall(call: HypercallCall): HypercallResult {
    let at = call.args[0] ?? 0n;
    let left = Number(BigInt.asUintN(32, call.args[1] ?? 0n));
    const { words, longs, bytes } = this.#entry;
    const args = Array<bigint>(MULTICALL_ARGS).fill(0n);
    const entryCall = { ...call, args };
    for (; left > 0; left--, at += BigInt(MulticallEntry.size)) {
      if (!call.memory.readWords?.(at, words.length, words)) {
        const read = call.memory.read(at, MulticallEntry.size);
        if (!read) return -Errno.EFAULT;
        bytes.set(read);
      }
      const op = longs[0] ?? 0n;
      for (let i = 0; i < MULTICALL_ARGS; i++) args[i] = longs[FIRST_ARG + i] ?? 0n;
      this.#core.counters.count(COUNTER.callsFromMulticall);
      const result = this.#run(op, entryCall, TraceEvent.PV_HYPERCALL_SUBCALL);
      if (result === 'noResult') return result;
      // An entry may have been a multicall itself: what was read is no longer in the buffer.
      if (result === 'continue') {
        for (let i = 0; i < MULTICALL_ARGS; i++) longs[FIRST_ARG + i] = BigInt.asUintN(64, args[i] ?? 0n);
        const rewritten = bytes.subarray(MulticallEntry.offsets.arg0);
        if (!call.memory.write(at + BigInt(MulticallEntry.offsets.arg0), rewritten)) return -Errno.EFAULT;
        break;
      }
      longs[1] = BigInt.asUintN(64, BigInt(result));
      if (!call.memory.write(at + BigInt(MulticallEntry.offsets.result), bytes.subarray(8, 16))) return -Errno.EFAULT;
      if (left > 1 && call.shouldPreempt()) {
        left--;
        at += BigInt(MulticallEntry.size);
        break;
      }
    }
    if (left === 0) return 0;
    call.args[0] = at;
    call.args[1] = BigInt(left);
    return 'continue';
  }
}
