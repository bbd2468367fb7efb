/** `mmuext_op`: pins, base tables, flushes, LDT, page copies (Xen's `do_mmuext_op`). */
import { Errno } from '@xenhost/base';
import { MmuExt, MmuExtOp, PAGE_SIZE } from '@xenhost/xen-abi';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { frameNumber, frameOwner, mayTarget, u32 } from './access.ts';
import { FrameType } from './api.ts';
import type { BaseTables } from './base-tables.ts';
import type { Descriptors } from './descriptors.ts';
import { ALL_VCPUS } from './flush.ts';
import { FrameFlag } from './frame.ts';
import type { MmuModules } from './mmu-update.ts';
import { isCanonical, joined } from './pte.ts';
import { RequestBuffer, RequestList } from './request-list.ts';

export interface MmuExtModules extends MmuModules {
  readonly bases: BaseTables;
  readonly descriptors: Descriptors;
}

interface Operation {
  readonly cmd: number;
  readonly arg1: bigint;
  readonly arg2: bigint;
}

export class MmuExtOps {
  readonly #memory: MachineMemory;
  readonly #m: MmuExtModules;
  readonly #buffer = new RequestBuffer(MmuExtOp.size);

  constructor(memory: MachineMemory, modules: MmuExtModules) {
    this.#memory = memory;
    this.#m = modules;
  }

