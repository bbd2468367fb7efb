/** The flow of a region: its edges, its loops as properly nested intervals of blocks, and where flags must be known. */
import type { RegionShape } from './plan.ts';

export interface Loop {
  readonly start: number;
  /** The last block. */
  end: number;
  readonly inner: Loop[];
}

export interface Flow {
  /** Outermost loops in order. */
  readonly loops: readonly Loop[];
  /** Blocks that are entered by number: from outside, by calls and returns, or into the middle of a loop. */
  readonly dispatched: ReadonlySet<number>;
  /** Ways into each block. */
  readonly nrWaysIn: readonly number[];
  /** Somebody may see the flags that a block is entered with. */
  readonly needsFlags: readonly boolean[];
  /** Flags may be `joined` at its start: they are all set anew before anything is computed with them. */
  readonly joins: readonly boolean[];
}

interface Edge {
  readonly from: number;
  readonly to: number;
}

/** Ways from block to block, those that are taken by number (calls and returns) apart. */
function edgesOf(plan: RegionShape): { jumps: Edge[]; calls: Edge[] } {
  const jumps: Edge[] = [];
  const calls: Edge[] = [];
  plan.blocks.forEach((block, from) => {
    for (const one of block.instructions) {
      const { row, repeat } = one.instruction;
      if (row.repeatable && repeat !== 'none') jumps.push({ from, to: plan.indexOf.get(one.at) ?? from });
      if (row.semantics === 'ret')
        for (const position of plan.returnsOf.get(one.at) ?? [])
          calls.push({ from, to: plan.indexOf.get(position) ?? 0 });
      const { target } = one;
      const to = target === undefined ? undefined : plan.indexOf.get(target);
      if (to !== undefined) (row.semantics === 'call' ? calls : jumps).push({ from, to });
    }
    const next = block.fallsThrough ? plan.indexOf.get(block.next) : undefined;
    if (next !== undefined) jumps.push({ from, to: next });
  });
  return { jumps, calls };
}

/** One interval for each block that is jumped back to, widened until they nest. */
function loopsOf(jumps: readonly Edge[]): Loop[] {
  const ends = new Map<number, number>();
  for (const { from, to } of jumps) if (to <= from) ends.set(to, Math.max(ends.get(to) ?? 0, from));
  const all = [...ends].map(([start, end]): Loop => ({ start, end, inner: [] })).sort((a, b) => a.start - b.start);
  for (let changed = true; changed;) {
    changed = false;
    for (const outer of all)
      for (const inner of all)
        if (inner.start > outer.start && inner.start <= outer.end && inner.end > outer.end) {
          outer.end = inner.end;
          changed = true;
        }
  }
  const top: Loop[] = [];
  const open: Loop[] = [];
  for (const loop of all) {
    while (open.length > 0 && (open.at(-1)?.end ?? 0) < loop.start) open.pop();
    (open.at(-1)?.inner ?? top).push(loop);
    open.push(loop);
  }
  return top;
}

function enteredInTheMiddle(jumps: readonly Edge[], loops: readonly Loop[], into: Set<number>): void {
  for (const { start, end, inner } of loops) {
    for (const { from, to } of jumps) if (to > start && to <= end && (from < start || from > end)) into.add(to);
    enteredInTheMiddle(jumps, inner, into);
  }
}

export function flowOf(plan: RegionShape): Flow {
  const { jumps, calls } = edgesOf(plan);
  const loops = loopsOf(jumps);
  const dispatched = new Set<number>();
  plan.blocks.forEach((block, n) => {
    if (block.isEntry) dispatched.add(n);
  });
  for (const { to } of calls) dispatched.add(to);
  enteredInTheMiddle(jumps, loops, dispatched);
  const nrWaysIn: number[] = plan.blocks.map((block) => (block.isEntry ? 1 : 0));
  for (const { to } of [...jumps, ...calls]) nrWaysIn[to] = (nrWaysIn[to] ?? 0) + 1;
  return { loops, dispatched, nrWaysIn, needsFlags: flagNeeds(plan), joins: joinsOf(plan) };
}

/** Whether the flags are looked at after a way to `position` from block `from`; leaving or jumping back may end the run. */
function isSeenAfter(plan: RegionShape, needs: readonly boolean[], from: number, position: number): boolean {
  const to = plan.indexOf.get(position);
  return to === undefined || to <= from || (needs[to] ?? true);
}

/** Whether somebody may see the flags that a block is entered with; `note` is told the same of each of its instructions' ends. */
function flagsSeen(plan: RegionShape, needs: readonly boolean[], n: number, note?: boolean[]): boolean {
  const block = plan.blocks[n];
  if (!block) return true;
  const { instructions } = block;
  let seen = block.fallsThrough ? isSeenAfter(plan, needs, n, block.next) : false;
  for (let i = instructions.length - 1; i >= 0; i--) {
    const one = instructions[i];
    if (!one) continue;
    const { row, repeat } = one.instruction;
    const { target } = one;
    // Calls may end the run as jumps back do.
    if (target !== undefined) seen ||= row.semantics === 'call' || isSeenAfter(plan, needs, n, target);
    if (row.repeatable && repeat !== 'none') seen = true;
    if (note) note[i] = seen;
    if (one.traits.flags === 'observe' || one.traits.bails) seen = true;
    else if (one.traits.flags === 'kill') seen = false;
  }
  return seen;
}

/** For each instruction of a block: whether somebody may see the flags as they are after it. */
export function flagsSeenAfter(plan: RegionShape, needs: readonly boolean[], n: number): boolean[] {
  const seenAfter: boolean[] = [];
  flagsSeen(plan, needs, n, seenAfter);
  return seenAfter;
}

function flagNeeds(plan: RegionShape): boolean[] {
  const needs = plan.blocks.map(() => false);
  for (let changed = true; changed;) {
    changed = false;
    for (let n = plan.blocks.length - 1; n >= 0; n--) {
      if (needs[n] || !flagsSeen(plan, needs, n)) continue;
      needs[n] = true;
      changed = true;
    }
  }
  return needs;
}

/** True where flags are all set, or code of this region is left, before anything is computed with them. */
function joinsOf(plan: RegionShape): boolean[] {
  const joins = plan.blocks.map(() => true);
  const mayGo = (position: number): boolean => {
    const to = plan.indexOf.get(position);
    return to === undefined || (joins[to] ?? true);
  };
  const check = (n: number): boolean => {
    const block = plan.blocks[n];
    if (!block) return true;
    for (const { at, instruction, traits, target } of block.instructions) {
      if (traits.bails) return true;
      if (traits.usesFlags) return false;
      if (traits.setsFlags) return true;
      if (target !== undefined && !mayGo(target)) return false;
      if (instruction.row.semantics === 'ret' && !(plan.returnsOf.get(at) ?? []).every(mayGo)) return false;
    }
    return !block.fallsThrough || mayGo(block.next);
  };
  for (let changed = true; changed;) {
    changed = false;
    for (let n = plan.blocks.length - 1; n >= 0; n--)
      if (joins[n] && !check(n)) {
        joins[n] = false;
        changed = true;
      }
  }
  return joins;
}
