/** `grant_table_op`: dispatch of its operations, batches and their continuations, and the tables' life. */
import { bytesOf, Errno } from '@xenhost/base';
import {
  GnttabCacheFlush, GnttabCopy, GnttabMapGrantRef, GnttabSwapGrantRef, GnttabTransfer, GnttabUnmapAndReplace,
  GnttabUnmapGrantRef, GrantOp,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import { anyDomain, mayTarget, u32 } from '../mm/access.ts';
import type { MemoryManager, Progress } from '../mm/api.ts';
import type { Core } from '../state/core.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { GrantAccesses } from './access.ts';
import type { GrantAccess, GrantLimits, GrantModules, GrantRefusal, GrantTables } from './api.ts';
import { GrantControl } from './control.ts';
import { GrantCopier } from './copy.ts';
import { GrantMapper } from './mapping.ts';
import {
  DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES, GrantTable, MAX_FRAMES, MAX_MAPTRACK_FRAMES,
} from './table.ts'; // prettier-ignore
import { GrantTransfers } from './transfer.ts';

/** Unmaps that share one flush. */
const UNMAP_BATCH = 32;
/** Mappings undone in one step of a destruction. */
const RELEASE_BATCH = 1024;

export function createGrants(core: Core, mm: MemoryManager, modules: GrantModules): GrantTables {
  return new Grants(core, mm, modules);
}

class Grants implements GrantTables {
  readonly hypercall: (call: HypercallCall) => HypercallResult;
  readonly #core: Core;
  readonly #mm: MemoryManager;
  readonly #u16: Uint16Array;
  readonly #accesses: GrantAccesses;
  readonly #mapper: GrantMapper;
  readonly #copier: GrantCopier;
  readonly #transfers: GrantTransfers;
  readonly #control: GrantControl;

  constructor(core: Core, mm: MemoryManager, modules: GrantModules) {
    this.#core = core;
    this.#mm = mm;
    this.#u16 = new Uint16Array(core.memory.memory.buffer);
    const table = (domain: DomainRef): GrantTable => this.#table(domain);
    const parts = { memory: core.memory, mm: mm.forGrants, modules, table };
    this.#accesses = new GrantAccesses(parts);
    this.#mapper = new GrantMapper(parts);
    this.#copier = new GrantCopier({ memory: core.memory, mm, modules, accesses: this.#accesses });
    this.#transfers = new GrantTransfers({ ...parts, mm });
    this.#control = new GrantControl({
      memory: core.memory,
      table,
      domain: (call, id) => anyDomain(modules, call, id),
      mayTarget: (call, domain) => mayTarget(call.domain, domain),
    });
    this.hypercall = (call) => this.#run(call);
    mm.forGrants.setGrantFrames(this);
  }

  #table(domain: DomainRef): GrantTable {
    return new GrantTable(this.#core.memory, this.#u16, this.#mm, domain);
  }

  initDomain(domain: DomainRef, limits: GrantLimits): number {
    const frames = limits.maxFrames ?? DEFAULT_MAX_FRAMES;
    const tracks = limits.maxMaptrackFrames ?? DEFAULT_MAX_MAPTRACK_FRAMES;
    const version = limits.maxVersion ?? 2;
    if (frames > MAX_FRAMES || tracks > MAX_MAPTRACK_FRAMES || version < 1 || version > 2) return -Errno.EINVAL;
    return this.#table(domain).init(frames, tracks, version);
  }

  relinquish(domain: DomainRef): Progress {
    return this.#mapper.release(domain, RELEASE_BATCH) ? 'done' : 'continue';
  }

  freeDomain(domain: DomainRef): void {
    this.#table(domain).free();
  }

  openAccess(granter: DomainRef, user: DomainRef, gref: number, write: boolean): GrantAccess | GrantRefusal {
    const opened = this.#accesses.open(granter, gref, user.domid, write);
    if (typeof opened === 'number') return { kind: 'refused', status: opened };
    return { kind: 'frame', mfn: opened.mfn, offset: opened.start, length: opened.length };
  }

  closeAccess(granter: DomainRef, gref: number, write: boolean): void {
    this.#accesses.close(granter, gref, write);
  }

  sharedFrame(domain: DomainRef, index: number): number {
    const table = this.#table(domain);
    if (index >= table.frames) {
      if ((domain.v.flags & DomainFlag.dying) !== 0 || index >= domain.v.grantMaxFrames) return -Errno.EINVAL;
      if (!table.grow(index + 1)) return -Errno.EINVAL;
    }
    return table.sharedFrame(index);
  }

  statusFrame(domain: DomainRef, index: number): number {
    const table = this.#table(domain);
    if (table.version !== 2) return -Errno.EINVAL;
    if (index >= table.statusFrames) return -Errno.EINVAL;
    return table.statusFrame(index);
  }

  #run(call: HypercallCall): HypercallResult {
    const op = u32(call.args[0]);
    const arg = call.args[1] ?? 0n;
    const count = u32(call.args[2]);
    if (count > 0x7fff_ffff) return -Errno.EINVAL;
    const caller = { domain: call.domain, vcpu: call.vcpu };
    switch (op) {
      case GrantOp.map_grant_ref:
        return this.#each(call, GnttabMapGrantRef.size, (bytes) => {
          this.#mapper.map(caller, bytes);
        });
      case GrantOp.unmap_grant_ref:
        return this.#unmaps(call, GnttabUnmapGrantRef.size, false);
      case GrantOp.unmap_and_replace:
        return this.#unmaps(call, GnttabUnmapAndReplace.size, true);
      case GrantOp.copy:
        return this.#each(call, GnttabCopy.size, (bytes) => {
          this.#copier.copy(call.domain, bytes);
        });
      case GrantOp.swap_grant_ref:
        return this.#each(call, GnttabSwapGrantRef.size, (bytes) => {
          this.#control.swap(call, bytes);
        });
      case GrantOp.transfer:
        return this.#each(call, GnttabTransfer.size, (bytes) => {
          this.#transfers.transfer(call.domain, bytes);
        });
      case GrantOp.setup_table:
        return this.#control.setupTable(call, arg, count);
      case GrantOp.query_size:
        return this.#control.querySize(call, arg, count);
      case GrantOp.set_version:
        return this.#control.setVersion(call, arg);
      case GrantOp.get_version:
        return this.#control.getVersion(call, arg);
      case GrantOp.get_status_frames:
        return this.#control.getStatusFrames(call, arg, count);
      case GrantOp.cache_flush:
        return this.#cacheFlush(call, arg, count);
      default:
        return -Errno.ENOSYS;
    }
  }

  /** Runs `one` on each of the call's structures, writing each back. */
  #each(call: HypercallCall, size: number, one: (bytes: Uint8Array) => void): HypercallResult {
    const count = u32(call.args[2]);
    for (let i = 0; i < count; i++) {
      if (i > 0 && call.shouldPreempt()) return this.#continue(call, i, size);
      const at = BigInt.asUintN(64, (call.args[1] ?? 0n) + BigInt(i * size));
      const bytes = call.memory.read(at, size);
      if (!bytes) return -Errno.EFAULT;
      one(bytes);
      if (!call.memory.write(at, bytes)) return -Errno.EFAULT;
    }
    return 0;
  }

  #unmaps(call: HypercallCall, size: number, replace: boolean): HypercallResult {
    const count = u32(call.args[2]);
    for (let i = 0; i < count;) {
      if (i > 0 && call.shouldPreempt()) return this.#continue(call, i, size);
      const nr = Math.min(UNMAP_BATCH, count - i);
      const base = BigInt.asUintN(64, (call.args[1] ?? 0n) + BigInt(i * size));
      const batch: Uint8Array[] = [];
      for (let j = 0; j < nr; j++) {
        const bytes = call.memory.read(BigInt.asUintN(64, base + BigInt(j * size)), size);
        if (!bytes) break;
        batch.push(bytes);
      }
      this.#mapper.unmap({ domain: call.domain, vcpu: call.vcpu }, batch, replace);
      for (const [j, bytes] of batch.entries())
        if (!call.memory.write(BigInt.asUintN(64, base + BigInt(j * size)), bytes)) return -Errno.EFAULT;
      if (batch.length < nr) return -Errno.EFAULT;
      i += nr;
    }
    return 0;
  }

  #continue(call: HypercallCall, done: number, size: number): 'continue' {
    call.args[1] = BigInt.asUintN(64, (call.args[1] ?? 0n) + BigInt(done * size));
    call.args[2] = BigInt(u32(call.args[2]) - done);
    return 'continue';
  }

  #cacheFlush(call: HypercallCall, arg: bigint, count: number): number {
    for (let i = 0; i < count; i++) {
      const bytes = call.memory.read(
        BigInt.asUintN(64, arg + BigInt(i * GnttabCacheFlush.size)),
        GnttabCacheFlush.size,
      );
      if (!bytes) return -Errno.EFAULT;
      const op = GnttabCacheFlush.view(bytesOf(bytes), 0);
      const frame = op.a >> 12n;
      const owned = frame < 0xffff_ffffn && this.#mm.foreignFrame(call.domain, Number(frame), false) >= 0;
      const result = this.#control.cacheFlush(owned, op.offset, op.length, op.op);
      if (result !== 0) return result;
    }
    return 0;
  }
}
