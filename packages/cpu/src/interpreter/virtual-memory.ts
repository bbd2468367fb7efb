/** Guest memory by linear address, for helpers (faults are thrown to their caller) and for the engine's owner. */
import type { PageFault } from '../engine/api.ts';
import { ACCESS_USER, ACCESS_WRITE, PF, highHalf, lowHalf } from '../mmu/walk.ts';
import { GuestFault, VECTOR } from '../semantics/helper.ts';
import type { MemoryPort } from '../semantics/helper.ts';
import { NO_FAULT } from './core.ts';
import type { EngineCore } from './core.ts';
import type { DataAccess } from './data-access.ts';

/** Part of an access inside one page. */
interface Piece {
  readonly host: number;
  readonly at: number;
  readonly length: number;
}

export class HelperMemory implements MemoryPort {
  private readonly core: EngineCore;
  private readonly data: DataAccess;
  private readonly scratch = new Uint8Array(8);
  private readonly scratchView = new DataView(this.scratch.buffer);

  constructor(core: EngineCore, data: DataAccess) {
    this.core = core;
    this.data = data;
  }

  private hostFor(address: bigint, isWrite: boolean, system: boolean): number {
    const { core } = this;
    const host = this.data.hostFor(lowHalf(address), highHalf(address), isWrite, system, core.currentRecord);
    if (host >= 0) return host;
    // No memory there: an mmio exit stands, and any fault makes the helper give up.
    if (core.exitPending) throw new GuestFault(VECTOR.generalProtection, 0);
    const { faultVector, faultError, faultAddress } = core.state;
    core.state.faultVector = NO_FAULT;
    throw new GuestFault(faultVector, faultError, faultAddress);
  }
  private pieces(address: bigint, length: number, isWrite: boolean, system: boolean): Piece[] {
    const list: Piece[] = [];
    for (let at = 0; at < length;) {
      const here = BigInt.asUintN(64, address + BigInt(at));
      const n = Math.min(length - at, 4096 - Number(here & 0xfffn));
      list.push({ host: this.hostFor(here, isWrite, system), at, length: n });
      at += n;
    }
    return list;
  }

  read(address: bigint, size: number, system = false): bigint {
    if (Number(address & 0xfffn) + size > 4096) {
      this.scratch.fill(0);
      this.readBytes(address, this.scratch.subarray(0, size), system);
      return this.scratchView.getBigUint64(0, true);
    }
    const at = this.hostFor(address, false, system);
    const { machineView } = this.core;
    if (size === 8) return machineView.getBigUint64(at, true);
    if (size === 4) return BigInt(machineView.getUint32(at, true));
    return BigInt(size === 2 ? machineView.getUint16(at, true) : machineView.getUint8(at));
  }
  write(address: bigint, size: number, value: bigint, system = false): void {
    this.scratchView.setBigUint64(0, value, true);
    this.writeBytes(address, this.scratch.subarray(0, size), system);
  }
  span(address: bigint, length: number, isWrite: boolean): Uint8Array | undefined {
    const at = this.hostFor(address, isWrite, false);
    if (isWrite && this.data.isCode(at)) return undefined;
    return this.core.machine.subarray(at, at + length);
  }
  readBytes(address: bigint, into: Uint8Array, system = false): void {
    for (const { host, at, length } of this.pieces(address, into.length, false, system))
      into.set(this.core.machine.subarray(host, host + length), at);
  }
  writeBytes(address: bigint, from: Uint8Array, system = false): void {
    for (const { host, at, length } of this.pieces(address, from.length, true, system)) {
      this.core.machine.set(from.subarray(at, at + length), host);
      this.data.wrote(host, length);
    }
  }
}

/** Access for the owner: the rights are given, the outcome is a value, nothing is entered into the TLB. */
export function accessVirtual(
  core: EngineCore,
  data: DataAccess,
  access: { address: bigint; bytes: Uint8Array; user: boolean; isWrite: boolean },
): PageFault | undefined {
  const { bytes, user, isWrite } = access;
  const { mmu, machine, nrFrames } = core;
  const rights = (isWrite ? ACCESS_WRITE : 0) | (user ? ACCESS_USER : 0);
  const pieces: Piece[] = [];
  for (let at = 0; at < bytes.length;) {
    const address = BigInt.asUintN(64, access.address + BigInt(at));
    const low = lowHalf(address);
    const high = highHalf(address);
    const length = Math.min(bytes.length - at, 4096 - (low & 4095));
    const top = high >> 15;
    if (mmu.paging === 'four-level' && top !== 0 && top !== -1) return { address, errorCode: rights };
    if (!mmu.walk(low, high, rights, true)) return { address, errorCode: mmu.errorCode };
    const { frame } = mmu.last;
    if (frame >= nrFrames) return { address, errorCode: PF.reserved | PF.present | rights };
    pieces.push({ host: frame * 4096 + (low & 4095), at, length });
    at += length;
  }
  for (const { host, at, length } of pieces)
    if (isWrite) {
      machine.set(bytes.subarray(at, at + length), host);
      data.wrote(host, length);
    } else bytes.set(machine.subarray(host, host + length), at);
  return undefined;
}
