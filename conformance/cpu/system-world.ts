/**
 * The machine that the cases of system instructions run in: one map of a megabyte, descriptor tables, task states, page
 * tables, handlers, the same for the interpreter and the oracle. Identity-mapped; what a page allows is by its place.
 */
import { assemble } from '@xenhost/cpu';
import { CPU_STATE_SIZE, CpuState, SEG, type Segment } from '../../packages/cpu/src/engine/state.ts';
import { parseDescriptor } from '../../packages/cpu/src/semantics/helpers/segments.ts';

export const MACHINE_BYTES = 0x10_0000;
const PAGE = 0x1000;

const PML4 = 0x1000;
const PDPT = 0x2000;
const DIRECTORY = 0x3000;
export const PAGE_TABLE = 0x4000;
const DIRECTORY32 = 0x5000;
export const PAGE_TABLE32 = 0x6000;
export const GDT = 0x1_0000;
const IDT64 = 0x1_1000;
const IDT32 = 0x1_2000;
export const TSS64 = 0x1_3000;
export const TSS32 = 0x1_4000;
export const LDT = 0x1_5000;
/** Handler of vector n at HANDLERS + 16 n: one VMCALL, which ends a case. */
export const HANDLERS = 0x2_0000;
/** Where LSTAR, gates and the like lead. */
export const KERNEL_ENTRY = 0x2_1000;
export const KERNEL_CODE = 0x2_2000;
/** Stack of ring 0 while it runs; of entries from ring 3; of IST 1. */
export const KERNEL_STACK = 0x3_1000;
export const ENTRY_STACK = 0x3_2000;
export const IST_STACK = 0x3_3000;
export const KERNEL_DATA = 0x4_0000;
export const USER_CODE = 0x5_0000;
export const USER_ENTRY = 0x5_1000;
export const USER_DATA = 0x6_0000;
export const USER_READ_ONLY = 0x6_8000;
export const USER_NO_EXECUTE = 0x6_9000;
export const USER_STACK = 0x7_1000;
export const KERNEL_READ_ONLY = 0x7_8000;
/** From here on nothing is mapped, though there is memory. */
export const UNMAPPED = 0x8_0000;
const NR_VECTORS = 0x90;

export const KCODE = 0x08;
export const KDATA = 0x10;
export const KCODE32 = 0x18;
export const UCODE32 = 0x28 | 3;
export const UDATA = 0x30 | 3;
export const UCODE = 0x38 | 3;
export const TSS_SELECTOR = 0x40;
export const TSS32_SELECTOR = 0x50;
export const LDT_SELECTOR = 0x58;
export const ABSENT_DATA = 0x68 | 3;
export const ABSENT_CODE = 0x70;
export const CONFORMING = 0x78;
export const EXECUTE_ONLY = 0x80 | 3;
export const READ_ONLY = 0x88 | 3;
export const CALL_GATE64 = 0x90 | 3;
export const CALL_GATE32 = 0xa0 | 3;
/** Base USER_DATA, limit 0xff. */
export const SMALL_DATA = 0xa8 | 3;
/** Accessed bit clear. */
export const FRESH_DATA = 0xb0;
export const ABSENT_STACK = 0xb8;
export const CONFORMING32 = 0xc0;
/** D and L both set. */
export const BAD_LONG = 0xd0;
export const BUSY_TSS = 0xd8;
/** In the LDT: data of ring 3. */
export const LOCAL_DATA = 0x08 | 4 | 3;
const GDT_BYTES = 0x100;
export const OUTSIDE_GDT = 0x100;

function systemDescriptor(base: number, limit: number, access: bigint): bigint {
  return BigInt(limit) | (BigInt(base & 0xff_ffff) << 16n) | (access << 40n);
}

