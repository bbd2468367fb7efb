/** Gives fragments their addresses: anywhere on the code pages, now and then across the end of one. */
import type { Random } from '../cpu/random.ts';
import { CODE_END, type Fragment, type Item } from './program.ts';
import { CODE_BASE, CODE_PAGES, PAGE } from './world.ts';

const TRIES = 60;
const ACROSS_ONE_IN = 3;

/** Undefined when they do not fit. */
export function arrange(random: Random, fragments: readonly (readonly Item[])[]): Fragment[] | undefined {
  const taken: [number, number][] = [];
  const isFree = (from: number, bytes: number): boolean =>
    from >= CODE_BASE && from + bytes <= CODE_END && taken.every(([a, b]) => from + bytes <= a || from >= b);
  const placed: Fragment[] = [];
  const bySize = fragments.map((items) => ({ items, bytes: sizeOf(items) })).sort((a, b) => b.bytes - a.bytes);
  for (const { items, bytes } of bySize) {
    let address: number | undefined;
    for (let n = 0; n < TRIES && address === undefined; n++) {
      const across = random.chance(ACROSS_ONE_IN);
      const border = CODE_BASE + PAGE * (1 + random.below(CODE_PAGES - 1));
      const wished = across
        ? border - 1 - random.below(Math.max(1, bytes))
        : CODE_BASE + random.below(CODE_PAGES * PAGE);
      if (isFree(wished, bytes)) address = wished;
    }
    for (let at = CODE_BASE; at < CODE_END && address === undefined; at += 16) if (isFree(at, bytes)) address = at;
    if (address === undefined) return undefined;
    taken.push([address, address + bytes]);
    placed.push({ address, items });
  }
  return placed;
}

function sizeOf(items: readonly Item[]): number {
  return items.reduce((sum, item) => sum + (item.kind === 'insn' ? item.bytes.length : 0), 0);
}
