/**
 * A program as the generator makes it and the shrinker takes it apart: fragments of instructions at fixed addresses,
 * their jumps by label, and what each does with the flags. `layOut` makes the bytes.
 */
import { INT3 } from '../cpu/native.ts';
import { ALL_FLAGS, FLAGS } from './compare.ts';
import { CODE_BASE, CODE_PAGES, CONTROL_BASE, IMAGE_BYTES, PAGE, imageOffset, type Image } from './world.ts';

/** What an instruction does with the six arithmetic flags. */
export interface FlagUse {
  readonly reads: number;
  readonly defines: number;
  readonly undefines: number;
}

export interface Fixup {
  /** Offset in the instruction's bytes. */
  readonly at: number;
  readonly size: 1 | 4 | 8;
  /** From the end of the instruction; else the address itself. */
  readonly relative: boolean;
  readonly target: string | number;
  readonly addend: number;
}

/** What another instruction may write over this one. */
export type Patchable =
  | { readonly kind: 'immediate'; readonly at: number; readonly size: 1 | 4 }
  /** Any of these bytes in the place of the one at `at`. */
  | { readonly kind: 'byte'; readonly at: number; readonly values: readonly number[] }
  /** Any of these doublewords at the start. */
  | { readonly kind: 'dword'; readonly values: readonly number[] };

export interface Insn {
  readonly kind: 'insn';
  readonly bytes: readonly number[];
  /** A jump's form with an 8-bit distance as its last byte, taken where the distance fits. */
  readonly shortBytes?: readonly number[];
  readonly fixups: readonly Fixup[];
  readonly flags: FlagUse;
  /** Jump, call or return: only AF may be undefined here. */
  readonly transfers?: boolean;
  /** Nothing falls through it. */
  readonly ends?: boolean;
  readonly patch?: Patchable;
}

export interface Label {
  readonly kind: 'label';
  readonly name: string;
  /** Only a place to be written to, not jumped to. */
  readonly isMark: boolean;
}

export type Item = Insn | Label;

export interface Fragment {
  readonly address: number;
  readonly items: readonly Item[];
}

export interface JumpTable {
  /** Offset in the control page. */
  readonly offset: number;
  readonly labels: readonly string[];
}

export interface Program {
  readonly fragments: readonly Fragment[];
  readonly tables: readonly JumpTable[];
  readonly entry: string;
  readonly gpr: BigUint64Array;
  readonly rflags: bigint;
  readonly fx: Uint8Array;
  readonly ymmHigh: Uint8Array;
  /** Initial memory; code and tables are put over it. */
  readonly memory: Uint8Array;
  /** About how many instructions it executes. */
  readonly cost: number;
}

export interface Layout {
  readonly image: Image;
  /** Undefined flags when RIP stands here; an address that is not in it is no instruction's start. */
  readonly undefinedFlags: ReadonlyMap<number, number>;
  readonly addresses: ReadonlyMap<string, number>;
}

export const NO_FLAGS: FlagUse = { reads: 0, defines: 0, undefines: 0 };
/** What may be undefined wherever control comes from elsewhere. */
const UNDEFINED_AT_LABELS: number = FLAGS.af;
const MAX_PASSES = 30;
/** The last bytes of code: the beginning of MOV qword [disp32], imm32, and of others by where one starts. */
const CUT = [0x48, 0xc7, 0x04, 0x25];
export const CODE_END = CODE_BASE + CODE_PAGES * PAGE - CUT.length;

export function undefinedAfter(before: number, { defines, undefines }: FlagUse): number {
  return (before & ~defines) | undefines;
}

/** True when no instruction depends on a flag that the manual leaves undefined. */
export function isWellDefined(program: Program): boolean {
  for (const { items } of program.fragments) {
    let mask = UNDEFINED_AT_LABELS;
    for (const item of items) {
      if (item.kind === 'label') {
        if (item.isMark) continue;
        if ((mask & ~UNDEFINED_AT_LABELS) !== 0) return false;
        mask = UNDEFINED_AT_LABELS;
        continue;
      }
      if ((item.flags.reads & mask) !== 0) return false;
      if (item.transfers && (mask & ~UNDEFINED_AT_LABELS) !== 0) return false;
      mask = item.transfers ? UNDEFINED_AT_LABELS : undefinedAfter(mask, item.flags);
    }
  }
  return true;
}

/** Bytes at their addresses; undefined when they do not fit. */
export function layOut(program: Program): Layout | undefined {
  const long = new Set<Insn>();
  for (let pass = 0; pass < MAX_PASSES; pass++) {
    const addresses = place(program, long);
    if (!addresses) return undefined;
    if (lengthen(program, addresses, long)) continue;
    return build(program, addresses, long);
  }
  return undefined;
}

