/**
 * Exits that touch nothing but the vCPU itself: SYSCALL of guest user code, page faults that are the guest's, the iret
 * hypercall. They are dealt with while the pCPU still counts as in guest code, without the hypervisor lock, as what they
 * read and write only this vCPU's pCPU does. Each does what `exceptions.ts`, `bounce.ts` and `iret.ts` do, in numbers, or
 * it does nothing at all: whatever is out of the ordinary is left to them.
 */
import { ATTR, ExitReason, OFFSET, RFLAGS } from '@xenhost/cpu';
import type { Engine, Exit } from '@xenhost/cpu';
import {
  FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS, Hypercall, TRAP_INFO_MASK_EVENTS, VCPU_INFO_UPCALL_MASK, VGCF, VMASST,
} from '@xenhost/xen-abi'; // prettier-ignore
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, isXensHalf } from '../mm/api.ts';
import { VCPU_TRAP_TABLE, VcpuFlag, VcpuLayout } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import type { PvModules } from './api.ts';
import { hasAssist } from './bounce.ts';
import { FlatSegment, PFEC, Trap, isWriteToPresent } from './constants.ts';
import { PvCallbackFlag } from './vcpu-state.ts';
import type { PvVcpuState } from './vcpu-state.ts';

const PAGE_MASK = 4095;
/** Offset of arch.cr2 in a 64-bit vcpu_info. */
const VCPU_INFO_CR2 = 16;
const IRET_FRAME_BYTES = 72;
/** Words of a frame without an error code: rcx, r11, rip, cs, rflags, rsp, ss. */
const FRAME_WORDS = 7;

const FLAG = {
  tf: Number(RFLAGS.tf), if: Number(RFLAGS.if), df: Number(RFLAGS.df), nt: Number(RFLAGS.nt), rf: Number(RFLAGS.rf),
  vm: Number(RFLAGS.vm), ac: Number(RFLAGS.ac), iopl: Number(RFLAGS.iopl),
} as const; // prettier-ignore
/** With these set, before or after, single steps, breakpoints or alignment checks have a say. */
const ODD_FLAGS = FLAG.tf | FLAG.ac | FLAG.vm;
const CLEARED_ON_ENTRY = FLAG.ac | FLAG.vm | FLAG.rf | FLAG.nt | FLAG.tf;

/** Indices of 32-bit words in the engine's state; 64-bit fields have two. */
const AT = {
  rax: OFFSET.rax / 4, rcx: OFFSET.rcx / 4, r11: OFFSET.r11 / 4, rsp: OFFSET.rsp / 4, rip: OFFSET.rip / 4,
  cs: OFFSET.csSelector / 4, ss: OFFSET.ssSelector / 4, gsBase: OFFSET.gsBase / 4, kernelGsBase: OFFSET.kernelGsBase / 4,
} as const; // prettier-ignore
/** The same in a vCPU record. */
const RECORD = {
  flags: VcpuLayout.offsets.flags / 4, kernelMode: VcpuLayout.offsets.kernelMode / 4, kernelSp: VcpuLayout.offsets.kernelSp / 4,
  guestTable: VcpuLayout.offsets.guestTable / 4, guestTableUser: VcpuLayout.offsets.guestTableUser / 4,
  infoMfn: VcpuLayout.offsets.infoMfn / 4, infoOffset: VcpuLayout.offsets.infoOffset / 4, iopl: VcpuLayout.offsets.iopl / 4,
  syscallCallback: VcpuLayout.offsets.syscallCallback / 4, callbackFlags: VcpuLayout.offsets.callbackFlags / 4,
  gdtFrames: VcpuLayout.offsets.gdtFrames / 4,
} as const; // prettier-ignore

/** Selector and attributes of a segment in one word, as the state has them. */
const segmentWord = (selector: number, attributes: number): number => selector | (attributes << 16);
const FLAT_CODE = segmentWord(FLAT_RING3_CS64, FlatSegment.code64.attributes);
const FLAT_DATA = segmentWord(FLAT_RING3_DS, FlatSegment.data.attributes);

