/**
 * Which code becomes a region: from a hot instruction on along direct jumps, over the pages that were executed of
 * late, as far as the interpreter has decoded it and not beyond a bound. Positions are bytes from the start of the
 * lowest page of the region; pages keep their distances in linear addresses.
 */
import { decodeInstruction } from '../isa/decode.ts';
import type { Instruction } from '../isa/instruction.ts';
import type { CodePage } from '../interpreter/code-cache.ts';
import { traitsOf } from './traits.ts';
import type { Traits } from './traits.ts';

/** V8's optimising compiler is superlinear in the size of a function. */
const MAX_INSTRUCTIONS = 600;
const MAX_BLOCKS = 96;
export const MAX_PAGES = 8;
const PAGE = 4096;
const MAX_LENGTH = 15;

/** What the plan is made from; pages are counted from that of the hot instruction. */
export interface CodeSource {
  readonly machine: Uint8Array;
  /** The page of code `distance` pages on, if it was executed of late. */
  pageAt(distance: number): CodePage | undefined;
  /** Whether the instruction was decoded. */
  isDecoded(page: CodePage, offset: number): boolean;
  /** Whether branches went there often enough to be worth it. */
  isWarm(page: CodePage, offset: number): boolean;
}

export interface PlacedInstruction {
  readonly at: number;
  readonly instruction: Instruction;
  readonly traits: Traits;
  /** Where a direct jump or call goes. */
  readonly target: number | undefined;
}
export interface Block {
  readonly at: number;
  readonly instructions: PlacedInstruction[];
  /** Position where it goes on after its last instruction. */
  next: number;
  /** The last instruction can go on there. */
  fallsThrough: boolean;
  isEntry: boolean;
}
/** What a region's function is made from. */
export interface RegionShape {
  /** Small numbers for the pages, by their distance in pages from the lowest. */
  readonly pageNumbers: ReadonlyMap<number, number>;
  /** In the order of their positions. */
  readonly blocks: readonly Block[];
  readonly indexOf: ReadonlyMap<number, number>;
  /** For each RET the positions behind those calls of the region that may have led to it. */
  readonly returnsOf: ReadonlyMap<number, readonly number[]>;
}
export interface RegionPlan extends RegionShape {
  /** By distance in pages from the lowest. */
  readonly pages: ReadonlyMap<number, CodePage>;
  readonly nrInstructions: number;
  /** The bytes that it is made from. */
  readonly spans: readonly Span[];
}
/** Bytes of one page, at a position. */
export interface Span {
  readonly at: number;
  readonly bytes: Uint8Array;
}

const CALLS = new Set(['call', 'callind']);
const JUMPS = new Set(['jmp', 'jcc', 'loop', 'jrcxz', 'call']);

const isJump = ({ row }: Instruction): boolean => JUMPS.has(row.semantics);
function targetOf(at: number, instruction: Instruction): number | undefined {
  if (!isJump(instruction)) return undefined;
  const operand = instruction.operands[0];
  return operand?.kind === 'relative' ? at + instruction.length + operand.value : undefined;
}

export const placed = (at: number, instruction: Instruction): PlacedInstruction => ({
  at, instruction, traits: traitsOf(instruction), target: targetOf(at, instruction),
}); // prettier-ignore

/** What is compiled is what was read once: other CPUs may write meanwhile. */
interface CopiedPage {
  readonly page: CodePage;
  readonly bytes: Uint8Array;
}

class Planner {
  private readonly source: CodeSource;
  private readonly pages = new Map<number, CopiedPage>();
  /** Instructions by position (from the hot page's start; may be negative). */
  private readonly placed = new Map<number, PlacedInstruction>();
  private readonly leaders = new Set<number>();
  private readonly entries = new Set<number>();
  private readonly waiting: number[] = [];

  constructor(source: CodeSource) {
    this.source = source;
  }

