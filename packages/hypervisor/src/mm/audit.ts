/**
 * Recounts every reference that the memory manager knows of (allocations, pins, base tables, descriptor windows, page
 * table entries) and compares with the frame table. Slow; for tests and debug keys.
 */
import type { MachineMemory } from '../state/machine-memory.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { MAX_VCPUS_PER_DOMAIN } from '../state/memory-map.ts';
import { VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { at } from '../state/refs.ts';
import { FrameType } from './api.ts';
import type { MemoryModules } from './api.ts';
import { FrameFlag } from './frame.ts';
import type { FrameTable } from './frame.ts';
import type { Ownership } from './ownership.ts';
import { ENTRIES_PER_TABLE, isXenSlot, Pte } from './pte.ts';
import type { Tables } from './tables.ts';

/** References held by others (grants, event channels): by frame. */
export type ExternalReferences = ReadonlyMap<number, { readonly count: number; readonly types: number }>;

export interface AuditModules {
  readonly frames: FrameTable;
  readonly own: Ownership;
  readonly tables: Tables;
  readonly modules: MemoryModules;
  /** Frame mapped in an LDT window page, 0 for none. */
  ldtFrames(vcpu: VcpuRef): readonly number[];
}

export function audit(
  memory: MachineMemory,
  map: MemoryMap,
  m: AuditModules,
  domains: readonly DomainRef[],
  external?: ExternalReferences,
): string[] {
  // prettier-ignore
  const problems: string[] = [];
  const counts = new Uint32Array(map.nrFrames);
  const types = new Uint32Array(map.nrFrames);
  const wanted = new Uint8Array(map.nrFrames);
  const refer = (mfn: number, type: FrameType | 0, why: string): void => {
    if (!m.own.isLive(mfn)) {
      problems.push(`${why}: frame ${mfn} is not in use`);
      return;
    }
    counts[mfn] = (counts[mfn] ?? 0) + 1;
    if (type === 0) return;
    types[mfn] = (types[mfn] ?? 0) + 1;
    if (wanted[mfn] !== 0 && wanted[mfn] !== type)
      problems.push(`${why}: frame ${mfn} is used as type ${wanted[mfn]} and ${type}`);
    wanted[mfn] = type;
  };
  for (const domain of domains) {
    for (let id = 0; id < MAX_VCPUS_PER_DOMAIN; id++) {
      const vcpu = m.modules.vcpu(domain, id);
      if (!vcpu) continue;
      const who = `d${domain.domid}v${id}`;
      if (vcpu.v.guestTable !== 0) refer(vcpu.v.guestTable, FrameType.l4, `${who} base`);
      if (vcpu.v.guestTableUser !== 0) refer(vcpu.v.guestTableUser, FrameType.l4, `${who} user base`);
      for (let i = 0; i < Math.ceil(vcpu.v.gdtEntries / 512); i++)
        refer(memory.u32[at(vcpu, VcpuLayout.offsets.gdtFrames, i, 4) / 4] ?? 0, FrameType.segDesc, `${who} GDT`);
      for (const mfn of m.ldtFrames(vcpu)) refer(mfn, FrameType.segDesc, `${who} LDT`);
    }
  }
  for (let mfn = map.heap; mfn < map.nrFrames; mfn++) {
    if (!m.own.isLive(mfn)) continue;
    const f = m.frames;
    const type = f.type(mfn);
    if (f.has(mfn, FrameFlag.allocated)) refer(mfn, 0, 'allocation');
    if (f.has(mfn, FrameFlag.xenHeap)) types[mfn] = (types[mfn] ?? 0) + 1;
    if (f.has(mfn, FrameFlag.queued)) refer(mfn, 0, 'stack');
    if (f.has(mfn, FrameFlag.devalidating)) types[mfn] = (types[mfn] ?? 0) + 1;
    if (f.has(mfn, FrameFlag.partial)) refer(mfn, type, 'partial');
    if (f.has(mfn, FrameFlag.pinned)) refer(mfn, type, 'pin');
    const held = external?.get(mfn);
    if (held) {
      counts[mfn] = (counts[mfn] ?? 0) + held.count;
      types[mfn] = (types[mfn] ?? 0) + held.types;
    }
    auditTable(m, mfn, refer, problems);
  }
  for (let mfn = map.heap; mfn < map.nrFrames; mfn++) {
    if (!m.own.isLive(mfn)) continue;
    const f = m.frames;
    const name = `frame ${mfn} of d${f.owner(mfn)} type ${f.type(mfn)}`;
    if (f.count(mfn) !== counts[mfn]) problems.push(`${name}: count ${f.count(mfn)}, found ${counts[mfn]}`);
    if (f.typeCount(mfn) !== types[mfn]) problems.push(`${name}: type count ${f.typeCount(mfn)}, found ${types[mfn]}`);
    if (wanted[mfn] !== 0 && f.type(mfn) !== wanted[mfn]) problems.push(`${name}: used as type ${wanted[mfn]}`);
  }
  return problems;
}

function auditTable(
  m: AuditModules,
  table: number,
  refer: (mfn: number, type: FrameType | 0, why: string) => void,
  problems: string[],
): void {
  // prettier-ignore
  const f = m.frames;
  const level = f.type(table);
  if (level < FrameType.l1 || level > FrameType.l4) return;
  const valid = f.has(table, FrameFlag.validated);
  const end = valid
    ? ENTRIES_PER_TABLE
    : f.has(table, FrameFlag.partial) || f.has(table, FrameFlag.devalidating) ? f.cursor(table) : 0; // prettier-ignore
  if (valid && f.typeCount(table) === 0) problems.push(`table ${table} is validated and unused`);
  let linear = 0;
  for (let slot = 0; slot < end; slot++) {
    if (level === FrameType.l4 && isXenSlot(slot)) continue;
    if (!m.tables.isPresent(table, slot)) continue;
    const flags = m.tables.flags(table, slot);
    const mfn = m.tables.mfn(table, slot);
    const why = `L${level} ${table}[${slot}]`;
    if ((flags & Pte.user) === 0) problems.push(`${why}: no user bit`);
    if (level === FrameType.l1) {
      refer(mfn, (flags & Pte.rw) !== 0 ? FrameType.writable : 0, why);
    } else if (mfn !== table) {
      if (f.type(mfn) === level) linear++;
      refer(mfn, f.type(mfn) === level ? level : ((level - 1) as FrameType), why);
    }
    const isLinear = level !== FrameType.l1 && f.type(mfn) === level;
    if (isLinear && (flags & Pte.rw) !== 0) problems.push(`${why}: writable linear table`);
  }
  if (linear > 0 && f.linearCount(table) !== linear)
    problems.push(`table ${table}: linear count ${f.linearCount(table)}, found ${linear}`);
}
