/** Who may act on whom in memory hypercalls (Xen's dummy XSM policy and `get_pg_owner`), and reading their arguments. */
import { DOMID } from '@xenhost/xen-abi';
import type { CallerMemory, HypercallCall } from '../hypercall/types.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import type { MemoryModules } from './api.ts';

type Domains = Pick<MemoryModules, 'domain'>;

export const isPrivileged = (domain: DomainRef): boolean => (domain.v.flags & DomainFlag.privileged) !== 0;

/** XSM_TARGET: oneself, one's target (a device model's), or anybody for a privileged caller. */
export function mayTarget(caller: DomainRef, target: DomainRef): boolean {
  if (caller.domid === target.domid || isPrivileged(caller)) return true;
  return caller.v.targetDomid !== 0 && caller.v.targetDomid === target.domid;
}

/** DOMID_SELF or an id, one's own included. */
export function anyDomain(modules: Domains, call: HypercallCall, id: number): DomainRef | undefined {
  return id === DOMID.SELF ? call.domain : modules.domain(id);
}

/** As `foreigndom` is read by the mmu hypercalls: one's own id is no foreign domain. */
export function frameOwner(modules: Domains, call: HypercallCall, id: number): DomainRef | undefined {
  if (id === DOMID.SELF) return call.domain;
  return id === call.domid ? undefined : modules.domain(id);
}

export const u32 = (value: bigint | undefined): number => Number(BigInt.asUintN(32, value ?? 0n));

export function readU64(memory: CallerMemory, address: bigint): bigint | undefined {
  const bytes = memory.read(address, 8);
  return bytes && new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
}

export function writeU64(memory: CallerMemory, address: bigint, value: bigint): boolean {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return memory.write(address, bytes);
}

export function readU32(memory: CallerMemory, address: bigint): number | undefined {
  const bytes = memory.read(address, 4);
  return bytes && new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

export function writeU32(memory: CallerMemory, address: bigint, value: number): boolean {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return memory.write(address, bytes);
}

/** A frame number as a number; anything out of range becomes one that no frame has. */
export const frameNumber = (value: bigint): number => (value < 0x1_0000_0000n ? Number(value) : 0xffff_ffff);