const DESCRIPTORS: readonly (readonly [selector: number, raw: bigint])[] = [
  [KCODE, 0x00af9b000000ffffn],
  [KDATA, 0x00cf93000000ffffn],
  [KCODE32, 0x00cf9b000000ffffn],
  [UCODE32, 0x00cffb000000ffffn],
  [UDATA, 0x00cff3000000ffffn],
  [UCODE, 0x00affb000000ffffn],
  [TSS_SELECTOR, systemDescriptor(TSS64, 0xfff, 0x89n)],
  [TSS32_SELECTOR, systemDescriptor(TSS32, 0xfff, 0x89n)],
  [LDT_SELECTOR, systemDescriptor(LDT, 0x1f, 0x82n)],
  [ABSENT_DATA, 0x00cf73000000ffffn],
  [ABSENT_CODE, 0x00af1b000000ffffn],
  [CONFORMING, 0x00af9f000000ffffn],
  [EXECUTE_ONLY, 0x00cff9000000ffffn],
  [READ_ONLY, 0x00cff1000000ffffn],
  [CALL_GATE64, 0x0000ec0000081000n | (BigInt(KERNEL_ENTRY >> 16) << 48n)],
  [CALL_GATE32, 0x0000ec0000181000n | (BigInt(KERNEL_ENTRY >> 16) << 48n)],
  [SMALL_DATA, 0x0040f306000000ffn],
  [FRESH_DATA, 0x00cf92000000ffffn],
  [ABSENT_STACK, 0x00cf13000000ffffn],
  [CONFORMING32, 0x00cf9f000000ffffn],
  [BAD_LONG, 0x00ef9b000000ffffn],
  [BUSY_TSS, systemDescriptor(TSS64, 0xfff, 0x8bn)],
];
const LOCAL_DESCRIPTORS: readonly (readonly [number, bigint])[] = [[LOCAL_DATA, 0x00cff3000000ffffn]];

/** Hidden part that a load of the selector gives, accessed bit set. */
export function segmentOf(selector: number): Segment {
  const list = selector & 4 ? LOCAL_DESCRIPTORS : DESCRIPTORS;
  const raw = list.find(([s]) => (s & 0xfff8) === (selector & 0xfff8))?.[1];
  if (raw === undefined || (selector & 0xfffc) === 0) return { selector, attributes: 0, limit: 0, base: 0n };
  const { attributes, limit, base } = parseDescriptor(raw, selector, 0n);
  return { selector, attributes: attributes | (attributes & 0x10 ? 1 : 0), limit, base };
}

interface GateOptions {
  readonly dpl?: number;
  readonly type?: number;
  readonly selector?: number;
  readonly ist?: number;
  readonly absent?: boolean;
}
/** Gates of INT n that differ from the usual: an interrupt gate of DPL 0. */
const GATES: Readonly<Record<number, GateOptions>> = {
  3: { dpl: 3 },
  4: { dpl: 3 },
  0x80: { dpl: 3 },
  0x81: { dpl: 3, type: 15 },
  0x82: { dpl: 0 },
  0x83: { dpl: 3, absent: true },
  0x84: { dpl: 3, ist: 1 },
  0x85: { dpl: 3, selector: UCODE },
  0x86: { dpl: 3, selector: 0 },
  0x87: { dpl: 3, type: 9 },
  0x88: { dpl: 3, selector: ABSENT_CODE },
  0x89: { dpl: 3, selector: OUTSIDE_GDT },
  0x8a: { dpl: 3, selector: KDATA },
  0x8b: { dpl: 3, selector: CONFORMING },
};

function gate(vector: number, usual: number): bigint {
  const { dpl = 0, type = 14, selector = usual, ist = 0, absent = false } = GATES[vector] ?? {};
  const at = HANDLERS + 16 * vector;
  const access = (absent ? 0 : 0x80) | (dpl << 5) | type;
  return BigInt(at & 0xffff) | (BigInt(selector) << 16n) | (BigInt(ist) << 32n) | (BigInt(access) << 40n) | (BigInt(at >>> 16) << 48n); // prettier-ignore
}

const VMCALL = [0x0f, 0x01, 0xc1] as const;

function pageRights(address: number): bigint {
  const present = 1n;
  const write = 2n;
  const user = 4n;
  if (address >= UNMAPPED) return 0n;
  if (address === KERNEL_READ_ONLY) return present;
  if (address === USER_READ_ONLY) return present | user;
  const rights = present | write | (address >= USER_CODE ? user : 0n);
  return address === USER_NO_EXECUTE ? rights | (1n << 63n) : rights;
}

