/** Where a program under construction is written to: fragments, labels, free registers, flags, and what it costs. */
import type { Random } from '../cpu/random.ts';
import { ALL_FLAGS, FLAGS } from './compare.ts';
import { addImmediate, raw, type Pointer, type Scope } from './instructions.ts';
import { undefinedAfter, type Insn, type Item, type JumpTable } from './program.ts';
import { CONTROL_BASE } from './world.ts';

/** Cells of the control page that are handed out; the first quadwords belong to the resume cell. */
const FIRST_CELL = 0x40;

export class Builder {
  readonly random: Random;
  readonly finished: Item[][] = [];
  readonly tables: JumpTable[] = [];
  /** Marks that instructions already name, to be put before something that may be written over so many bytes at most. */
  readonly wantedMarks: { readonly name: string; readonly size: 1 | 4 }[] = [];
  free: number[] = [];
  pointers: Pointer[] = [];
  undefinedFlags: number = FLAGS.af;
  /** How often what is emitted now is executed. */
  multiplicity = 1;
  cost = 0;
  #items: Item[] = [];
  #nextLabel = 0;
  #nextCell = FIRST_CELL;
  readonly #prefix: string;

  constructor(random: Random, prefix: string) {
    this.random = random;
    this.#prefix = prefix;
  }

  get scope(): Scope {
    const { random, free, pointers, undefinedFlags } = this;
    return { random, free, pointers, undefinedFlags };
  }

  newLabel(): string {
    return `${this.#prefix}${this.#nextLabel++}`;
  }

  /** Address of a quadword that nothing else touches. */
  newCell(quadwords = 1): number {
    const at = this.#nextCell;
    this.#nextCell += 8 * quadwords;
    return CONTROL_BASE + at;
  }

  emit(...insns: readonly Insn[]): void {
    for (const insn of insns) {
      if (insn.transfers) this.settleFlags(insn.flags.reads);
      this.#items.push(insn);
      this.undefinedFlags = insn.transfers ? FLAGS.af : undefinedAfter(this.undefinedFlags, insn.flags);
    }
    this.cost += this.multiplicity * insns.length;
  }

  /** Makes flags defined, where control may come together or somebody reads them. */
  settleFlags(read = 0): void {
    if ((this.undefinedFlags & ~FLAGS.af) === 0 && (this.undefinedFlags & read) === 0) return;
    const { random } = this;
    const register = random.pick(this.free);
    // ADD, or a CMP that changes nothing.
    const compare = raw([0x48 | (register >> 3), 0x83, 0xf8 | (register & 7), random.below(256)], { reads: 0, defines: ALL_FLAGS, undefines: 0 }); // prettier-ignore
    this.emit(random.chance(2) ? compare : addImmediate(register, random.below(1000)));
  }

  label(name: string): void {
    this.settleFlags();
    this.#items.push({ kind: 'label', name, isMark: false });
    this.undefinedFlags = FLAGS.af;
  }

  mark(name: string): void {
    this.#items.push({ kind: 'label', name, isMark: true });
  }

  /** What comes next stands elsewhere; the last instruction must not fall through. */
  cut(): void {
    this.finished.push(this.#items);
    this.#items = [];
    this.undefinedFlags = FLAGS.af;
  }

  /** Runs `body` with registers taken out of those that may be written. */
  reserve(registers: readonly number[], body: () => void): void {
    const before = this.free;
    this.free = before.filter((register) => !registers.includes(register));
    body();
    this.free = before;
  }

  withPointer(pointer: Pointer, body: () => void): void {
    const before = this.pointers;
    this.pointers = [...before, pointer];
    this.reserve([pointer.register], body);
    this.pointers = before;
  }

  repeated(times: number, body: () => void): void {
    const before = this.multiplicity;
    this.multiplicity = before * times;
    body();
    this.multiplicity = before;
  }
}
