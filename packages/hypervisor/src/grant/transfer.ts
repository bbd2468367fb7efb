/**
 * GNTTABOP_transfer: a frame of the caller becomes another domain's, bytes and all (Xen's `gnttab_transfer`). The target
 * has offered it with an entry of type accept_transfer, in which it finds the frame's number once transfer_completed is
 * set. As in Xen a frame that was taken from the caller and then refused by the target is freed, not given back.
 */
import { bytesOf } from '@xenhost/base';
import { GNTST, GnttabTransfer, GrantEntryV1, GrantEntryV2, GTF, PAGE_SIZE } from '@xenhost/xen-abi';
import type { MemoryManager } from '../mm/api.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import type { GrantModules } from './api.ts';
import { commitTransfer } from './status.ts';
import type { GrantTable } from './table.ts';

export interface TransferModules {
  readonly memory: MachineMemory;
  readonly mm: MemoryManager;
  readonly modules: GrantModules;
  table(domain: DomainRef): GrantTable;
}

export class GrantTransfers {
  readonly #m: TransferModules;
  constructor(modules: TransferModules) {
    this.#m = modules;
  }

  /** One operation: `bytes` are the request and get the status. */
  transfer(caller: DomainRef, bytes: Uint8Array): void {
    const op = GnttabTransfer.view(bytesOf(bytes), 0);
    op.status = this.#transfer(caller, op.mfn, op.domid, op.ref) & 0xffff;
  }

  #transfer(caller: DomainRef, frame: bigint, domid: number, ref: number): number {
    const mm = this.#m.mm.forGrants;
    const mfn = mm.stealFrame(caller, frame);
    if (mfn === undefined) return GNTST.bad_page;
    const target = this.#m.modules.domain(domid);
    if (!target) {
      mm.discardFrame(mfn);
      return GNTST.bad_domain;
    }
    const table = this.#m.table(target);
    if (!mm.hasRoom(target) || ref >= table.entries || !commitTransfer(table, ref, caller.domid)) {
      mm.discardFrame(mfn);
      return GNTST.general_error;
    }
    const at = table.entryAddress(ref);
    mm.giveFrame(target, mfn, this.#pfn(table.version, at));
    this.#tell(table.version, at, mfn);
    table.setHeaderFlags(ref, GTF.transfer_completed);
    this.#m.mm.frameWritten(Math.floor(at / PAGE_SIZE));
    return GNTST.okay;
  }

  /** Where the target wants the frame. */
  #pfn(version: number, at: number): bigint {
    const { dv } = this.#m.memory;
    return version === 2
      ? dv.getBigUint64(at + GrantEntryV2.offsets.frame, true)
      : BigInt(dv.getUint32(at + GrantEntryV1.offsets.frame, true));
  }

  #tell(version: number, at: number, mfn: number): void {
    const { dv } = this.#m.memory;
    if (version === 2) dv.setBigUint64(at + GrantEntryV2.offsets.frame, BigInt(mfn), true);
    else dv.setUint32(at + GrantEntryV1.offsets.frame, mfn, true);
  }
}