  private page(position: number): CopiedPage | undefined {
    const distance = Math.floor(position / PAGE);
    const known = this.pages.get(distance);
    if (known) return known;
    if (this.pages.size >= MAX_PAGES) return undefined;
    const page = this.source.pageAt(distance);
    if (!page) return undefined;
    const copied = { page, bytes: this.source.machine.slice(page.frame * PAGE, (page.frame + 1) * PAGE) };
    this.pages.set(distance, copied);
    return copied;
  }
  private isKnownCode(position: number): boolean {
    const copied = this.page(position);
    return copied !== undefined && this.source.isDecoded(copied.page, position & (PAGE - 1));
  }
  private lead(position: number, isEntry: boolean): void {
    if (!this.leaders.has(position)) {
      if (this.leaders.size >= MAX_BLOCKS) return;
      this.leaders.add(position);
      this.waiting.push(position);
    }
    if (isEntry) this.entries.add(position);
  }
  private decode(position: number): Instruction | undefined {
    const copied = this.page(position);
    if (!copied) return undefined;
    const { page } = copied;
    const offset = position & (PAGE - 1);
    const decoded = decodeInstruction(copied.bytes, page.code, offset, PAGE);
    if (decoded !== 'truncated') return typeof decoded === 'string' ? undefined : decoded;
    const next = this.page(position - offset + PAGE);
    if (!next) return undefined;
    const inPage = PAGE - offset;
    const bytes = new Uint8Array(inPage + MAX_LENGTH);
    bytes.set(copied.bytes.subarray(offset));
    bytes.set(next.bytes.subarray(0, MAX_LENGTH), inPage);
    const joined = decodeInstruction(bytes, page.code, 0, bytes.length);
    return typeof joined === 'string' ? undefined : joined;
  }

  plan(start: number): RegionPlan | undefined {
    this.lead(start, true);
    for (let n = 0; n < this.waiting.length; n++) this.scan(this.waiting[n] ?? start);
    return this.build();
  }

  /** Decodes from a leader on, as far as code goes straight on. */
  private scan(leader: number): void {
    for (let at = leader; ;) {
      if (this.placed.has(at) || this.placed.size >= MAX_INSTRUCTIONS || !this.isKnownCode(at)) return;
      const instruction = this.decode(at);
      if (!instruction) return;
      const one = placed(at, instruction);
      const { target } = one;
      this.placed.set(at, one);
      const next = at + instruction.length;
      const { row } = instruction;
      if (instruction.repeat !== 'none' && row.repeatable) {
        // It comes back to itself.
        this.lead(at, false);
        this.lead(next, false);
      }
      if (target !== undefined) {
        if (this.isKnownCode(target) && this.isWorth(target)) this.lead(target, false);
        if (CALLS.has(row.semantics)) this.comesBack(next);
        if (row.ends) return;
        this.lead(next, false);
      } else if (row.ends || one.traits.bails) {
        if (CALLS.has(row.semantics)) this.comesBack(next);
        else if (one.traits.bails && this.isKnownCode(next)) this.lead(next, true);
        return;
      }
      at = next;
    }
  }
  private comesBack(position: number): void {
    if (!this.isKnownCode(position)) return;
    this.lead(position, true);
  }
  private isWorth(target: number): boolean {
    const copied = this.page(target);
    return copied !== undefined && this.source.isWarm(copied.page, target & (PAGE - 1));
  }

