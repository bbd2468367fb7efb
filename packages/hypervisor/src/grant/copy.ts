/** GNTTABOP_copy: bytes between two frames, each the caller's own or granted to it (Xen's `gnttab_copy_one`). */
import { bytesOf } from '@xenhost/base';
import { DOMID, GNTCOPY, GNTST, GnttabCopy, GnttabCopyPtr, PAGE_SIZE } from '@xenhost/xen-abi';
import type { MemoryManager } from '../mm/api.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import type { GrantAccesses } from './access.ts';
import type { GrantModules } from './api.ts';

export interface CopyModules {
  readonly memory: MachineMemory;
  readonly mm: MemoryManager;
  readonly modules: GrantModules;
  readonly accesses: GrantAccesses;
}

interface Side {
  readonly domid: number;
  /** Reference or frame. */
  readonly u: bigint;
  readonly offset: number;
  readonly isGrant: boolean;
}

interface Held {
  readonly mfn: number;
  readonly start: number;
  readonly length: number;
  release(): void;
}

export class GrantCopier {
  readonly #m: CopyModules;
  constructor(modules: CopyModules) {
    this.#m = modules;
  }

  /** One operation: `bytes` are the request and get the status. */
  copy(caller: DomainRef, bytes: Uint8Array): void {
    const op = GnttabCopy.view(bytesOf(bytes), 0);
    op.status = this.#copy(caller, bytes) & 0xffff;
  }

  #copy(caller: DomainRef, bytes: Uint8Array): number {
    const { len, flags } = GnttabCopy.view(bytesOf(bytes), 0);
    const side = (base: number, flag: number): Side => {
      const pointer = GnttabCopyPtr.view(bytesOf(bytes), base);
      return { domid: pointer.domid, u: pointer.u, offset: pointer.offset, isGrant: (flags & flag) !== 0 };
    };
    const from = side(GnttabCopy.offsets.source, GNTCOPY.source_gref);
    const to = side(GnttabCopy.offsets.dest, GNTCOPY.dest_gref);
    // Only one's own memory may be named by frame.
    if ((!from.isGrant && from.domid !== DOMID.SELF) || (!to.isGrant && to.domid !== DOMID.SELF))
      return GNTST.permission_denied;
    const [source, target] = [this.#domain(caller, from.domid), this.#domain(caller, to.domid)];
    if (!source || !target) return GNTST.bad_domain;
    if (from.offset + len > PAGE_SIZE || to.offset + len > PAGE_SIZE) return GNTST.bad_copy_arg;
    const read = this.#hold(caller, source, from, false);
    if (typeof read === 'number') return read;
    const write = this.#hold(caller, target, to, true);
    let status: number = GNTST.okay;
    if (typeof write === 'number') status = write;
    else {
      if (!covers(read, from.offset, len) || !covers(write, to.offset, len)) status = GNTST.general_error;
      else {
        const at = read.mfn * PAGE_SIZE + from.offset;
        this.#m.memory.u8.copyWithin(write.mfn * PAGE_SIZE + to.offset, at, at + len);
        this.#m.mm.frameWritten(write.mfn);
      }
      write.release();
    }
    read.release();
    return status;
  }

  #domain(caller: DomainRef, id: number): DomainRef | undefined {
    return id === DOMID.SELF ? caller : this.#m.modules.domain(id);
  }

  #hold(caller: DomainRef, domain: DomainRef, side: Side, write: boolean): Held | number {
    const { accesses } = this.#m;
    if (side.isGrant) {
      const ref = Number(BigInt.asUintN(32, side.u));
      const opened = accesses.open(domain, ref, caller.domid, write);
      if (typeof opened === 'number') return opened;
      return { ...opened, release: () => { accesses.close(domain, ref, write); } }; // prettier-ignore
    }
    const mm = this.#m.mm.forGrants;
    const frame = side.u < 0xffff_ffffn ? Number(side.u) : 0xffff_ffff;
    const mfn = mm.getFrame(domain, frame);
    if (mfn === undefined) return GNTST.bad_page;
    if (write && !mm.getWritable(mfn)) {
      mm.putFrame(mfn);
      return GNTST.general_error;
    }
    const release = (): void => {
      if (write) mm.putWritable(mfn);
      mm.putFrame(mfn);
    };
    return { mfn, start: 0, length: PAGE_SIZE, release };
  }
}

const covers = (held: Held, offset: number, length: number): boolean =>
  offset >= held.start && offset + length <= held.start + held.length;
