/**
 * The symbols that a Linux kernel carries in itself (CONFIG_KALLSYMS; `scripts/kallsyms.c`, `kernel/kallsyms.c`): what
 * is left in an image whose symbol table was stripped, as in every bzImage. There is no header that tells where they
 * are; they are found by their shape: a table of 256 strings and one of their offsets, behind it or before it the
 * marks and the names coded with it. 64-bit kernels whose addresses are relative to a base (all since 4.6). The input
 * is hostile: every step is bounded, and what does not fit together is no table.
 */
import { MAX_SYMBOL_NAME, MAX_SYMBOLS } from './table.ts';
import type { CodeSymbol } from './table.ts';

const TOKENS = 256;
/** Symbols between two marks. */
const PER_MARK = 256;
/** Longest coded name, with its length byte or two. */
const MAX_CODED = 260;
const CODE = 'tTwW';
/** The tokens of the digits stand at their characters in every table: no longer string takes their places. */
const FIRST_DIGIT = 0x30;
const DIGITS = Uint8Array.from(Array.from({ length: 10 }, (_, digit) => [FIRST_DIGIT + digit, 0]).flat());
/** Token tables looked at before giving up. */
const MAX_CANDIDATES = 64;
const ALIGNMENT = 8;
/** Names stepped over in search before giving up; a real kernel takes some 200,000. */
const MAX_STEPS = 20_000_000;

interface Tokens {
  /** Where the strings start, and where the table of their offsets ends. */
  readonly start: number;
  readonly end: number;
  readonly strings: readonly string[];
}

interface Names {
  readonly count: number;
  /** Where the number of symbols stands. */
  readonly countAt: number;
  readonly start: number;
}

interface Table {
  readonly start: number;
  readonly count: number;
  readonly marks: number;
}

interface Work {
  left: number;
}

/** The kernel's own symbols, or undefined when none are found. */
export function kallsyms(image: Uint8Array): CodeSymbol[] | undefined {
  const dv = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const work = { left: MAX_STEPS };
  let from = 0;
  for (let tries = 0; tries < MAX_CANDIDATES; tries++) {
    const digits = indexOf(image, DIGITS, from);
    if (digits < 0) return undefined;
    from = digits + 1;
    const tokens = tokensAround(image, dv, digits);
    const names = tokens && namesBefore(image, dv, tokens.start, work);
    const addresses = names && addressesOf(dv, tokens, names);
    if (addresses) return decode(image, tokens, names, addresses);
  }
  return undefined;
}

function indexOf(image: Uint8Array, wanted: Uint8Array, from: number): number {
  return Buffer.from(image.buffer, image.byteOffset, image.byteLength).indexOf(wanted, from);
}

/** The token table that has the digits at `digits`, when the table of offsets behind it agrees. */
function tokensAround(image: Uint8Array, dv: DataView, digits: number): Tokens | undefined {
  // Back over the strings before the digits, to the one of token 1.
  let second = digits;
  for (let token = FIRST_DIGIT; token > 1; token--) {
    let at = second - 2;
    while (at >= 0 && image[at] !== 0 && second - at < MAX_SYMBOL_NAME) at--;
    if (at < 0 || image[at] !== 0) return undefined;
    second = at + 1;
  }
  // That of token 0 starts at a multiple of 8; what is before it may be anything.
  for (
    let start = (second - 2) & ~(ALIGNMENT - 1);
    start >= 0 && second - start < MAX_SYMBOL_NAME;
    start -= ALIGNMENT
  ) {
    const tokens = tokensAt(image, dv, start);
    if (tokens) return tokens;
  }
  return undefined;
}

function tokensAt(image: Uint8Array, dv: DataView, start: number): Tokens | undefined {
  const strings: string[] = [];
  const offsets: number[] = [];
  let at = start;
  for (let token = 0; token < TOKENS; token++) {
    offsets.push(at - start);
    let text = '';
    for (; image[at] !== 0; at++) {
      if (at >= image.length || text.length > MAX_SYMBOL_NAME) return undefined;
      text += String.fromCharCode(image[at]!);
    }
    strings.push(text);
    at++;
  }
  const indexAt = alignUp(at);
  if (indexAt + TOKENS * 2 > image.length) return undefined;
  for (let token = 0; token < TOKENS; token++)
    if (dv.getUint16(indexAt + token * 2, true) !== offsets[token]) return undefined;
  return { start, end: alignUp(indexAt + TOKENS * 2), strings };
}

