/** Makes a program that shows a mismatch smaller for as long as it still shows one. */
import { differencesOf, type Entry, type Mismatch } from './judge.ts';
import { isWellDefined, layOut, type Insn, type Item, type Program } from './program.ts';
import { IMAGE_BYTES, type Contestant } from './world.ts';

const NOP = 0x90;

type Attempt = (program: Program) => Mismatch | undefined;

/** Positions of instructions, over all fragments. */
interface Place {
  readonly fragment: number;
  readonly item: number;
}

export interface ShrinkOptions {
  readonly timeLimitMs: number;
  /** New contestants for each attempt, where what ran before matters. */
  readonly contestants: () => { reference: Contestant; contestant: Contestant };
}

export function shrink(found: Mismatch, options: ShrinkOptions): Mismatch {
  const deadline = Date.now() + options.timeLimitMs;
  let best = found;
  const attempt: Attempt = (program) => {
    if (Date.now() > deadline) return undefined;
    const { reference, contestant } = options.contestants();
    if (!reference.ours && !isWellDefined(program)) return undefined;
    const layout = layOut(program);
    if (!layout) return undefined;
    const [actual] = contestant.run([layout.image]);
    const [expected] = reference.run([layout.image]);
    if (!expected || !actual) return undefined;
    const differences = differencesOf(layout, reference, expected, actual);
    const entry: Entry = { seed: found.entry.seed, program, layout };
    return differences.length > 0 ? { entry, reference, contestant, expected, actual, differences } : undefined;
  };
  const keep = (program: Program): boolean => {
    const result = attempt(program);
    if (result) best = result;
    return result !== undefined;
  };
  for (let before = Infinity; before > nrInstructions(best.entry.program) && Date.now() < deadline;) {
    before = nrInstructions(best.entry.program);
    dropChunks(() => best.entry.program, keep);
    for (const place of places(best.entry.program)) keep(edit(best.entry.program, [place], toNops));
  }
  simplifyState(() => best.entry.program, keep);
  return best;
}

function nrInstructions(program: Program): number {
  return places(program).length;
}

function places(program: Program): Place[] {
  return program.fragments.flatMap(({ items }, fragment) =>
    items.flatMap((item, n) => (item.kind === 'insn' && !isNops(item) ? [{ fragment, item: n }] : [])),
  );
}

const isNops = ({ bytes }: Insn): boolean => bytes.every((byte) => byte === NOP);

/** Where the distance to something else matters, its place is kept. */
function toNops(insn: Insn): Insn[] {
  return [
    { kind: 'insn', bytes: insn.bytes.map(() => NOP), fixups: [], flags: { reads: 0, defines: 0, undefines: 0 } },
  ];
}

/** An instruction goes with its marks: what wrote over it must not write over the next one. */
function edit(program: Program, where: readonly Place[], change: (insn: Insn) => Item[]): Program {
  const fragments = program.fragments.map((fragment, f) => {
    const isEdited = (i: number): boolean => where.some((place) => place.fragment === f && place.item === i);
    const items = fragment.items.flatMap((item, i): Item[] => {
      if (item.kind === 'insn') return isEdited(i) ? change(item) : [item];
      if (!item.isMark) return [item];
      let target = i + 1;
      while (fragment.items[target]?.kind === 'label') target++;
      return isEdited(target) ? [] : [item];
    });
    return { ...fragment, items };
  });
  return { ...program, fragments };
}

function dropChunks(current: () => Program, keep: (program: Program) => boolean): void {
  for (let size = nrInstructions(current()) >> 1; size >= 1; size >>= 1)
    for (let at = 0; at < nrInstructions(current());) {
      const chunk = places(current()).slice(at, at + size);
      if (!keep(edit(current(), chunk, () => []))) at += size;
    }
}

/** Registers and memory as plain as they can be. */
function simplifyState(current: () => Program, keep: (program: Program) => boolean): void {
  keep({ ...current(), memory: new Uint8Array(IMAGE_BYTES) });
  keep({ ...current(), rflags: 2n });
  for (let n = 0; n < 16; n++) {
    const gpr = current().gpr.slice();
    if (n === 4 || gpr[n] === 0n) continue;
    gpr[n] = 0n;
    keep({ ...current(), gpr });
  }
}
