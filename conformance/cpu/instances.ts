/**
 * Random instances of an instruction row: the encoded bytes and the register and memory state that make its memory
 * operands fall on the test's data. The rows are the source of what is encoded; nothing here knows an instruction but
 * the tables at the end.
 */
import type { OperandSpec, Row } from '@xenhost/cpu';
import { CODE_BASE, CODE_BYTES, DATA_BASE, FX_BYTES, GS_BASE, READONLY_BASE, YMM_HIGH_BYTES, type CpuCase } from './native.ts'; // prettier-ignore
import type { Random } from './random.ts';

const PAGE = 0x1000;
const ADDRESS_SIZE_PREFIX = 0x67;
const RSP = 4;
const RBP = 5;
const RAX = 0;
const RCX = 1;
const RBX = 3;
const RSI = 6;
const RDI = 7;

/** Bytes of memory that a case brings along and gets back; twice as much room as an instruction can touch. */
export function memoryBytes(row: Row): number {
  if (row.operands.some((o) => o.type === '' && o.method === 'M')) return 1536;
  return row.semantics === 'enter' ? 1024 : 192;
}

interface Builder {
  readonly row: Row;
  readonly random: Random;
  readonly gpr: BigUint64Array;
  readonly memoryAddress: number;
  readonly memorySize: number;
  operandSize: 2 | 4 | 8;
  rexW: boolean;
  address67: boolean;
}

function operandBytes(b: Builder, spec: OperandSpec): number {
  switch (spec.type) {
    case 'b':
      return 1;
    case 'w':
      return 2;
    case 'd':
      return 4;
    case 'q':
      return 8;
    case 'v':
    case 'bs':
      return b.operandSize;
    case 'z':
      return b.operandSize === 8 ? 4 : b.operandSize;
    case 'y':
      return b.rexW ? 8 : 4;
    case 't':
      return 10;
    case 'x':
      return 16;
    case 'qq':
      return 32;
    case '':
      return XSTATE_SEMANTICS.has(b.row.semantics) ? XSAVE_BYTES : 512;
    default:
      return b.operandSize * 2;
  }
}

/** Bytes of an immediate in the code. */
function immediateBytes(b: Builder, spec: OperandSpec): number {
  if (spec.type === 'bs') return 1;
  if (spec.method === 'J') return spec.type === 'b' ? 1 : 4;
  return operandBytes(b, spec);
}

/** A linear address for a memory operand: mostly in the middle of the data, sometimes where it must fault. */
function targetAddress(b: Builder, size: number): bigint {
  const { random } = b;
  const isVexMove = b.row.semantics === 'vex.mova';
  const alignment = b.row.vex
    ? isVexMove
      ? size
      : 1
    : size === XSAVE_BYTES
      ? 64
      : size === 16 || size === 512
        ? 16
        : 1;
  switch (random.below(40)) {
    case 0: // read only
      return BigInt(READONLY_BASE + random.below(64) * 16);
    case 1: // the end of what is mapped
      return BigInt(READONLY_BASE + PAGE - random.below(size + 1));
    case 2: // nothing there
      return BigInt(READONLY_BASE + 8 * PAGE + random.below(PAGE));
    case 3: // not canonical
      return 0x8000_0000_0000_0000n + random.u64() / 4n;
  }
  const room = Math.max(1, Math.floor(b.memorySize / 2) - size);
  const offset = Math.floor(b.memorySize / 4) + random.below(room);
  const address = b.memoryAddress + offset;
  return BigInt(random.chance(8) ? address : address & ~(alignment - 1));
}

interface Encoded {
  bytes: number[];
  rex: number;
  modrm: number[];
  /** Displacement relative to the end: where it stands in `modrm` and what it aims at. */
  ripTarget: bigint | undefined;
  segmentPrefix: number | undefined;
}