/** High word of a descriptor: bits that matter for a ring 3 segment and what they must be. */
const DESCRIPTOR = { accessed: 1 << 8, writable: 1 << 9, conforming: 1 << 10, code: 1 << 11, s: 1 << 12, ring3: 3 << 13, present: 1 << 15, long: 1 << 21, big: 1 << 22, granularity: 1 << 23 } as const; // prettier-ignore
const ANY = DESCRIPTOR.present | DESCRIPTOR.s | DESCRIPTOR.ring3 | DESCRIPTOR.code | DESCRIPTOR.accessed;
const CODE64 = ANY | DESCRIPTOR.long;
const CODE64_MASK = CODE64 | DESCRIPTOR.conforming | DESCRIPTOR.big;
const DATA = (ANY & ~DESCRIPTOR.code) | DESCRIPTOR.writable;
const DATA_MASK = ANY | DESCRIPTOR.writable;
const GDT_ENTRIES_PER_FRAME = 512;
const MAX_GDT_FRAMES = 14;

export class FastExits {
  readonly #modules: PvModules;
  readonly #states: PvVcpuState;
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  #engine: Engine | undefined;
  #words: Int32Array = new Int32Array(0);

  constructor(modules: PvModules, states: PvVcpuState) {
    this.#modules = modules;
    this.#states = states;
    this.#u32 = modules.memory.u32;
    this.#i32 = modules.memory.i32;
  }