const formOf = (insn: Insn, long: ReadonlySet<Insn>): readonly number[] =>
  insn.shortBytes && !long.has(insn) ? insn.shortBytes : insn.bytes;

function place(program: Program, long: ReadonlySet<Insn>): Map<string, number> | undefined {
  const addresses = new Map<string, number>();
  const taken: [number, number][] = [];
  for (const { address, items } of program.fragments) {
    let at = address;
    for (const item of items)
      if (item.kind === 'label') addresses.set(item.name, at);
      else at += formOf(item, long).length;
    if (at > CODE_END || taken.some(([from, to]) => address < to && at > from)) return undefined;
    taken.push([address, at]);
  }
  return addresses;
}

/** Gives jumps that do not reach their long form; true when there were any. */
function lengthen(program: Program, addresses: ReadonlyMap<string, number>, long: Set<Insn>): boolean {
  const before = long.size;
  for (const { address, items } of program.fragments) {
    let at = address;
    for (const item of items) {
      if (item.kind === 'label') continue;
      const form = formOf(item, long);
      at += form.length;
      const [fixup] = item.fixups;
      if (form !== item.shortBytes || !fixup) continue;
      const distance = resolve(fixup, addresses) - at;
      if (distance < -128 || distance > 127) long.add(item);
    }
  }
  return long.size > before;
}

function resolve({ target, addend }: Fixup, addresses: ReadonlyMap<string, number>): number {
  // A label that the shrinker has taken away: anywhere, as long as it is always the same.
  return (typeof target === 'number' ? target : (addresses.get(target) ?? CODE_END)) + addend;
}

function build(program: Program, addresses: ReadonlyMap<string, number>, long: ReadonlySet<Insn>): Layout | undefined {
  const bytes = Uint8Array.from(program.memory);
  const codeAt = imageOffset(CODE_BASE) ?? 0;
  bytes.fill(INT3, codeAt, codeAt + CODE_PAGES * PAGE);
  bytes.set(CUT, codeAt + CODE_PAGES * PAGE - CUT.length);
  const undefinedFlags = new Map<number, number>();
  for (const { address, items } of program.fragments) {
    let at = address;
    let mask = UNDEFINED_AT_LABELS;
    for (const item of items) {
      if (item.kind === 'label') {
        if (!item.isMark) mask = UNDEFINED_AT_LABELS;
        continue;
      }
      undefinedFlags.set(at, mask);
      const form = Uint8Array.from(formOf(item, long));
      if (!fix(item, form, form.length !== item.bytes.length, at, addresses)) return undefined;
      bytes.set(form, codeAt + at - CODE_BASE);
      at += form.length;
      mask = item.transfers ? UNDEFINED_AT_LABELS : undefinedAfter(mask, item.flags);
    }
    undefinedFlags.set(at, mask);
  }
  const view = new DataView(bytes.buffer);
  for (const { offset, labels } of program.tables)
    labels.forEach((label, n) => {
      const at = (imageOffset(CONTROL_BASE) ?? 0) + offset + 8 * n;
      view.setBigUint64(at, BigInt(addresses.get(label) ?? CODE_END), true);
    });
  const entry = addresses.get(program.entry) ?? CODE_END;
  const { gpr, rflags, fx, ymmHigh } = program;
  return {
    image: { entry, bytes: bytes.subarray(0, IMAGE_BYTES), gpr, rflags, fx, ymmHigh },
    undefinedFlags,
    addresses,
  };
}

function fix(
  item: Insn,
  form: Uint8Array,
  isShort: boolean,
  address: number,
  addresses: ReadonlyMap<string, number>,
): boolean {
  const view = new DataView(form.buffer);
  for (const fixup of item.fixups) {
    const size = isShort ? 1 : fixup.size;
    const at = isShort ? form.length - 1 : fixup.at;
    const value = resolve(fixup, addresses) - (fixup.relative ? address + form.length : 0);
    if (size === 1) {
      if (value < -128 || value > 127) return false;
      view.setInt8(at, value);
    } else if (size === 4) view.setUint32(at, value >>> 0, true);
    else view.setBigInt64(at, BigInt(value), true);
  }
  return true;
}

/** Undefined flags at an address: all of them where it is inside an instruction. */
export function undefinedAt(layout: Layout): (rip: bigint) => number {
  return (rip) => layout.undefinedFlags.get(Number(rip)) ?? ALL_FLAGS;
}
