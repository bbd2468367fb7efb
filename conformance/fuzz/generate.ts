/**
 * A program from a seed: nested counted loops, branches, calls and computed jumps over fragments that stand anywhere on
 * the code pages, filled with random instructions. Every loop counts in a place that nothing else writes, so that every
 * program ends; whoever takes a path is up to the values.
 */
import { Random } from '../cpu/random.ts';
import { Builder } from './builder.ts';
import { ALL_FLAGS } from './compare.ts';
import { faultSite } from './faults.ts';
import {
  aroundStack,
  divide,
  filler,
  flagEdges,
  frame,
  hiddenCode,
  patchByString,
  setFlags,
  stringOperation,
  translate,
} from './idioms.ts';
import { initialState } from './initial.ts';
import { RCX, andImmediate, addImmediate, loadAddress, loadConstant, randomInstruction, raw, type InstructionClass } from './instructions.ts'; // prettier-ignore
import { arrange } from './arrange.ts';
import { patchProgram } from './patches.ts';
import type { Item, Program } from './program.ts';
import { call, jcc, jmp, loop, pushAddress, resumeAt, ret, stop, storeAddress, storeCell, throughMemory, throughRegister } from './transfers.ts'; // prettier-ignore
import { CONTROL_BASE, DATA_BASE, DATA_PAGES, PAGE, READONLY_BASE } from './world.ts';

/** About how many instructions a program may execute: for all contestants, or without the oracle. */
export const SHORT_COST = 2_500;
const LONG_COSTS = [20_000, 20_000, 60_000, 300_000] as const;
/** Each patch in a loop costs a new translation. */
const PATCHED_COST = 6000;
/** One in so many programs is short enough for the oracle. */
const SHORT_ONE_IN = 4;
const MAX_DEPTH = 4;
const MAX_SUBROUTINES = 4;
/** Code that fits the pages with room for placing it anywhere. */
const MAX_STATIC = 900;
/** Of these, what subroutines never write. */
const NR_CALLER_REGISTERS = 4;
/** Registers that may be taken for pointers and counters: nothing uses them without naming them. */
const RESERVABLE = [5, 8, 9, 10, 11, 12, 13, 14, 15];

interface Subroutine {
  readonly label: string;
  /** Instructions of one call. */
  readonly cost: number;
}

/** What the program is mostly made of. */
interface Flavour {
  readonly weights: readonly InstructionClass[];
  /** One statement in so many is a fault site; 0: none. */
  readonly faultsOneIn: number;
  readonly nrPatches: number;
  readonly maxCost: number;
}

function flavour(random: Random): Flavour {
  const integer: InstructionClass[] = Array.from({ length: 12 }, () => 'integer');
  const simd: InstructionClass[] = ['sse', 'sse', 'sse', 'moves', 'moves'];
  const weights = random.pick([
    integer,
    integer,
    [...integer, ...simd],
    [...integer, ...simd, 'mmx', 'x87'] as const,
    [...simd, ...simd, 'integer', 'integer', 'integer'] as const,
    [...integer, 'avx', 'avx', 'avx', 'avx', 'moves'] as const,
    ['avx', 'avx', 'avx', 'avx', 'sse', 'integer'] as const,
    ['x87', 'x87', 'x87', 'integer', 'integer', 'moves'] as const,
  ]);
  const nrPatches = random.pick([0, 0, 0, 1, 2, 4, 10]);
  const long = random.pick(LONG_COSTS);
  return {
    weights,
    faultsOneIn: random.pick([0, 0, 30, 12]),
    nrPatches,
    maxCost: random.chance(SHORT_ONE_IN) ? SHORT_COST : nrPatches > 0 ? Math.min(long, PATCHED_COST) : long,
  };
}

