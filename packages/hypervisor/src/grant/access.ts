/**
 * Opening a grant for a copy, by a guest (GNTTABOP_copy) or by Domain-0's backends: marks it in use, says where its bytes
 * are, and gives it back. Answers to `acquire_grant_for_copy` and `release_grant_for_copy`.
 */
import { GNTST, GTF, PAGE_SIZE } from '@xenhost/xen-abi';
import type { GrantMemory } from '../mm/api.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import type { GrantModules } from './api.ts';
import { grantedPage, transitiveGrant } from './entry.ts';
import { reduceStatus, setStatus } from './status.ts';
import { Pin, WRITE_PINS } from './table.ts';
import type { ActiveEntry, GrantTable } from './table.ts';

export interface Opened {
  readonly mfn: number;
  readonly start: number;
  readonly length: number;
}

export interface AccessModules {
  readonly memory: MachineMemory;
  readonly mm: GrantMemory;
  readonly modules: GrantModules;
  table(domain: DomainRef): GrantTable;
}

export class GrantAccesses {
  readonly #m: AccessModules;
  constructor(modules: AccessModules) {
    this.#m = modules;
  }

  /** The page, referenced (and of type writable for `write`); or GNTST_*. Close it with the same arguments. */
  open(granter: DomainRef, ref: number, user: number, write: boolean, mayTransit = true): Opened | number {
    const table = this.#m.table(granter);
    if (ref >= table.entries) return GNTST.bad_gntref;
    const active = table.active(ref);
    const kind = write ? Pin.hostWrite : Pin.hostRead;
    if (active.pin !== 0 && (active.domid !== user || !active.canPin(kind))) return GNTST.general_error;
    const isTransitive = table.version === 2 && (table.header(ref) & GTF.type_mask) === GTF.transitive;
    if (active.pin === 0 || (write && (active.pin & WRITE_PINS) === 0)) {
      const status = setStatus(table, ref, active, { domid: user, isReadonly: !write, isMapping: false });
      if (status !== GNTST.okay) return status;
    }
    const opened = isTransitive
      ? this.#transit(table, granter, ref, active, user, write, mayTransit)
      : this.#page(table, granter, ref, active, user, write);
    if (typeof opened === 'number') {
      reduceStatus(table, ref, active, !write);
      return opened;
    }
    active.addPin(kind);
    return opened;
  }

  close(granter: DomainRef, ref: number, write: boolean): void {
    const table = this.#m.table(granter);
    const active = table.active(ref);
    const { mfn } = active;
    const isTransitive = active.transitiveDomid !== granter.domid;
    if (!isTransitive) {
      if (write) this.#m.mm.putWritable(mfn);
      this.#m.mm.putFrame(mfn);
    }
    active.dropPin(write ? Pin.hostWrite : Pin.hostRead);
    reduceStatus(table, ref, active, !write);
    if (!isTransitive) return;
    const origin = this.#m.modules.domain(active.transitiveDomid);
    if (origin) this.close(origin, active.transitiveRef, write);
  }

  #page(
    table: GrantTable,
    granter: DomainRef,
    ref: number,
    active: ActiveEntry,
    user: number,
    write: boolean,
  ): Opened | number {
    // prettier-ignore
    if (active.pin === 0) {
      const page = grantedPage(this.#m.memory, table, ref);
      if (page.start + page.length > PAGE_SIZE) return GNTST.general_error;
      active.domid = user;
      active.mfn = page.frame;
      active.start = page.start;
      active.length = page.length;
      active.isSubPage = page.isSubPage;
      active.transitiveDomid = granter.domid;
      active.transitiveRef = ref;
    } else if (active.transitiveDomid !== granter.domid) {
      return GNTST.general_error;
    }
    const { mfn, start, length } = active;
    if (this.#m.mm.getFrame(granter, mfn) === undefined) return GNTST.bad_page;
    if (write && !this.#m.mm.getWritable(mfn)) {
      this.#m.mm.putFrame(mfn);
      return GNTST.general_error;
    }
    return { mfn, start, length };
  }

  /** A grant of a grant: only for copies, one step deep. */
  #transit(
    table: GrantTable,
    granter: DomainRef,
    ref: number,
    active: ActiveEntry,
    user: number,
    write: boolean,
    mayTransit: boolean,
  ): Opened | number {
    // prettier-ignore
    if (!mayTransit) return GNTST.general_error;
    const next = transitiveGrant(this.#m.memory, table, ref);
    if (next.domid === granter.domid) return GNTST.general_error;
    const origin = this.#m.modules.domain(next.domid);
    if (!origin) return GNTST.general_error;
    const opened = this.open(origin, next.ref, granter.domid, write, false);
    if (typeof opened === 'number') return opened;
    const agrees =
      active.pin === 0 ||
      (active.isSubPage && active.mfn === opened.mfn && active.start === opened.start &&
        active.length === opened.length && active.transitiveDomid === next.domid && active.transitiveRef === next.ref); // prettier-ignore
    if (!agrees) {
      this.close(origin, next.ref, write);
      return GNTST.general_error;
    }
    active.domid = user;
    active.mfn = opened.mfn;
    active.start = opened.start;
    active.length = opened.length;
    // Blocks mappings of it.
    active.isSubPage = true;
    active.transitiveDomid = next.domid;
    active.transitiveRef = next.ref;
    return opened;
  }
}