/** Marks stand somewhere before the tokens (with a table of sequence numbers in between since 6.2), names before them. */
function namesBefore(image: Uint8Array, dv: DataView, tokensStart: number, work: Work): Names | undefined {
  for (const marksEnd of marksEnds(dv, tokensStart)) {
    // The first mark is 0, each is larger than the one before.
    let first = marksEnd - 4;
    while (first >= 4 && dv.getUint32(first, true) !== 0 && dv.getUint32(first - 4, true) < dv.getUint32(first, true))
      first -= 4;
    if (first < 4 || dv.getUint32(first, true) !== 0) continue;
    const nrMarks = (marksEnd - first) / 4;
    if (nrMarks < 2 || nrMarks * PER_MARK > MAX_SYMBOLS) continue;
    const last = dv.getUint32(marksEnd - 4, true);
    const highest = first - last;
    const lowest = Math.max(highest - PER_MARK * MAX_CODED, ALIGNMENT);
    if ((work.left -= (highest - lowest) / ALIGNMENT) < 0) return undefined;
    for (let start = highest & ~(ALIGNMENT - 1); start >= lowest; start -= ALIGNMENT) {
      const count = dv.getUint32(start - ALIGNMENT, true);
      if (Math.ceil(count / PER_MARK) !== nrMarks || dv.getUint32(start - 4, true) !== 0) continue;
      if (fits(image, dv, { start, count, marks: first }, work)) return { count, countAt: start - ALIGNMENT, start };
    }
  }
  return undefined;
}

/** Where the marks may end: just before the tokens, or before three bytes for each symbol. */
function* marksEnds(dv: DataView, tokensStart: number): Generator<number> {
  const aligned = tokensStart & ~3;
  for (let end = aligned; end >= Math.max(aligned - ALIGNMENT, 8); end -= 4)
    if (dv.getUint32(end - 4, true) !== 0) yield end;
  // Sequence numbers: so many entries of three bytes as there are symbols, of which the marks tell within 256.
  const furthest = Math.max(aligned - 3 * MAX_SYMBOLS, 8);
  for (let end = aligned - 3 * PER_MARK; end >= furthest; end -= 4) {
    const before = dv.getUint32(end - 4, true);
    if (before === 0 || before > dv.byteLength || dv.getUint32(end - 8, true) >= before) continue;
    const gap = before - dv.getUint32(end - 8, true);
    if (gap < PER_MARK * 2 || gap > PER_MARK * MAX_CODED) continue;
    yield end;
  }
}

/** Length of the coded name at `at` without its head, and of its head. */
function codedLength(image: Uint8Array, at: number): readonly [number, number] {
  const head = image[at] ?? 0;
  return (head & 0x80) === 0 ? [head, 1] : [(head & 0x7f) | ((image[at + 1] ?? 0) << 7), 2];
}

/** The names end where the marks begin, and pass by each mark. */
function fits(image: Uint8Array, dv: DataView, table: Table, work: Work): boolean {
  const { start, count, marks } = table;
  let at = start;
  for (let i = 0; i < count; i++) {
    if (--work.left < 0) return false;
    if (i % PER_MARK === 0 && dv.getUint32(marks + (i / PER_MARK) * 4, true) !== at - start) return false;
    const [length, head] = codedLength(image, at);
    if (length === 0) return false;
    at += head + length;
    if (at > marks) return false;
  }
  return alignUp(at) === alignUp(marks);
}

/** Base and offsets: before the number of symbols, or since 6.4 behind the tokens. */
function addressesOf(dv: DataView, tokens: Tokens, names: Names): BigUint64Array | undefined {
  const bytes = alignUp(names.count * 4);
  const places = [
    { base: names.countAt - ALIGNMENT, offsets: names.countAt - ALIGNMENT - bytes },
    { base: tokens.end + bytes, offsets: tokens.end },
  ];
  for (const { base, offsets } of places) {
    if (offsets < 0 || base < 0 || base + 8 > dv.byteLength) continue;
    const relative = dv.getBigUint64(base, true);
    if (relative >> 47n !== 0x1ffffn) continue;
    const addresses = new BigUint64Array(names.count);
    for (let i = 0; i < names.count; i++) {
      const offset = dv.getInt32(offsets + i * 4, true);
      // Of a kernel with per-CPU symbols: those at or above 0 are absolute, the others count backwards from the base.
      addresses[i] = offset >= 0 ? BigInt(offset) : relative - 1n - BigInt(offset);
    }
    return addresses;
  }
  return undefined;
}

function decode(image: Uint8Array, tokens: Tokens, names: Names, addresses: BigUint64Array): CodeSymbol[] {
  const symbols: CodeSymbol[] = [];
  let at = names.start;
  for (let i = 0; i < names.count; i++) {
    const [length, head] = codedLength(image, at);
    at += head;
    let text = '';
    for (const end = at + length; at < end; at++) text += tokens.strings[image[at]!] ?? '';
    symbols.push({
      address: addresses[i]!,
      name: text.slice(1, 1 + MAX_SYMBOL_NAME),
      isCode: CODE.includes(text.charAt(0)),
    });
  }
  return symbols;
}

const alignUp = (n: number): number => Math.ceil(n / ALIGNMENT) * ALIGNMENT;
