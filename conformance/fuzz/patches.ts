/**
 * Self-modification: stores into instructions of the program, put anywhere into it. They change what an instruction
 * computes, never how often a loop runs, and touch neither flags nor registers.
 */
import type { Random } from '../cpu/random.ts';
import type { Builder } from './builder.ts';
import { little } from './encode.ts';
import { raw } from './instructions.ts';
import type { Insn, Item, Patchable } from './program.ts';
import { ALIAS_BASE, CODE_BASE } from './world.ts';

/** One patch in so many goes through the other address of the frame. */
const ALIAS_ONE_IN = 4;
/** One in so many stands right before what it patches. */
const BEFORE_ONE_IN = 5;

export function patchProgram(random: Random, fragments: Item[][], count: number, b: Builder): Item[][] {
  let result = fragments.map((items) => [...items]);
  for (const wanted of b.wantedMarks) result = placeMark(random, result, wanted);
  for (let n = 0; n < count; n++) {
    const targets = result.flatMap((items, f) =>
      items.flatMap((item, i) => (item.kind === 'insn' && item.patch ? [{ f, i, patch: item.patch }] : [])),
    );
    if (targets.length === 0) break;
    const { f, i, patch } = random.pick(targets);
    const name = b.newLabel();
    result[f]?.splice(i, 0, { kind: 'label', name, isMark: true });
    const insn = patchInsn(random, name, patch);
    // By instructions, not by fragments: a long one is more often hit.
    // Never between a mark and what it stands before.
    const places = result.flatMap((items, at) => items.flatMap((_, index) => (isMark(items[index - 1]) ? [] : [{ at, index }]))); // prettier-ignore
    const place = random.chance(BEFORE_ONE_IN)
      ? { at: f, index: beforeMarks(result[f] ?? [], i) }
      : random.pick(places);
    result[place.at]?.splice(place.index, 0, insn);
  }
  return result;
}

const isMark = (item: Item | undefined): boolean => item?.kind === 'label' && item.isMark;

function beforeMarks(items: readonly Item[], index: number): number {
  let at = index;
  while (isMark(items[at - 1])) at--;
  return at;
}

/** Puts a mark before something with an immediate of the size; whoever names the mark means the immediate. */
function placeMark(random: Random, fragments: Item[][], { name, size }: { name: string; size: 1 | 4 }): Item[][] {
  const targets = fragments.flatMap((items, f) =>
    items.flatMap((item, i) =>
      item.kind === 'insn' && item.patch?.kind === 'immediate' && item.patch.size === size ? [{ f, i, at: item.patch.at }] : [],
    ),
  ); // prettier-ignore
  // Nothing of the kind: the last bytes of code, which nobody reaches.
  if (targets.length === 0) return fragments;
  const { f, i, at } = random.pick(targets);
  fragments[f]?.splice(i, 0, { kind: 'label', name, isMark: true });
  return fragments.map((items) => items.map((item) => (item.kind === 'insn' ? shifted(item, name, at) : item)));
}

/** The instruction with what it says of `name` moved on. */
function shifted(insn: Insn, name: string, by: number): Insn {
  if (!insn.fixups.some(({ target }) => target === name)) return insn;
  const fixups = insn.fixups.map((fixup) => (fixup.target === name ? { ...fixup, addend: fixup.addend + by } : fixup));
  return { ...insn, fixups };
}

/** MOV or NOT of memory at the place to be patched: RIP-relative, absolute, or through the alias. */
function patchInsn(random: Random, name: string, patch: Patchable): Insn {
  const isAlias = random.chance(ALIAS_ONE_IN);
  const relative = !isAlias && random.chance(2);
  const offset = patch.kind === 'dword' ? 0 : patch.at;
  const addend = offset + (isAlias ? ALIAS_BASE - CODE_BASE : 0);
  const size = patch.kind === 'immediate' ? patch.size : patch.kind === 'byte' ? 1 : 4;
  const store = (opcode: number, field: number, immediate: readonly number[], rex: readonly number[] = []): Insn => {
    const head = [...rex, opcode, (field << 3) | (relative ? 5 : 4), ...(relative ? [] : [0x25])];
    return {
      ...raw([...head, 0, 0, 0, 0, ...immediate]),
      fixups: [{ at: head.length, size: 4, relative, target: name, addend }],
    };
  };
  if (patch.kind === 'byte') return store(0xc6, 0, [random.pick(patch.values)]);
  if (patch.kind === 'dword') return store(0xc7, 0, little(random.pick(patch.values), 4));
  const small = size === 1;
  switch (random.below(small ? 3 : 4)) {
    case 3: {
      // MOVD from an XMM register.
      const head = [0x66, 0x0f, 0x7e, (random.below(8) << 3) | (relative ? 5 : 4), ...(relative ? [] : [0x25])];
      return { ...raw([...head, 0, 0, 0, 0]), fixups: [{ at: head.length, size: 4, relative, target: name, addend }] };
    }
    case 0: {
      // From a register, whatever it holds.
      const register = random.below(16);
      return store(small ? 0x88 : 0x89, register & 7, [], [0x40 | ((register >> 3) << 2)]);
    }
    case 1:
      return store(small ? 0xf6 : 0xf7, 2, []);
    default:
      return store(small ? 0xc6 : 0xc7, 0, little(random.integer(), size));
  }
}