class Generator {
  readonly #random: Random;
  readonly #flavour: Flavour;
  readonly #b: Builder;
  #subroutines: Subroutine[] = [];
  #statics = 0;
  /** Registers that loops may count and point with. */
  #countable: readonly number[] = [];
  #inMain = false;
  /** Registers of counters of the loops around, and how far they count. */
  #counters: { register: number; count: number }[] = [];

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#flavour = flavour(this.#random);
    this.#b = new Builder(this.#random, 'L');
  }

  generate(): Program | undefined {
    const random = this.#random;
    const b = this.#b;
    const state = initialState(random);
    const [first, second, ...rest] = shuffled(random, RESERVABLE);
    if (first === undefined || second === undefined) throw new Error('no registers');
    const inData = BigInt(DATA_BASE + PAGE + 64 * random.below(32));
    // The second stands right before a page's end.
    const atBorder = BigInt(DATA_BASE + 2 * PAGE - 16 * random.below(3));
    state.gpr[first] = inData;
    state.gpr[second] = atBorder;
    const around = (address: bigint): { below: number; above: number } => ({
      below: Math.min(0x800, Number(address) - DATA_BASE),
      above: Math.min(0x1000, READONLY_BASE - Number(address)),
    });
    b.pointers = [
      { register: first, ...around(inData) },
      { register: second, ...around(atBorder) },
    ];
    const plain = [0, 1, 2, 3, 6, 7];
    // Loops that call count in registers that subroutines leave alone.
    const callers = rest.splice(0, NR_CALLER_REGISTERS);
    b.free = [...plain, ...rest];
    this.#countable = rest;
    const nrSubroutines = random.below(MAX_SUBROUTINES + 1);
    for (let n = 0; n < nrSubroutines; n++) this.#subroutine();
    b.free = [...plain, ...rest, ...callers];
    this.#countable = callers;
    this.#inMain = true;
    const { maxCost } = this.#flavour;
    b.cost = 0;
    const entry = b.newLabel();
    b.label(entry);
    while (b.cost < maxCost && this.#statics < MAX_STATIC) {
      this.#statement(0);
      if (random.chance(25)) break;
    }
    b.emit(stop());
    b.cut();
    const items = patchProgram(random, b.finished, this.#flavour.nrPatches, b);
    const fragments = arrange(random, items);
    return fragments && { fragments, tables: b.tables, entry, ...state, cost: b.cost };
  }

  #subroutine(): void {
    const b = this.#b;
    const label = b.newLabel();
    const before = b.cost;
    b.cost = 0;
    b.label(label);
    const statements = 1 + this.#random.below(3);
    const budget = this.#flavour.maxCost / 40;
    for (let n = 0; n < statements && b.cost < budget; n++) this.#statement(MAX_DEPTH - 1, budget);
    b.emit(ret());
    b.cut();
    this.#subroutines.push({ label, cost: b.cost + 2 });
    b.cost = before;
  }

  /** Instructions that may still be executed here, each round of the loops around counted. */
  #room(limit: number): number {
    return Math.max(0, (limit - this.#b.cost) / this.#b.multiplicity);
  }

  #statement(depth: number, limit = this.#flavour.maxCost): void {
    const random = this.#random;
    const { faultsOneIn } = this.#flavour;
    this.#statics++;
    if (faultsOneIn > 0 && random.chance(faultsOneIn)) {
      this.#fault();
      return;
    }
    const choice = random.below(20);
    if (depth < MAX_DEPTH && choice < 4 && this.#room(limit) > 20) this.#loop(depth, limit);
    else if (choice < 7) this.#branch(depth, limit);
    else if (choice === 7) this.#call(limit);
    else if (choice === 8) this.#computedJump(depth, limit);
    else if (choice === 9) this.#elsewhere();
    else if (choice < 12) this.#idiom();
    else this.#straight(1 + random.below(10));
  }

  #straight(count: number): void {
    const b = this.#b;
    for (let n = 0; n < count; n++) {
      b.emit(...randomInstruction(b.scope, this.#random.pick(this.#flavour.weights)));
      this.#statics++;
    }
  }

  #idiom(): void {
    const b = this.#b;
    const random = this.#random;
    const body = (): void => {
      this.#straight(random.below(5));
    };
    switch (random.below(12)) {
      case 0: stringOperation(b); return;
      case 1: divide(b); return;
      case 2: aroundStack(b, body); return;
      case 3: frame(b, body); return;
      case 4: setFlags(b); return;
      case 5: translate(b); return;
      case 6: hiddenCode(b); return;
      case 7: filler(b); return;
      case 8: if (this.#flavour.nrPatches > 0) patchByString(b); return;
      default: flagEdges(b);
    }
  } // prettier-ignore

  /** A branch forward over something, with or without something else. */
  #branch(depth: number, limit: number): void {
    const b = this.#b;
    const random = this.#random;
    const [skip, end] = [b.newLabel(), b.newLabel()];
    this.#conditionSetter();
    b.emit(jcc(random.below(16), skip, { flippable: random.chance(3) }));
    this.#some(depth, limit);
    if (random.chance(2)) {
      b.emit(jmp(end));
      if (random.chance(3)) b.cut();
      b.label(skip);
      this.#some(depth, limit);
      b.label(end);
    } else b.label(skip);
  }

  /** Something that sets flags by values, or nothing: then they come from further back. */
  #conditionSetter(): void {
    const b = this.#b;
    const random = this.#random;
    const counter = this.#counters.at(-1);
    if (counter && random.chance(3)) {
      // TEST or CMP of a loop's counter: one round in some.
      const { register } = counter;
      b.emit(raw([0x40 | (register >> 3), 0xf6, 0xc0 | (register & 7), 1 << random.below(6)], { reads: 0, defines: ALL_FLAGS & ~0x10, undefines: 0x10 })); // prettier-ignore
    } else if (random.chance(2)) this.#straight(1);
  }

  #some(depth: number, limit: number): void {
    const count = this.#random.below(3);
    for (let n = 0; n < count; n++) this.#statement(depth + 1, limit);
    if (count === 0) this.#straight(1 + this.#random.below(3));
  }

  #call(limit: number): void {
    const b = this.#b;
    const random = this.#random;
    // A subroutine would count in its caller's registers.
    if (!this.#inMain && !this.#countable.every((register) => b.free.includes(register))) return;
    const affordable = this.#subroutines.filter(({ cost }) => cost < this.#room(limit));
    if (affordable.length === 0) return;
    const callee = random.pick(affordable);
    const register = random.pick(b.free);
    switch (random.below(5)) {
      case 0:
        b.emit(loadAddress(register, callee.label), throughRegister('call', register));
        break;
      case 1: {
        const cell = b.newCell();
        b.emit(storeAddress(cell, callee.label), throughMemory('call', cell, -1));
        break;
      }
      case 2: {
        // PUSH of where to go on, and a jump instead of a call.
        const back = b.newLabel();
        b.emit(pushAddress(back), jmp(callee.label));
        if (random.chance(2)) b.cut();
        b.label(back);
        break;
      }
      case 3: {
        // One of several by a value.
        const callees = Array.from({ length: 4 }, () => random.pick(affordable));
        this.#table('call', callees.map(({ label }) => label)); // prettier-ignore
        break;
      }
      default:
        b.emit(call(callee.label));
    }
    b.cost += b.multiplicity * callee.cost;
  }

  /** CALL or JMP through a table of four, by two bits of a register. */
  #table(kind: 'call' | 'jmp', labels: readonly string[]): void {
    const b = this.#b;
    const cell = b.newCell(labels.length);
    b.tables.push({ offset: cell - CONTROL_BASE, labels });
    const index = this.#random.pick(b.free);
    b.emit(andImmediate(index, labels.length - 1), throughMemory(kind, cell, index));
  }

  #computedJump(depth: number, limit: number): void {
    const b = this.#b;
    const random = this.#random;
    const end = b.newLabel();
    if (random.chance(3)) {
      // To the same place always: PUSH and RET, or a register.
      const register = random.pick(b.free);
      if (random.chance(2)) b.emit(pushAddress(end), ret());
      else b.emit(loadAddress(register, end), throughRegister('jmp', register));
      if (random.chance(2)) b.cut();
      b.label(end);
      return;
    }
    const labels = Array.from({ length: 4 }, () => b.newLabel());
    this.#table('jmp', labels);
    labels.forEach((label, n) => {
      if (random.chance(2)) b.cut();
      b.label(label);
      this.#straight(1 + random.below(4));
      if (n < 2 && depth < MAX_DEPTH) this.#statement(depth + 1, limit);
      b.emit(jmp(end));
    });
    if (random.chance(2)) b.cut();
    b.label(end);
  }

  /** Goes on at another place. */
  #elsewhere(): void {
    const b = this.#b;
    const next = b.newLabel();
    b.emit(jmp(next));
    b.cut();
    b.label(next);
  }

  #fault(): void {
    const b = this.#b;
    const random = this.#random;
    const counter = this.#counters.at(-1);
    if (!counter || random.chance(4)) {
      // In a loop the first round takes it, and eleven more.
      if (b.multiplicity <= 4) faultSite(b);
      return;
    }
    const skip = b.newLabel();
    const round = 1 + random.below(counter.count);
    const { register } = counter;
    // CMP counter, round
    b.emit(raw([0x48 | (register >> 3), 0x81, 0xf8 | (register & 7), ...[0, 8, 16, 24].map((s) => (round >> s) & 255)], { reads: 0, defines: ALL_FLAGS, undefines: 0 })); // prettier-ignore
    b.emit(jcc(random.chance(4) ? 2 : 5, skip));
    faultSite(b);
    b.label(skip);
  }

  // Loops --------------------------------------------------------------------------------------------------------------
  #loop(depth: number, limit: number): void {
    const random = this.#random;
    const b = this.#b;
    const room = Math.floor(this.#room(limit) / 12);
    const wished = random.pick([2, 5, 30, 300, 1500, 5000]);
    const count = 1 + random.below(Math.max(1, Math.min(wished, room)));
    const share = b.cost + count * b.multiplicity * Math.max(12, this.#room(limit) / count / (depth === 0 ? 1 : 2));
    const candidates = this.#countable.filter((r) => b.free.includes(r));
    const counter = random.pick(candidates);
    if (candidates.length < 2) {
      this.#straight(4);
      return;
    }
    const walking = random.chance(3) ? random.pick(candidates.filter((r) => r !== counter)) : undefined;
    if (walking === undefined)
      this.#countedLoop(counter, count, () => { this.#body(depth, share); }); // prettier-ignore
    else this.#walkingLoop(depth, share, counter, count, walking);
  }

  /** A pointer walks over the data, perhaps off its end. */
  #walkingLoop(depth: number, limit: number, counter: number, count: number, walking: number): void {
    const random = this.#random;
    const b = this.#b;
    const stride = random.pick([1, 2, 4, 8, 16, 24, 64]);
    const reach = DATA_PAGES * PAGE - 256;
    const fits = count * stride < reach;
    const falls = random.chance(4);
    if (!fits && !falls) {
      this.#countedLoop(counter, Math.max(1, Math.min(count, 40)), () => { this.#body(depth, limit); }); // prettier-ignore
      return;
    }
    const end = b.newLabel();
    const start = falls ? READONLY_BASE - random.below(Math.min(count * stride, reach)) : DATA_BASE + 128 + random.below(reach - count * stride); // prettier-ignore
    b.emit(loadConstant(walking, BigInt(start & -16)));
    if (falls) b.emit(resumeAt(end));
    b.withPointer({ register: walking, below: falls ? 0 : 96, above: 112 }, () => {
      this.#countedLoop(counter, count, () => {
        this.#body(depth, limit);
        b.emit(addImmediate(walking, stride));
      });
    });
    b.label(end);
  }

  #body(depth: number, limit: number): void {
    const random = this.#random;
    const statements = 1 + random.below(4);
    for (let n = 0; n < statements; n++) this.#statement(depth + 1, limit);
  }

  #countedLoop(counter: number, count: number, body: () => void): void {
    const b = this.#b;
    const end = b.newLabel();
    b.reserve([counter], () => {
      this.#loopForm(counter, count, end, body);
    });
    b.label(end);
  }

  /** The forms in which compilers and people count. */
  #loopForm(counter: number, count: number, end: string, body: () => void): void {
    const b = this.#b;
    const random = this.#random;
    const head = b.newLabel();
    const rounds = (extra: () => void = () => undefined): void => {
      b.repeated(count, () => {
        this.#counters.push({ register: counter, count });
        body();
        this.#counters.pop();
        extra();
      });
    };
    const leave = (): void => {
      if (!random.chance(4)) return;
      b.emit(jcc(random.below(16), end));
    };
    const wide = 0x48 | (counter >> 3);
    const low = counter & 7;
    const arithmetic = { reads: 0, defines: ALL_FLAGS, undefines: 0 };
    switch (random.below(7)) {
      case 0: // down to zero: DEC, JNZ
        b.emit(loadConstant(counter, BigInt(count)));
        b.label(head);
        rounds(leave);
        b.settleFlags();
        b.emit(raw([wide, 0xff, 0xc8 | low], { reads: 0, defines: ALL_FLAGS & ~1, undefines: 0 }), jcc(5, head));
        break;
      case 1: // down by SUB, signed
        b.emit(loadConstant(counter, BigInt(count)));
        b.label(head);
        rounds();
        b.emit(raw([wide, 0x83, 0xe8 | low, 1], arithmetic), jcc(15, head));
        break;
      case 2: // up to a limit: INC, CMP, JB
        b.emit(loadConstant(counter, 0n));
        b.label(head);
        rounds(leave);
        b.emit(addImmediate(counter, 1));
        b.emit(raw([wide, 0x81, 0xf8 | low, ...[0, 8, 16, 24].map((s) => (count >> s) & 255)], arithmetic), jcc(2, head));
        break;
      case 3: { // counted in memory
        const cell = b.newCell();
        const target = { at: 4, size: 4, relative: false, target: cell, addend: 0 } as const;
        b.emit(storeCell(cell, count));
        b.label(head);
        b.repeated(count, body);
        if (random.chance(2)) b.emit({ ...raw([0x48, 0x83, 0x2c, 0x25, 0, 0, 0, 0, 1], arithmetic), fixups: [target] }, jcc(7, head), );
        else {
          b.settleFlags();
          b.emit({ ...raw([0x48, 0xff, 0x0c, 0x25, 0, 0, 0, 0], { reads: 0, defines: ALL_FLAGS & ~1, undefines: 0 }), fixups: [target] }, jcc(5, head));
        }
        break;
      }
      case 4: // tested at the top
        b.emit(loadConstant(counter, 0n));
        b.label(head);
        b.emit(raw([wide, 0x81, 0xf8 | low, ...[0, 8, 16, 24].map((s) => (count >> s) & 255)], arithmetic), jcc(13, end));
        rounds(leave);
        b.emit(addImmediate(counter, 1), jmp(head));
        break;
      case 5: { // entered in the middle
        const middle = b.newLabel();
        b.emit(loadConstant(counter, BigInt(count)), jmp(middle));
        if (random.chance(2)) b.cut();
        b.label(head);
        b.repeated(count, () => { this.#straight(1 + random.below(4)); });
        b.label(middle);
        rounds();
        b.settleFlags();
        b.emit(raw([wide, 0xff, 0xc8 | low], { reads: 0, defines: ALL_FLAGS & ~1, undefines: 0 }), jcc(5, head));
        break;
      }
      default: // LOOP and its kin: near, so with little inside
        this.#loopInstruction(count, head, end);
    }
  } // prettier-ignore

  #loopInstruction(count: number, head: string, end: string): void {
    const b = this.#b;
    const random = this.#random;
    if (!b.free.includes(RCX)) return;
    b.emit(loadConstant(RCX, BigInt(count)));
    b.label(head);
    b.repeated(count, () => {
      b.reserve([RCX], () => {
        for (let n = random.below(6); n >= 0; n--) b.emit(...randomInstruction(b.scope, 'integer'));
        if (random.chance(4)) b.emit(loop(0xe3, end));
        b.emit(loop(random.pick([0xe0, 0xe1, 0xe2, 0xe2, 0xe2]), head));
      });
    });
  }
}

export function shuffled<T>(random: Random, list: readonly T[]): T[] {
  const result = [...list];
  for (let n = result.length - 1; n > 0; n--) {
    const m = random.below(n + 1);
    [result[n], result[m]] = [result[m] as T, result[n] as T];
  }
  return result;
}

/** Undefined when it came out too long to be placed. */
export function generateProgram(seed: number): Program | undefined {
  return new Generator(seed).generate();
}

export type { Item };