/** Memory as every case finds it. */
export function initialMemory(): Uint8Array {
  const bytes = new Uint8Array(MACHINE_BYTES);
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: bigint): void => {
    view.setBigUint64(at, value, true);
  };
  put(PML4, BigInt(PDPT) | 7n);
  put(PDPT, BigInt(DIRECTORY) | 7n);
  put(DIRECTORY, BigInt(PAGE_TABLE) | 7n);
  view.setUint32(DIRECTORY32, PAGE_TABLE32 | 7, true);
  for (let at = 0; at < MACHINE_BYTES; at += PAGE) {
    const rights = pageRights(at);
    if (rights === 0n) continue;
    put(PAGE_TABLE + at / 512, BigInt(at) | rights);
    view.setUint32(PAGE_TABLE32 + at / 1024, at | Number(rights & 7n), true);
  }
  for (const [selector, raw] of DESCRIPTORS) put(GDT + (selector & 0xfff8), raw);
  for (const [selector, raw] of LOCAL_DESCRIPTORS) put(LDT + (selector & 0xfff8), raw);
  for (let vector = 0; vector < NR_VECTORS; vector++) {
    put(IDT64 + 16 * vector, gate(vector, KCODE));
    put(IDT32 + 8 * vector, gate(vector, KCODE32) & ~0x7_0000_0000n);
    bytes.set(VMCALL, HANDLERS + 16 * vector);
  }
  put(TSS64 + 4, BigInt(ENTRY_STACK));
  put(TSS64 + 0x24, BigInt(IST_STACK));
  view.setUint16(TSS64 + 0x66, 0x68, true);
  view.setUint32(TSS32 + 4, ENTRY_STACK, true);
  view.setUint32(TSS32 + 8, KDATA, true);
  view.setUint16(TSS32 + 0x66, 0x68, true);
  for (const tss of [TSS64, TSS32]) {
    bytes.fill(0xff, tss + 0x68, tss + PAGE);
    // Ports 0x60 to 0x67 are allowed.
    bytes[tss + 0x68 + 0x60 / 8] = 0;
  }
  for (const entry of [KERNEL_ENTRY, USER_ENTRY]) bytes.set(VMCALL, entry);
  return bytes;
}

/** Where a case starts: kernel and user in 64-bit mode, user in compatibility mode, kernel and user in 32-bit mode. */
export type World = 'k64' | 'u64' | 'c32' | 'k32' | 'u32';

export const isKernel = (world: World): boolean => world.startsWith('k');
export const isLongWorld = (world: World): boolean => world !== 'k32' && world !== 'u32';
export const codeAddress = (world: World): number => (isKernel(world) ? KERNEL_CODE : USER_CODE);

export const initialRegister = (n: number): bigint => 0x1010n * BigInt(n);

export function initialState(world: World): CpuState {
  const state = new CpuState(new Uint8Array(CPU_STATE_SIZE));
  state.reset();
  const long = isLongWorld(world);
  const kernel = isKernel(world);
  for (let n = 0; n < 16; n++) state.setGpr(n, long || n < 8 ? initialRegister(n) : 0n);
  state.rsp = BigInt(kernel ? KERNEL_STACK - 0x100 : USER_STACK - 0x100);
  state.rip = BigInt(codeAddress(world));
  state.cr0 = 0x8005_0033n;
  state.cr3 = BigInt(long ? PML4 : DIRECTORY32);
  state.cr4 = long ? 0x1_06a0n : 0x1_0690n;
  state.efer = long ? 0xd01n : 0x1n;
  state.cpl = kernel ? 0 : 3;
  const code = { k64: KCODE, u64: UCODE, c32: UCODE32, k32: KCODE32, u32: UCODE32 }[world];
  state.setSegment(SEG.cs, segmentOf(code));
  for (const n of [SEG.es, SEG.ss, SEG.ds, SEG.fs, SEG.gs]) state.setSegment(n, segmentOf(kernel ? KDATA : UDATA));
  state.setSegment(SEG.ldtr, segmentOf(LDT_SELECTOR));
  const tss = segmentOf(long ? TSS_SELECTOR : TSS32_SELECTOR);
  state.setSegment(SEG.tr, { ...tss, attributes: tss.attributes | 2 });
  state.gdtrBase = BigInt(GDT);
  state.gdtrLimit = GDT_BYTES - 1;
  state.idtrBase = BigInt(long ? IDT64 : IDT32);
  state.idtrLimit = NR_VECTORS * (long ? 16 : 8) - 1;
  state.rflags = 0x202n;
  state.star = (BigInt(UCODE32) << 48n) | (BigInt(KCODE) << 32n) | BigInt(KERNEL_ENTRY);
  state.lstar = BigInt(KERNEL_ENTRY);
  state.cstar = BigInt(KERNEL_ENTRY + 0x10);
  state.sfmask = 0x4_7700n;
  state.kernelGsBase = 0xffff_8000_0000_1000n;
  state.sysenterCs = BigInt(KCODE);
  state.sysenterEsp = BigInt(ENTRY_STACK);
  state.sysenterEip = BigInt(KERNEL_ENTRY);
  state.tscAux = 7n;
  return state;
}

/** The code of a case and the VMCALL behind it. */
export function caseCode(source: string, world: World): { bytes: Uint8Array; end: bigint } {
  const { bytes } = assemble(source, { origin: BigInt(codeAddress(world)) });
  return { bytes: Uint8Array.from([...bytes, ...VMCALL]), end: BigInt(codeAddress(world) + bytes.length) };
}
export const VMCALL_LENGTH = BigInt(VMCALL.length);
