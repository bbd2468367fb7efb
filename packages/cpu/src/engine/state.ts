/**
 * The one table of where a vCPU's state lies: at these offsets from 0 in an engine's private memory, and in a saved
 * copy. Interpreter, oracle and TypeScript views all take their offsets from `OFFSET`; nobody writes one by hand.
 *
 * Arithmetic flags are kept lazily: `ccKind` (operation and size), `ccResult`, `ccA` and `ccB` say what last set them.
 * `CpuState.rflags` folds them; assigning to it unfolds.
 */
import { array, bytesOf, layout } from '@xenhost/base';
import type { Bytes, View } from '@xenhost/base';
import { CC_EXPLICIT, flagsOf, flagsOfHalves, lazyHalvesFrom } from './flags.ts';

/** Space for one saved state in a vCPU record. */
export const CPU_STATE_SIZE = 2048;

type SegmentFields<N extends string> = Record<`${N}Selector` | `${N}Attributes`, 'u16'> &
  Record<`${N}Limit`, 'u32'> &
  Record<`${N}Base`, 'u64'>;

/** Selector and hidden part. Attributes are bytes 5 and 6 of a descriptor without the limit: type, S, DPL, P, AVL, L, D, G. */
const segment = <N extends string>(name: N): SegmentFields<N> =>
  ({
    [`${name}Selector`]: 'u16',
    [`${name}Attributes`]: 'u16',
    [`${name}Limit`]: 'u32',
    [`${name}Base`]: 'u64',
  }) as unknown as SegmentFields<N>;

const cpu = layout('cpu_state', {
  // General registers in the order of their encoding.
  rax: 'u64', rcx: 'u64', rdx: 'u64', rbx: 'u64', rsp: 'u64', rbp: 'u64', rsi: 'u64', rdi: 'u64',
  r8: 'u64', r9: 'u64', r10: 'u64', r11: 'u64', r12: 'u64', r13: 'u64', r14: 'u64', r15: 'u64',
  /** Always zero: the base or index that an address does not have. */
  zero: 'u64',
  rip: 'u64',
  /** RIP minus offset in its page: the base of RIP-relative addresses and of branch targets. */
  ripBase: 'u64',
  /** Linear address made by an address record for the record after it. */
  ea: 'u64',
  ccResult: 'u64', ccA: 'u64', ccB: 'u64',
  ccKind: 'u32',
  /** RFLAGS without CF, PF, AF, ZF, SF, OF. */
  eflags: 'u32',
  // Segment registers in the order of their encoding.
  ...segment('es'), ...segment('cs'), ...segment('ss'), ...segment('ds'), ...segment('fs'), ...segment('gs'),
  ...segment('ldtr'), ...segment('tr'),
  gdtrBase: 'u64', idtrBase: 'u64', gdtrLimit: 'u32', idtrLimit: 'u32',
  cr0: 'u64', cr2: 'u64', cr3: 'u64', cr4: 'u64', cr8: 'u64', xcr0: 'u64',
  efer: 'u64', star: 'u64', lstar: 'u64', cstar: 'u64', sfmask: 'u64', kernelGsBase: 'u64',
  sysenterCs: 'u64', sysenterEsp: 'u64', sysenterEip: 'u64', pat: 'u64', apicBase: 'u64', tscAux: 'u64',
  dr0: 'u64', dr1: 'u64', dr2: 'u64', dr3: 'u64', dr6: 'u64', dr7: 'u64',
  /** PAE page-directory-pointer entries as loaded with CR3. */
  pdpte: array('u64', 4),
  /** 0 to 3. */
  cpl: 'u32',
  /** 1 while the instruction after STI, 2 while the one after MOV SS or POP SS holds interrupts back. */
  interruptShadow: 'u32',
  /** Owner's wish: leave with `interruptWindow` as soon as an interrupt could be taken. */
  interruptWindow: 'u32',
  /** 1 in the halt state (owner's bookkeeping; the engine neither sets nor reads it). */
  halted: 'u32',
  // x87 in physical register order; MMX registers are their low 64 bits.
  fpr: array('u8', 128),
  fcw: 'u16', fsw: 'u16', /** One bit per physical register, set when it is in use (FXSAVE form). */ ftw: 'u16', fop: 'u16',
  fip: 'u64', fdp: 'u64', fcs: 'u16', fds: 'u16',
  mxcsr: 'u32',
  /** XMM0 to XMM15 in 32 bytes each (room for YMM). */
  xmm: array('u8', 16 * 32),
  // Derived by `stateChanged`.
  /** What decoded code depends on; see `interpreter/mode.ts`. */
  mode: 'u32',
  /** Byte offset of the TLB view in use; see `interpreter/memory-map.ts`. */
  tlbView: 'u32',
  /** Added to RIP to give the linear address of code: the base of CS, 0 in 64-bit mode. */
  codeBase: 'u64',
  /** All ones, or the width of EIP or IP. */
  ripMask: 'u64',
  /** Width of SP by the size of the stack segment; all ones in 64-bit mode. */
  stackMask: 'u64',
  /** Non-zero when an SSE / x87 / MMX instruction would fault: see `SIMD_BLOCK`. */
  simdBlock: 'u32',
  /** The same for instructions with a VEX prefix that use vector registers. */
  avxBlock: 'u32',
  fpuBlock: 'u32',
  /** One bit for each segment register whose accesses must be checked against limit and type (never in 64-bit mode). */
  segmentCheck: 'u32',
  /** Byte offset of the half of the code TLB in use. */
  codeView: 'u32',
  /** Something the run loop must look at before the next instruction: a shadow, TF, a wish for the window. */
  attention: 'u32',
  // How the running code talks to its host; meaningless between runs.
  /** 0, or what a slow path left: see `interpreter/signals.ts`. */
  signal: 'u32',
  faultVector: 'u32',
  /** Error code, or -1 for none. */
  faultError: 'i32',
  nextRecord: 'u32',
  faultAddress: 'u64',
  slowAddress: 'u64',
  slowHost: 'u32',
  /** Budget that `run` left over. */
  budgetLeft: 'u32',
  args: array('u64', 6),
  result: 'u64',
  bounce: array('u64', 4),
  /** Halves of a 128-bit result of a helper (the low one only where the helper's own result is something else). */
  resultLow: 'u64',
  resultHigh: 'u64',
  /** Exceptions of the first half of a 256-bit operation, while the second is not done. */
  simdPending: 'u32',
}); // prettier-ignore