/** ModRM and what follows for a memory operand at `target`; sets base and index registers. */
function encodeMemory(b: Builder, reg: number, target: bigint, displacementAllowed: boolean): Encoded {
  const { random, gpr } = b;
  const out: Encoded = { bytes: [], rex: 0, modrm: [], ripTarget: undefined, segmentPrefix: undefined };
  let address = target;
  if (random.chance(10)) {
    out.segmentPrefix = 0x65;
    address = BigInt.asUintN(64, address - GS_BASE);
  }
  const fitsLow = address < 0x7fff0000n;
  // 67h: registers count by their lower halves. Bit strings around such an address are in docs/LIMITS.md.
  b.address67 = fitsLow && random.chance(12) && !BIT_STRINGS.has(b.row.semantics);
  const choice = random.below(8);
  if (choice === 0 && fitsLow && displacementAllowed) {
    // Absolute 32-bit address: SIB without base and index.
    out.modrm = [(reg << 3) | 4, 0x25, ...little(address, 4)];
    return out;
  }
  if (choice === 1 && fitsLow && displacementAllowed && out.segmentPrefix === undefined) {
    out.modrm = [(reg << 3) | 5, 0, 0, 0, 0];
    out.ripTarget = address;
    return out;
  }
  const base = random.below(16);
  const wide = random.chance(3);
  const displacement = random.chance(3) ? 0 : wide ? (random.u32() | 0) >> 8 : random.below(256) - 128;
  const mod = displacement === 0 && (base & 7) !== 5 ? 0 : wide ? 2 : 1;
  const usesSib = (base & 7) === 4 || random.chance(3);
  let index = usesSib ? random.below(16) : 4;
  if (index === base) index = 4;
  const scale = random.below(4);
  let rest = BigInt.asUintN(64, address - BigInt(displacement));
  if (index !== 4) {
    const value = BigInt(random.below(64));
    gpr[index] = value;
    rest = BigInt.asUintN(64, rest - (value << BigInt(scale)));
  }
  gpr[base] = rest;
  if (b.address67) gpr[base] = (rest & 0xffffffffn) | (BigInt(random.u32()) << 32n);
  out.rex = (base >> 3) | (usesSib ? (index >> 3) << 1 : 0);
  const sizes = [0, 1, 4][mod] ?? 0;
  out.modrm = [(mod << 6) | (reg << 3) | (usesSib ? 4 : base & 7)];
  if (usesSib) out.modrm.push((scale << 6) | ((index & 7) << 3) | (base & 7));
  out.modrm.push(...little(BigInt.asUintN(64, BigInt(displacement)), sizes));
  return out;
}

function little(value: bigint, size: number): number[] {
  return Array.from({ length: size }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn));
}

/** ModRM, SIB and displacement of a VSIB address whose elements fall near `target`; fills the index register. */
function encodeVsib(b: Builder, reg: number, target: bigint, vectors: Vectors): Encoded {
  const { random, gpr } = b;
  const base = random.below(16);
  const index = random.below(16);
  const scale = random.below(4);
  const displacement = random.below(256) - 128;
  gpr[base] = BigInt.asUintN(64, target - BigInt(displacement));
  const isNarrow = b.row.semantics === 'gather.d';
  const view = new DataView(new ArrayBuffer(32));
  for (let at = 0; at < 32; at += isNarrow ? 4 : 8) {
    const value = random.chance(30)
      ? random.integer()
      : BigInt.asUintN(64, BigInt(random.below(17) - 8) >> BigInt(scale));
    if (isNarrow) view.setUint32(at, Number(value & 0xffffffffn), true);
    else view.setBigUint64(at, value, true);
  }
  vectors.fx.set(new Uint8Array(view.buffer, 0, 16), FX_XMM + 16 * index);
  vectors.ymmHigh.set(new Uint8Array(view.buffer, 16), 16 * index);
  return {
    bytes: [],
    rex: (base >> 3) | ((index >> 3) << 1),
    modrm: [0x44 | (reg << 3), (scale << 6) | ((index & 7) << 3) | (base & 7), displacement & 255],
    ripTarget: undefined,
    segmentPrefix: undefined,
  };
}