  private build(): RegionPlan | undefined {
    const positions = [...this.leaders].filter((p) => this.placed.has(p)).sort((a, b) => a - b);
    const lowest = Math.floor((positions[0] ?? 0) / PAGE) * PAGE;
    const shift = -lowest;
    const blocks: Block[] = [];
    let nrInstructions = 0;
    for (const leader of positions) {
      const block: Block = { at: leader + shift, instructions: [], next: leader + shift, fallsThrough: true, isEntry: this.entries.has(leader) }; // prettier-ignore
      for (let at = leader; ;) {
        const one = this.placed.get(at);
        if (!one) break;
        const { instruction, traits, target } = one;
        block.instructions.push({
          at: at + shift,
          instruction,
          traits,
          target: target === undefined ? undefined : target + shift,
        });
        nrInstructions++;
        at += one.instruction.length;
        block.next = at + shift;
        block.fallsThrough = !one.instruction.row.ends && !one.traits.bails;
        if (!block.fallsThrough || this.leaders.has(at)) break;
      }
      // To enter for an instruction that is the interpreter's would lead nowhere.
      if (block.instructions[0]?.traits.bails) block.isEntry = false;
      blocks.push(block);
    }
    const pages = this.pagesOf(blocks, shift / PAGE);
    const indexOf = new Map(blocks.map((block, n) => [block.at, n]));
    if (!blocks.some((block) => block.isEntry)) return undefined;
    const pageNumbers = new Map([...pages.keys()].map((distance, n) => [distance, n]));
    const spans = this.spansOf(blocks, shift);
    return { pages, pageNumbers, blocks, indexOf, returnsOf: returnsOf(blocks, indexOf), nrInstructions, spans };
  }
  private spansOf(blocks: readonly Block[], shift: number): Span[] {
    const spans: Span[] = [];
    for (const { at, next } of blocks)
      for (let from = at; from < next;) {
        const to = Math.min(next, Math.floor(from / PAGE + 1) * PAGE);
        const bytes = this.pages.get(Math.floor((from - shift) / PAGE))?.bytes;
        if (bytes) spans.push({ at: from, bytes: bytes.slice(from & (PAGE - 1), (from & (PAGE - 1)) + to - from) });
        from = to;
      }
    return spans;
  }
  /** Pages that the blocks have bytes in. */
  private pagesOf(blocks: readonly Block[], shift: number): Map<number, CodePage> {
    const pages = new Map<number, CodePage>();
    for (const { at, instructions } of blocks) {
      const last = instructions.at(-1);
      const end = last ? last.at + last.instruction.length - 1 : at;
      for (let n = Math.floor(at / PAGE); n <= Math.floor(end / PAGE); n++) {
        const copied = this.pages.get(n - shift);
        if (copied) pages.set(n, copied.page);
      }
    }
    return pages;
  }
}

/** From each function that the region calls on, over calls but not into them, to its RETs. */
export function returnsOf(blocks: readonly Block[], indexOf: ReadonlyMap<number, number>): Map<number, number[]> {
  const comesBack = new Map<number, Set<number>>();
  for (const { instructions, next } of blocks) {
    const last = instructions.at(-1);
    if (last?.target === undefined || !CALLS.has(last.instruction.row.semantics)) continue;
    if (!indexOf.has(last.target) || !indexOf.has(next)) continue;
    const known = comesBack.get(last.target);
    if (known) known.add(next);
    else comesBack.set(last.target, new Set([next]));
  }
  const found = new Map<number, Set<number>>();
  for (const [start, positions] of comesBack) {
    const seen = new Set([start]);
    for (const at of seen) {
      const block = blocks[indexOf.get(at) ?? -1];
      const last = block?.instructions.at(-1);
      if (!block || !last) continue;
      const { row } = last.instruction;
      if (row.semantics === 'ret') {
        const known = found.get(last.at) ?? new Set();
        for (const position of positions) known.add(position);
        found.set(last.at, known);
        continue;
      }
      const isCall = CALLS.has(row.semantics);
      if (last.target !== undefined && !isCall) seen.add(last.target);
      if (block.fallsThrough || isCall || last.traits.bails) seen.add(block.next);
    }
  }
  return new Map([...found].map(([at, positions]) => [at, [...positions]]));
}

/** A plan for the code around `start`, an offset in the hot page. */
export function planRegion(source: CodeSource, start: number): RegionPlan | undefined {
  return new Planner(source).plan(start);
}