export type CpuField = keyof typeof cpu.fields;
/** Byte offset of each field. */
export const OFFSET: { readonly [K in CpuField]: number } = cpu.offsets;
export const FIELDS = cpu.fields;
if (cpu.size > CPU_STATE_SIZE) throw new Error(`CPU state of ${cpu.size} bytes does not fit ${CPU_STATE_SIZE}`);

export const SEGMENT_STRIDE = OFFSET.csSelector - OFFSET.esSelector;
export const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'ldtr', 'tr'] as const;
export type SegmentName = (typeof SEGMENTS)[number];
/** Encoding numbers of the segment registers; LDTR and TR follow. */
export const SEG = { es: 0, cs: 1, ss: 2, ds: 3, fs: 4, gs: 5, ldtr: 6, tr: 7 } as const;

export interface Segment {
  selector: number;
  attributes: number;
  limit: number;
  base: bigint;
}

/** Bits of `Segment.attributes`. */
export const ATTR = { type: 0xf, s: 1 << 4, dplShift: 5, present: 1 << 7, avl: 1 << 12, long: 1 << 13, big: 1 << 14, granularity: 1 << 15 } as const; // prettier-ignore

/** Why `simdBlock` or `fpuBlock` is not zero. */
export const SIMD_BLOCK = { invalidOpcode: 1, deviceNotAvailable: 2 } as const;

export const RFLAGS = {
  cf: 1n << 0n, fixed: 1n << 1n, pf: 1n << 2n, af: 1n << 4n, zf: 1n << 6n, sf: 1n << 7n, tf: 1n << 8n, if: 1n << 9n,
  df: 1n << 10n, of: 1n << 11n, iopl: 3n << 12n, nt: 1n << 14n, rf: 1n << 16n, vm: 1n << 17n, ac: 1n << 18n,
  vif: 1n << 19n, vip: 1n << 20n, id: 1n << 21n,
} as const; // prettier-ignore
/** CF, PF, AF, ZF, SF, OF, and bit 1 that is always set. */
const ARITHMETIC = 0x8d7;

export const REGISTER_NAMES = [
  'rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15',
] as const; // prettier-ignore

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- accessors come from the layout below
export interface CpuState extends View<typeof cpu.fields> {
  readonly base: number;
}
/** Typed view of a state, live or saved. Cheap to make: hold one per place. */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging
export class CpuState {
  readonly dv: DataView;
  readonly u8: Uint8Array;

  constructor(bytes: Bytes | Uint8Array, base = 0) {
    const over = bytes instanceof Uint8Array ? bytesOf(bytes) : bytes;
    this.dv = over.dv;
    this.u8 = over.u8;
    (this as { base: number }).base = base;
  }