/** The VEX prefix for a row's encoding with the REX bits that its registers need. */
function vexPrefix(b: Builder, rex: number): number[] {
  const { row, random } = b;
  const hasRegister = row.operands.some((o) => o.method === 'H' || o.method === 'K');
  const vvvv = hasRegister ? random.below(16) : 0;
  const isWide = row.rexW === undefined && !row.operands.some((o) => o.type === 'y') ? random.chance(2) : b.rexW;
  const l = row.vexL ?? random.below(2);
  const last = ((~vvvv & 15) << 3) | (l << 2) | ['np', '66', 'f3', 'f2'].indexOf(row.prefix);
  if (row.map === 1 && (rex & 3) === 0 && !isWide && random.chance(2)) return [0xc5, ((~rex & 4) << 5) | last];
  return [0xc4, ((~rex & 7) << 5) | row.map, (isWide ? 0x80 : 0) | last];
}

const isRegisterMethod = (method: string): boolean => ['E', 'M', 'R', 'W', 'U', 'Q', 'N', 'T'].includes(method);
const isReg = (method: string): boolean => ['G', 'V', 'P', 'S', 'C', 'D'].includes(method);

/** Floating-point, integer or random patterns: what XMM registers and memory hold. */
function fillPatterns(random: Random, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  for (let at = 0; at + 8 <= into.length; at += 8) {
    let value: bigint;
    switch (random.below(6)) {
      case 0:
      case 1:
        value = random.float(11, 52);
        break;
      case 2:
      case 3:
        value = random.float(8, 23) | (random.float(8, 23) << 32n);
        break;
      case 4:
        value = random.integer();
        break;
      default:
        value = random.u64();
    }
    view.setBigUint64(at, value, true);
  }
}

const MXCSR_DEFAULT = 0x1f80;
const FX_XMM = 160;

interface Vectors {
  readonly fx: Uint8Array;
  readonly ymmHigh: Uint8Array;
}

/** An FXSAVE image with x87, MXCSR and XMM state. */
function fxImage(random: Random, isX87: boolean): Uint8Array {
  const fx = new Uint8Array(FX_BYTES);
  const view = new DataView(fx.buffer);
  const fcw = isX87 && random.chance(2) ? random.below(0x1000) | 0x40 : 0x37f;
  let fsw = isX87 ? random.u32() & 0x7f7f : 0;
  if (!random.chance(8)) fsw &= ~(~fcw & 0x3f);
  if ((fsw & ~fcw & 0x3f) !== 0) fsw |= 0x8080;
  view.setUint16(0, fcw & ~0x1080, true);
  view.setUint16(2, fsw, true);
  fx[4] = random.chance(4) ? random.below(256) : isX87 ? 0xff : 0;
  if (isX87 && random.chance(3)) fx[4] &= ~(1 << ((((fsw >> 11) & 7) - 1) & 7));
  for (let n = 0; n < 8; n++) {
    const value = random.extended();
    view.setBigUint64(32 + 16 * n, BigInt.asUintN(64, value), true);
    view.setUint16(40 + 16 * n, Number(value >> 64n), true);
  }
  let mxcsr = MXCSR_DEFAULT;
  switch (random.below(4)) {
    case 0:
      mxcsr |= 0x20;
      break;
    case 1:
      mxcsr |= random.u32() & 0xe07f;
      break;
    case 2:
      mxcsr = random.u32() & 0xffff;
      break;
  }
  view.setUint32(24, mxcsr, true);
  fillPatterns(random, fx.subarray(160, 416));
  // Related operands meet the interesting cases of comparisons and shuffles.
  if (random.chance(4)) fx.copyWithin(160, 176, 192);
  if (random.chance(6)) fx.fill(0, 176, 184);
  return fx;
}

const usesX87 = (row: Row): boolean => row.feature === 'x87' || row.semantics === 'x87.fwait';