  /** True when the exit is dealt with and the guest may run on; false, with nothing changed, when it is not for here. */
  handle(vcpu: VcpuRef, engine: Engine, exit: Exit): boolean {
    if (engine !== this.#engine) {
      this.#engine = engine;
      this.#words = new Int32Array(engine.state.dv.buffer);
    }
    const record = vcpu.address / 4;
    const { state } = engine;
    if ((this.#u32[record + RECORD.flags] ?? 0) & VcpuFlag.nmiPending) return false;
    if ((state.csAttributes & ATTR.long) === 0 || (state.eflags & ODD_FLAGS) !== 0) return false;
    const isKernel = this.#u32[record + RECORD.kernelMode] !== 0;
    if (exit.reason === ExitReason.syscall) {
      if (!isKernel) return this.#syscall(vcpu, engine);
      const isIret = this.#words[AT.rax] === Hypercall.iret && this.#words[AT.rax + 1] === 0;
      return isIret && this.#iret(vcpu, engine);
    }
    if (exit.reason === ExitReason.exception && exit.vector === Trap.PF) return this.#pageFault(vcpu, engine, exit);
    return false;
  }

  /** Address of the vCPU's vcpu_info, 0 for none. */
  #info(record: number): number {
    const mfn = this.#u32[record + RECORD.infoMfn] ?? 0;
    return mfn === 0 ? 0 : mfn * 4096 + (this.#u32[record + RECORD.infoOffset] ?? 0);
  }

  #syscall(vcpu: VcpuRef, engine: Engine): boolean {
    const words = this.#words;
    const record = vcpu.address / 4;
    const handler = vcpu.address + VcpuLayout.offsets.syscallCallback;
    if (this.#i32[handler / 4] === 0 && this.#i32[handler / 4 + 1] === 0) return false;
    const host = this.#openFrame(record, engine, FRAME_WORDS);
    if (host < 0) return false;
    const flags = engine.state.flags32 & ~FLAG.rf;
    const at = host / 4;
    const rip = words[AT.rip] ?? 0;
    const ripHigh = words[AT.rip + 1] ?? 0;
    this.#put(at, rip, ripHigh);
    this.#put(at + 2, flags, 0);
    const callbacks = this.#u32[record + RECORD.callbackFlags] ?? 0;
    const maskEvents = (callbacks & PvCallbackFlag.syscall) !== 0;
    this.#hardwareFrame(vcpu, at + 4, { cs: FLAT_RING3_CS64, ss: FLAT_RING3_DS, flags, maskEvents });
    this.#enter(record, engine, handler / 4, (flags & ~(CLEARED_ON_ENTRY | FLAG.df)) | FLAG.if, FRAME_WORDS);
    return true;
  }

  #pageFault(vcpu: VcpuRef, engine: Engine, exit: Exit): boolean {
    const words = this.#words;
    const record = vcpu.address / 4;
    const isKernel = this.#u32[record + RECORD.kernelMode] !== 0;
    const { address, errorCode } = exit;
    if (address >= HYPERVISOR_VIRT_START && address < HYPERVISOR_VIRT_END) return false;
    // A store to a page table, perhaps.
    if (isKernel && isWriteToPresent(errorCode)) return false;
    const trap = vcpu.address + VCPU_TRAP_TABLE + Trap.PF * 16;
    if (this.#i32[trap / 4] === 0 && this.#i32[trap / 4 + 1] === 0) return false;
    const host = this.#openFrame(record, engine, FRAME_WORDS + 1);
    if (host < 0) return false;
    const flags = engine.state.flags32;
    const at = host / 4;
    this.#put(at, words[AT.rcx] ?? 0, words[AT.rcx + 1] ?? 0);
    this.#put(at + 2, words[AT.r11] ?? 0, words[AT.r11 + 1] ?? 0);
    this.#put(at + 4, isKernel ? errorCode & ~PFEC.user : errorCode | PFEC.user, 0);
    const cs = (words[AT.cs] ?? 0) & (isKernel ? 0xfffc : 0xffff);
    const trapFlags = (this.#u32[trap / 4 + 2] ?? 0) >>> 16;
    const maskEvents = (trapFlags & TRAP_INFO_MASK_EVENTS) !== 0;
    this.#hardwareFrame(vcpu, at + 6, { cs, ss: (words[AT.ss] ?? 0) & 0xffff, flags, maskEvents });
    this.#states.setCtrlreg(vcpu, 2, address);
    this.#modules.memory.dv.setBigUint64(this.#info(record) + VCPU_INFO_CR2, address, true);
    this.#enter(record, engine, trap / 4, (flags & ~CLEARED_ON_ENTRY) | FLAG.if, FRAME_WORDS + 1);
    return true;
  }

  /**
   * Machine address of a frame of so many 64-bit words on the kernel's stack, the kernel's tables in use; -1, and nothing
   * changed, when it is not plainly there.
   */
  #openFrame(record: number, engine: Engine, nrWords: number): number {
    const u32 = this.#u32;
    if (u32[record + RECORD.infoMfn] === 0) return -1;
    const isKernel = u32[record + RECORD.kernelMode] !== 0;
    const size = 8 * nrWords;
    const low = this.#frameLow(record, size);
    const high = (isKernel ? this.#words[AT.rsp + 1] : this.#i32[record + RECORD.kernelSp + 1]) ?? 0;
    // Neither over a page's edge, nor wrapped, nor in Xen's part.
    if ((low & PAGE_MASK) + size > PAGE_MASK + 1 || (low >>> 0) + size > 0xffff_ffff || isXensHalf(high)) return -1;
    if (isKernel) return engine.hostAddress(low, high, true);
    engine.switchRoot(u32[record + RECORD.guestTable] ?? 0);
    const host = engine.hostAddress(low, high, true);
    if (host < 0) engine.switchRoot(u32[record + RECORD.guestTableUser] ?? 0);
    return host;
  }
  /** Low half of the stack pointer below a frame. */
  #frameLow(record: number, size: number): number {
    const isKernel = this.#u32[record + RECORD.kernelMode] !== 0;
    const top = (isKernel ? this.#words[AT.rsp] : this.#i32[record + RECORD.kernelSp]) ?? 0;
    return ((top & ~15) - size) | 0;
  }

  #put(at: number, low: number, high: number): void {
    this.#i32[at] = low;
    this.#i32[at + 1] = high;
  }

  /** rip, cs with the upcall mask, rflags, rsp, ss; then the mask is set when the handler wants it. */
  #hardwareFrame(
    vcpu: VcpuRef,
    at: number,
    from: { readonly cs: number; readonly ss: number; readonly flags: number; readonly maskEvents: boolean },
  ): void {
    const words = this.#words;
    const { u8 } = this.#modules.memory;
    const info = this.#info(vcpu.address / 4) + VCPU_INFO_UPCALL_MASK;
    const mask = Atomics.load(u8, info);
    const assists = this.#modules.domainOf(vcpu).v.vmAssist;
    const iopl = hasAssist(assists, VMASST.ARCHITECTURAL_IOPL) ? (vcpu.v.iopl & 3) << 12 : 0;
    this.#put(at, words[AT.rip] ?? 0, words[AT.rip + 1] ?? 0);
    this.#put(at + 2, from.cs, mask);
    this.#put(at + 4, (from.flags & ~(FLAG.if | FLAG.iopl)) | (mask === 0 ? FLAG.if : 0) | iopl, 0);
    this.#put(at + 6, words[AT.rsp] ?? 0, words[AT.rsp + 1] ?? 0);
    this.#put(at + 8, from.ss, 0);
    if (from.maskEvents) Atomics.store(u8, info, 1);
  }

  /** Registers at a handler of the kernel, whose address is at index `handler` of machine memory. */
  #enter(record: number, engine: Engine, handler: number, flags: number, nrWords: number): void {
    const words = this.#words;
    const low = this.#frameLow(record, 8 * nrWords);
    if (this.#u32[record + RECORD.kernelMode] === 0) {
      words[AT.rsp + 1] = this.#i32[record + RECORD.kernelSp + 1] ?? 0;
      this.#u32[record + RECORD.kernelMode] = 1;
      this.#swapGs();
    }
    words[AT.rsp] = low;
    this.#segment(AT.cs, FLAT_CODE, -1, 0);
    this.#segment(AT.ss, FLAT_DATA, -1, 0);
    const { state } = engine;
    state.flags32 = flags;
    words[AT.rip] = words[AT.rcx] = this.#i32[handler] ?? 0;
    words[AT.rip + 1] = words[AT.rcx + 1] = this.#i32[handler + 1] ?? 0;
    words[AT.r11] = flags | 2;
    words[AT.r11 + 1] = 0;
    state.interruptShadow = 0;
  }