  /** All of RFLAGS, lazily kept flags folded in. */
  get rflags(): bigint {
    return BigInt(this.flags32);
  }
  set rflags(value: bigint) {
    this.flags32 = Number(value & 0x3f_ffffn);
  }
  /** All of RFLAGS that there is, as a number. */
  get flags32(): number {
    return (this.eflags | 2 | this.arithmeticFlags()) >>> 0;
  }
  set flags32(value: number) {
    const flags = value & 0x3f_ffff;
    const { dv, base } = this;
    dv.setUint32(base + OFFSET.eflags, flags & ~ARITHMETIC, true);
    const { low, high, kept } = lazyHalvesFrom(flags);
    dv.setInt32(base + OFFSET.ccResult, low, true);
    dv.setInt32(base + OFFSET.ccResult + 4, high, true);
    dv.setInt32(base + OFFSET.ccA, kept, true);
    dv.setInt32(base + OFFSET.ccA + 4, 0, true);
    dv.setUint32(base + OFFSET.ccKind, CC_EXPLICIT, true);
  }
  private arithmeticFlags(): number {
    const { dv, base } = this;
    const word = (offset: number): number => dv.getInt32(base + offset, true);
    const folded = flagsOfHalves({
      kind: word(OFFSET.ccKind),
      resultLow: word(OFFSET.ccResult), resultHigh: word(OFFSET.ccResult + 4),
      aLow: word(OFFSET.ccA), aHigh: word(OFFSET.ccA + 4),
      bLow: word(OFFSET.ccB), bHigh: word(OFFSET.ccB + 4),
    }); // prettier-ignore
    return folded ?? Number(flagsOf(this));
  }
  /** General register by its encoding. */
  gpr(n: number): bigint {
    return this.dv.getBigUint64(this.base + 8 * n, true);
  }
  setGpr(n: number, value: bigint): void {
    this.dv.setBigUint64(this.base + 8 * n, value, true);
  }

  segment(n: number): Segment {
    const at = this.base + OFFSET.esSelector + n * SEGMENT_STRIDE;
    return {
      selector: this.dv.getUint16(at, true),
      attributes: this.dv.getUint16(at + 2, true),
      limit: this.dv.getUint32(at + 4, true),
      base: this.dv.getBigUint64(at + 8, true),
    };
  }
  setSegment(n: number, value: Segment): void {
    const at = this.base + OFFSET.esSelector + n * SEGMENT_STRIDE;
    this.dv.setUint16(at, value.selector, true);
    this.dv.setUint16(at + 2, value.attributes, true);
    this.dv.setUint32(at + 4, value.limit, true);
    this.dv.setBigUint64(at + 8, value.base, true);
  }
  segmentBase(n: number): bigint {
    return this.dv.getBigUint64(this.base + OFFSET.esSelector + n * SEGMENT_STRIDE + 8, true);
  }
  selector(n: number): number {
    return this.dv.getUint16(this.base + OFFSET.esSelector + n * SEGMENT_STRIDE, true);
  }

  /** The 16 bytes of XMM register `n`, live. */
  xmm(n: number): Uint8Array {
    const at = this.base + OFFSET.xmm + 32 * n;
    return this.u8.subarray(at, at + 16);
  }
  /** The upper 16 bytes of YMM register `n`, live. */
  ymmHigh(n: number): Uint8Array {
    const at = this.base + OFFSET.xmm + 32 * n + 16;
    return this.u8.subarray(at, at + 16);
  }
  /** The 10 significant bytes of physical x87 register `n`, live (16 bytes apart). */
  fpr(n: number): Uint8Array {
    const at = this.base + OFFSET.fpr + 16 * n;
    return this.u8.subarray(at, at + 10);
  }
  arg(n: number): bigint {
    return this.dv.getBigUint64(this.base + OFFSET.args + 8 * n, true);
  }
  pdpte(n: number): bigint {
    return this.dv.getBigUint64(this.base + OFFSET.pdpte + 8 * n, true);
  }
  setPdpte(n: number, value: bigint): void {
    this.dv.setBigUint64(this.base + OFFSET.pdpte + 8 * n, value, true);
  }

  /** State after RESET with paging off would be real mode; this is the blank that builders of guests start from. */
  reset(): void {
    this.u8.fill(0, this.base, this.base + CPU_STATE_SIZE);
    this.rflags = RFLAGS.fixed;
    this.cr0 = 0x6000_0010n;
    this.dr6 = 0xffff_0ff0n;
    this.dr7 = 0x400n;
    this.pat = 0x0007_0406_0007_0406n;
    this.fcw = 0x37f;
    this.mxcsr = 0x1f80;
    this.xcr0 = 1n;
  }
}

const prototype = Object.getPrototypeOf(cpu.view(bytesOf(new Uint8Array(cpu.size)), 0)) as object;
for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(prototype)))
  if (name !== 'constructor') Object.defineProperty(CpuState.prototype, name, descriptor);