  /** mmuext_op(operations, count, *done, domain). */
  mmuExtOp(call: HypercallCall): HypercallResult {
    return this.#m.types.preemptible(
      () => call.shouldPreempt(),
      () => this.#run(call),
    );
  }

  #run(call: HypercallCall): HypercallResult {
    const foreign = u32(call.args[3]) & 0xffff;
    const { types, modules } = this.#m;
    if (!types.drain(call.domain)) return 'continue';
    const list = new RequestList(call, this.#buffer);
    const owner = frameOwner(modules, call, foreign);
    if (!owner) return -Errno.ESRCH;
    if ((owner.v.flags & DomainFlag.hvm) !== 0) return -Errno.EINVAL;
    if (!mayTarget(call.domain, owner)) return -Errno.EPERM;
    if (!types.drain(owner)) return 'continue';
    const result = list.run(types, owner, (words, at) => {
      const word = (i: number): number => words[at + i] ?? 0;
      // struct mmuext_op: cmd, a pad, arg1, arg2.
      const op = { cmd: word(0), arg1: joined(word(2), word(3)), arg2: joined(word(4), word(5)) };
      return this.#operation(call, owner, op);
    });
    return list.finish(result);
  }

  #operation(call: HypercallCall, owner: DomainRef, op: Operation): number {
    switch (op.cmd) {
      case MmuExt.PIN_L1_TABLE:
      case MmuExt.PIN_L2_TABLE:
      case MmuExt.PIN_L3_TABLE:
      case MmuExt.PIN_L4_TABLE:
        return this.#pin(owner, frameNumber(op.arg1), (op.cmd - MmuExt.PIN_L1_TABLE + FrameType.l1) as FrameType);
      case MmuExt.UNPIN_TABLE:
        return this.#unpin(owner, frameNumber(op.arg1));
      case MmuExt.CLEAR_PAGE:
        return this.#withWritable(owner, frameNumber(op.arg1), (mfn) => {
          this.#memory.u8.fill(0, mfn * PAGE_SIZE, (mfn + 1) * PAGE_SIZE);
        });
      case MmuExt.COPY_PAGE: {
        const source = frameNumber(op.arg2);
        if (this.#m.own.ownerOf(source) !== owner.domid) return -Errno.EINVAL;
        return this.#withWritable(owner, frameNumber(op.arg1), (mfn) => {
          this.#memory.u8.copyWithin(mfn * PAGE_SIZE, source * PAGE_SIZE, (source + 1) * PAGE_SIZE);
        });
      }
      case MmuExt.MARK_SUPER:
      case MmuExt.UNMARK_SUPER:
        return -Errno.EOPNOTSUPP;
      default:
        return this.#own(call, owner, op);
    }
  }

  /** Operations on the caller itself. */
  #own(call: HypercallCall, owner: DomainRef, op: Operation): number {
    const { flusher, descriptors } = this.#m;
    const isOwn = op.cmd <= MmuExt.NEW_USER_BASEPTR && op.cmd !== 14;
    if (!isOwn && op.cmd !== MmuExt.FLUSH_CACHE_GLOBAL) return -Errno.ENOSYS;
    if (owner.domid !== call.domid || !call.vcpu || !call.engine) return -Errno.EPERM;
    switch (op.cmd) {
      case MmuExt.NEW_BASEPTR: {
        const result = this.#m.bases.set(call.vcpu, op.arg1, false);
        if (result !== 0) return result;
        descriptors.dropLdt(call.vcpu);
        this.#m.bases.switchTables(call.vcpu, call.engine);
        flusher.local(call);
        return 0;
      }
      case MmuExt.NEW_USER_BASEPTR: {
        const result = this.#m.bases.set(call.vcpu, op.arg1, true);
        // The engine may have translations of that root from an earlier time.
        if (result === 0) flusher.local(call);
        return result;
      }
      case MmuExt.TLB_FLUSH_LOCAL:
        flusher.local(call);
        return 0;
      case MmuExt.INVLPG_LOCAL:
        if (isCanonical(op.arg1)) flusher.pageLocal(call, op.arg1);
        return 0;
      case MmuExt.TLB_FLUSH_MULTI:
      case MmuExt.INVLPG_MULTI: {
        const mask = flusher.mask(call, op.arg2);
        if (mask < 0) return -Errno.EINVAL;
        if (op.cmd === MmuExt.TLB_FLUSH_MULTI) flusher.some(call, mask);
        else if (isCanonical(op.arg1)) flusher.pageSome(call, mask, op.arg1);
        return 0;
      }
      case MmuExt.TLB_FLUSH_ALL:
        flusher.some(call, ALL_VCPUS);
        return 0;
      case MmuExt.INVLPG_ALL:
        if (isCanonical(op.arg1)) flusher.pageSome(call, ALL_VCPUS, op.arg1);
        return 0;
      case MmuExt.SET_LDT:
        return descriptors.setLdt(call.vcpu, op.arg1, u32(op.arg2), call.engine);
      // No domain has devices of its own.
      case MmuExt.FLUSH_CACHE:
        return -Errno.EACCES;
      case MmuExt.FLUSH_CACHE_GLOBAL:
        return -Errno.EINVAL;
      default:
        return -Errno.ENOSYS;
    }
  }

  #pin(owner: DomainRef, mfn: number, type: FrameType): number {
    const { own, types, frames } = this.#m;
    if (!own.get(mfn, owner.domid)) return -Errno.EINVAL;
    const result = types.getType(mfn, type);
    if (result !== 0) {
      own.put(mfn);
      return result;
    }
    if (frames.has(mfn, FrameFlag.pinned) || (owner.v.flags & DomainFlag.dying) !== 0) {
      types.putWithType(mfn);
      return -Errno.EINVAL;
    }
    frames.raise(mfn, FrameFlag.pinned);
    return 0;
  }

  #unpin(owner: DomainRef, mfn: number): number {
    const { own, types, frames } = this.#m;
    if (own.ownerOf(mfn) !== owner.domid || !frames.has(mfn, FrameFlag.pinned)) return -Errno.EINVAL;
    frames.clear(mfn, FrameFlag.pinned);
    types.putWithType(mfn);
    return 0;
  }

  #withWritable(owner: DomainRef, mfn: number, body: (mfn: number) => void): number {
    const { own, types } = this.#m;
    if (types.getWithType(mfn, owner.domid, FrameType.writable) !== 0) return -Errno.EINVAL;
    body(mfn);
    own.changed(mfn);
    types.putWithType(mfn);
    return 0;
  }
}