  #segment(at: number, selectorAndAttributes: number, limit: number, base: number): void {
    const words = this.#words;
    words[at] = selectorAndAttributes;
    words[at + 1] = limit;
    words[at + 2] = base;
    words[at + 3] = 0;
  }

  #swapGs(): void {
    const words = this.#words;
    for (let half = 0; half < 2; half++) {
      const active = words[AT.gsBase + half] ?? 0;
      words[AT.gsBase + half] = words[AT.kernelGsBase + half] ?? 0;
      words[AT.kernelGsBase + half] = active;
    }
  }

  #iret(vcpu: VcpuRef, engine: Engine): boolean {
    const words = this.#words;
    const i32 = this.#i32;
    const record = vcpu.address / 4;
    if (words[AT.cs] !== FLAT_CODE || words[AT.ss] !== FLAT_DATA || this.#u32[record + RECORD.infoMfn] === 0)
      return false;
    const rsp = words[AT.rsp] ?? 0;
    if ((rsp & 7) !== 0 || (rsp & PAGE_MASK) + IRET_FRAME_BYTES > PAGE_MASK + 1) return false;
    const host = engine.hostAddress(rsp, words[AT.rsp + 1] ?? 0, false);
    if (host < 0) return false;
    // rax, r11, rcx, flags, rip, cs, rflags, rsp, ss: read once, as the guest's other CPUs may write there.
    const at = host / 4;
    const frameFlags = i32[at + 6] ?? 0;
    const frameCs = (i32[at + 10] ?? 0) & 0xffff;
    const rflags = i32[at + 12] ?? 0;
    const frameSs = (i32[at + 16] ?? 0) & 0xffff;
    const toUser = (frameCs & 3) === 3;
    const flags = (rflags & ~(FLAG.iopl | FLAG.vm)) | FLAG.if;
    if ((flags & (FLAG.tf | FLAG.ac | FLAG.rf)) !== 0) return false;
    const userTable = this.#u32[record + RECORD.guestTableUser] ?? 0;
    if (toUser && userTable === 0) return false;
    const bySysret = (frameFlags & VGCF.in_syscall) !== 0;
    if (bySysret) {
      if ((frameCs | 3) === FLAT_RING3_CS32) return false;
      this.#segment(AT.cs, FLAT_CODE, -1, 0);
      this.#segment(AT.ss, FLAT_DATA, -1, 0);
    } else {
      // Read once, too: another CPU of the guest may update a descriptor.
      const code = frameCs | 3;
      const codeAt = code === FLAT_RING3_CS64 ? 0 : this.#descriptor(record, code);
      const codeHigh = i32[codeAt + 1] ?? 0;
      if (code !== FLAT_RING3_CS64 && (codeAt === 0 || (codeHigh & CODE64_MASK) !== CODE64)) return false;
      const stack = frameSs | 3;
      const stackAt = stack === FLAT_RING3_DS ? 0 : this.#descriptor(record, stack);
      const stackHigh = i32[stackAt + 1] ?? 0;
      if (stack !== FLAT_RING3_DS && (stackAt === 0 || (stackHigh & DATA_MASK) !== DATA)) return false;
      if (codeAt === 0) this.#segment(AT.cs, FLAT_CODE, -1, 0);
      else this.#load(AT.cs, code, i32[codeAt] ?? 0, codeHigh);
      if (stackAt === 0) this.#segment(AT.ss, FLAT_DATA, -1, 0);
      else this.#load(AT.ss, stack, i32[stackAt] ?? 0, stackHigh);
    }
    words[AT.rax] = i32[at] ?? 0;
    words[AT.rax + 1] = i32[at + 1] ?? 0;
    words[AT.rip] = i32[at + 8] ?? 0;
    words[AT.rip + 1] = i32[at + 9] ?? 0;
    words[AT.rsp] = i32[at + 14] ?? 0;
    words[AT.rsp + 1] = i32[at + 15] ?? 0;
    engine.state.flags32 = flags;
    if (bySysret) {
      words[AT.rcx] = words[AT.rip] ?? 0;
      words[AT.rcx + 1] = words[AT.rip + 1] ?? 0;
      words[AT.r11] = (flags & 0x3f_ffff) | 2;
      words[AT.r11 + 1] = 0;
    } else {
      words[AT.rcx] = i32[at + 4] ?? 0;
      words[AT.rcx + 1] = i32[at + 5] ?? 0;
      words[AT.r11] = i32[at + 2] ?? 0;
      words[AT.r11 + 1] = i32[at + 3] ?? 0;
    }
    if (hasAssist(this.#modules.domainOf(vcpu).v.vmAssist, VMASST.ARCHITECTURAL_IOPL))
      this.#u32[record + RECORD.iopl] = (rflags & FLAG.iopl) >>> 12;
    const info = this.#info(record) + VCPU_INFO_UPCALL_MASK;
    Atomics.store(this.#modules.memory.u8, info, (rflags & FLAG.if) === 0 ? 1 : 0);
    this.#states.unmaskNmi(vcpu);
    if (toUser) {
      this.#swapGs();
      this.#u32[record + RECORD.kernelMode] = 0;
      engine.switchRoot(userTable);
    }
    this.#modules.observer?.counters.hypercall(Hypercall.iret);
    return true;
  }

  /** Index in machine memory of the guest's descriptor for a selector; 0 where there is none. */
  #descriptor(record: number, selector: number): number {
    const entry = selector >>> 3;
    if ((selector & 4) !== 0 || entry >= MAX_GDT_FRAMES * GDT_ENTRIES_PER_FRAME) return 0;
    const frame = this.#u32[record + RECORD.gdtFrames + Math.floor(entry / GDT_ENTRIES_PER_FRAME)] ?? 0;
    return frame === 0 ? 0 : frame * 1024 + (entry % GDT_ENTRIES_PER_FRAME) * 2;
  }
  #load(at: number, selector: number, low: number, high: number): void {
    const limit = (low & 0xffff) | (high & 0xf0000);
    const bytes = high & DESCRIPTOR.granularity ? (limit << 12) | 0xfff : limit;
    const base = (low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000);
    this.#segment(at, segmentWord(selector, (high >>> 8) & 0xf0ff), bytes, base);
  }
}