/** Builds one random instance. Undefined when the dice gave something that the row does not have. */
export function instance(row: Row, random: Random): CpuCase | undefined {
  const memorySize = memoryBytes(row);
  const memoryAddress = DATA_BASE + (random.chance(2) ? PAGE - memorySize / 2 : random.below(64) * 16);
  const gpr = new BigUint64Array(16);
  for (let n = 0; n < 16; n++) gpr[n] = random.integer();
  gpr[RSP] = BigInt(memoryAddress + memorySize / 2 + random.below(4) * 8);
  const hasVariableSize = row.sizeRule !== 'fixed';
  const hasY = row.operands.some((o) => o.type === 'y');
  const canBeWide = row.rexW === undefined && (hasVariableSize || hasY);
  const rexW = row.rexW === 1 || (canBeWide && random.chance(2));
  const wants66 = !rexW && row.prefix === 'any' && (row.sizeRule === 'v' || row.sizeRule === 'd64') && random.chance(3);
  const operandSize = row.sizeRule === 'f64' || rexW ? 8 : wants66 ? 2 : row.sizeRule === 'd64' ? 8 : 4;
  const b: Builder = { row, random, gpr, memoryAddress, memorySize, operandSize, rexW, address67: false };

  prepareImplied(b);

  const vectors: Vectors = {
    fx: fxImage(random, usesX87(row) || (row.feature === 'mmx' && random.chance(2))),
    ymmHigh: new Uint8Array(YMM_HIGH_BYTES),
  };
  // Processors differ in what they take for an initial configuration that is not to be saved.
  if (!random.chance(4) || row.semantics === 'xsave') fillPatterns(random, vectors.ymmHigh);
  const memory = new Uint8Array(memorySize);
  fillPatterns(random, memory);
  if (row.feature === 'x87') fillExtended(random, memory);
  if (row.semantics === 'popf') clearTrapFlags(memory);

  const prefixes: number[] = [];
  let rex = rexW ? 8 : 0;
  let modrm: number[] = [];
  let ripTarget: bigint | undefined;
  if (wants66) prefixes.push(0x66);
  let isMemory = false;
  if (row.hasModrm) {
    const regOperand = row.operands.find((o) => isReg(o.method));
    const rmOperand = row.operands.find((o) => isRegisterMethod(o.method));
    let reg = row.reg ?? random.below(8);
    if (row.reg === undefined && regOperand) {
      let number = random.below(['G', 'V'].includes(regOperand.method) ? 16 : 8);
      if (regOperand.method === 'S') number = random.below(6);
      if (isStackHazard(row, regOperand, number)) number = RAX;
      reg = number & 7;
      rex |= (number >> 3) << 2;
    }
    isMemory = row.form === 'memory' || (row.form === 'any' && row.rm === undefined && !random.chance(3));
    if (isMemory) {
      const size = rmOperand ? operandBytes(b, rmOperand) : 8;
      limitBitOffset(b, reg | ((rex & 4) << 1));
      const target = targetAddress(b, size);
      if (row.semantics === 'xrstor') prepareXsaveImage(b, memory, target);
      const isVsib = row.operands.some((o) => o.method === 'vsib');
      const encoded = isVsib
        ? encodeVsib(b, reg, target, vectors)
        : encodeMemory(b, reg, target, !['lea'].includes(row.semantics));
      if (gprConflict(b)) return undefined;
      // RAX says which components: not an address.
      if (XSTATE_SEMANTICS.has(row.semantics) && (gpr[RAX] ?? 0n) > 7n) return undefined;
      rex |= encoded.rex;
      modrm = encoded.modrm;
      ripTarget = encoded.ripTarget;
      if (encoded.segmentPrefix !== undefined) prefixes.unshift(encoded.segmentPrefix);
      if (b.address67) prefixes.unshift(ADDRESS_SIZE_PREFIX);
    } else {
      const isWide = rmOperand !== undefined && ['E', 'R', 'W', 'U'].includes(rmOperand.method) && row.rm === undefined;
      let rm = row.rm ?? random.below(isWide ? 16 : 8);
      if (rmOperand && isStackHazard(row, rmOperand, rm)) rm = RAX;
      modrm = [0xc0 | (reg << 3) | (rm & 7)];
      rex |= rm >> 3;
    }
  }
  let opcode = row.opcode;
  if (row.plusReg) {
    let number = random.below(16);
    if (number === RSP) number = RAX;
    opcode += number & 7;
    rex |= number >> 3;
  }
  if (STRING_SEMANTICS.has(row.semantics) && random.chance(6)) prefixes.unshift(ADDRESS_SIZE_PREFIX);
  if (row.lockable && isMemory && random.chance(4)) prefixes.unshift(0xf0);
  if (row.repeatable && random.chance(2)) prefixes.push(random.chance(2) ? 0xf3 : 0xf2);
  if (row.vex) prefixes.push(...vexPrefix(b, rex));
  else {
    if (row.prefix === '66') prefixes.push(0x66);
    if (row.prefix === 'f3') prefixes.push(0xf3);
    if (row.prefix === 'f2') prefixes.push(0xf2);
    if (rex !== 0 || random.chance(6)) prefixes.push(0x40 | rex);
  }
  const escape = row.vex ? [] : ([[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][row.map] ?? []);
  const immediates = row.operands.flatMap((spec) => encodeImmediate(b, spec));
  const bytes = [...prefixes, ...escape, opcode, ...modrm, ...immediates];
  if (bytes.length > 15) return undefined;
  const codeOffset = random.chance(4) ? PAGE - random.below(bytes.length + 1) : random.below(64) * 16;
  if (codeOffset + 16 > CODE_BYTES) return undefined;
  if (ripTarget !== undefined) {
    const next = BigInt(CODE_BASE + codeOffset + bytes.length);
    const at = prefixes.length + escape.length + 1 + 1;
    little(BigInt.asUintN(32, ripTarget - next), 4).forEach((byte, n) => {
      bytes[at + n] = byte;
    });
  }
  return {
    code: Uint8Array.from(bytes),
    codeOffset,
    memoryAddress,
    memory,
    gpr,
    rflags: BigInt(random.u32() & (random.chance(8) ? 0xcd5 : 0x8d5)) | 2n,
    ...vectors,
  };
}

/** A header that XRSTOR takes, mostly, and an MXCSR. */
function prepareXsaveImage(b: Builder, memory: Uint8Array, target: bigint): void {
  const { random } = b;
  const at = Number(target - BigInt(b.memoryAddress));
  if (!(at >= 0 && at + XSAVE_BYTES <= memory.length) || random.chance(10)) return;
  const view = new DataView(memory.buffer, memory.byteOffset + at, XSAVE_BYTES);
  view.setUint32(24, random.u32() & 0xffff, true);
  const present = random.below(8);
  for (let n = 512; n < 576; n += 8) view.setBigUint64(n, 0n, true);
  view.setBigUint64(512, BigInt(present), true);
  if (random.chance(3))
    view.setBigUint64(520, BigInt(random.chance(8) ? 7 : present | random.below(8)) | (1n << 63n), true);
}

/** Puts extended numbers and boundary integers over the memory of x87 instructions. */
function fillExtended(random: Random, memory: Uint8Array): void {
  if (random.chance(2)) return;
  const view = new DataView(memory.buffer);
  for (let at = 0; at + 10 <= memory.length; at += 10) {
    const value = random.extended();
    view.setBigUint64(at, BigInt.asUintN(64, value), true);
    view.setUint16(at + 8, Number(value >> 64n), true);
  }
}

/** TF and AC would fault in the runner. */
function clearTrapFlags(memory: Uint8Array): void {
  const view = new DataView(memory.buffer);
  for (let at = 0; at < memory.length; at += 8)
    view.setBigUint64(at, view.getBigUint64(at, true) & ~0x0100_0100_0104_0100n, true);
}

function encodeImmediate(b: Builder, spec: OperandSpec): number[] {
  const { random } = b;
  if (spec.method === 'O') return little(targetAddress(b, operandBytes(b, spec)), 8);
  if (spec.method === 'J') {
    const size = immediateBytes(b, spec);
    // Not back into the instruction itself; far targets end in a fetch fault.
    const distance = size === 1 || random.chance(2) ? 1 + random.below(100) : (random.u32() | 0) >> 4;
    const backwards = random.chance(3) ? -20 - random.below(100) : distance;
    return little(BigInt.asUintN(64, BigInt(size === 1 ? backwards : random.chance(2) ? distance : backwards)), size);
  }
  if (spec.method === 'L') return [random.below(256)];
  if (spec.method !== 'I') return [];
  const size = immediateBytes(b, spec);
  if (b.row.semantics === 'enter') return spec.type === 'w' ? little(BigInt(random.below(128)), 2) : [random.below(8)];
  if (b.row.semantics === 'ret') return little(BigInt(random.below(64) * 8), 2);
  return little(random.chance(2) ? random.integer() : random.u64(), size);
}

/** Writing RSP through an operand is fine unless the instruction also uses the stack. */
function isStackHazard(row: Row, spec: OperandSpec, register: number): boolean {
  return register === RSP && ['G', 'E', 'R'].includes(spec.method) && STACK_SEMANTICS.has(row.semantics);
}

/** Memory forms of bit instructions with a register offset reach around their operand. */
function limitBitOffset(b: Builder, reg: number): void {
  if (!BIT_STRINGS.has(b.row.semantics)) return;
  if (!b.row.operands.some((o) => o.method === 'G')) return;
  const offset = BigInt(b.random.below(512) - 256);
  b.gpr[reg] = BigInt.asUintN(64, offset);
}

/** After addresses were placed in registers: does an instruction with implied registers still make sense? */
function gprConflict(b: Builder): boolean {
  const rsp = Number(BigInt.asIntN(64, b.gpr[RSP] ?? 0n));
  const usesStack = STACK_SEMANTICS.has(b.row.semantics);
  return usesStack && (rsp < b.memoryAddress || rsp > b.memoryAddress + b.memorySize);
}

/** Values for registers that an instruction uses without naming them. */
function prepareImplied(b: Builder): void {
  const { row, random, gpr } = b;
  const middle = (): bigint => BigInt(b.memoryAddress + b.memorySize / 4 + random.below(b.memorySize / 2));
  if (STRING_SEMANTICS.has(row.semantics)) {
    gpr[RSI] = random.chance(12) ? targetAddress(b, 8) : middle();
    gpr[RDI] = random.chance(12) ? targetAddress(b, 8) : middle();
    gpr[RCX] = BigInt(random.below(6));
  }
  if (row.semantics.endsWith('.maskmov') || row.semantics === 'maskmov') gpr[RDI] = middle();
  if (XSTATE_SEMANTICS.has(row.semantics)) {
    // The processor may have more components than x87, SSE and AVX.
    gpr[RAX] = BigInt(random.below(8));
    gpr[2] = 0n;
  }
  if (row.semantics === 'xlat') gpr[RBX] = middle() - ((gpr[RAX] ?? 0n) & 0xffn);
  if (row.semantics === 'leave' || row.semantics === 'enter') gpr[RBP] = BigInt.asUintN(64, middle() & ~7n);
  if (row.semantics === 'pcmpstr' && random.chance(2)) {
    gpr[RAX] = BigInt.asUintN(64, BigInt(random.below(40) - 20));
    gpr[2] = BigInt.asUintN(64, BigInt(random.below(40) - 20));
  }
  if (row.semantics === 'div' || row.semantics === 'idiv') {
    // Small dividends, or nearly all would overflow.
    if (random.chance(2)) gpr[2] = random.chance(2) ? 0n : 0xffffffffffffffffn;
  }
}

const XSTATE_SEMANTICS = new Set(['xsave', 'xrstor']);
/** Legacy region, header and the AVX component. */
const XSAVE_BYTES = 832;
const BIT_STRINGS = new Set(['bt', 'bts', 'btr', 'btc']);
const STRING_SEMANTICS = new Set(['movs', 'cmps', 'stos', 'lods', 'scas', 'ins', 'outs']);
const STACK_SEMANTICS = new Set([
  'push', 'pop', 'popmem', 'call', 'callind', 'ret', 'leave', 'enter', 'pushf', 'popf', 'pushseg', 'pusha', 'popa',
]); // prettier-ignore
