/** Runs programs on all contestants and says who differs from whom. */
import { compareRuns, type Difference } from './compare.ts';
import { undefinedAt, type Layout, type Program } from './program.ts';
import type { Contestant, Run } from './world.ts';

export interface Entry {
  readonly seed: number;
  readonly program: Program;
  readonly layout: Layout;
}

export interface Mismatch {
  readonly entry: Entry;
  /** Who is taken to be right. */
  readonly reference: Contestant;
  readonly contestant: Contestant;
  readonly expected: Run;
  readonly actual: Run;
  readonly differences: readonly Difference[];
}

export interface Verdict {
  readonly mismatches: readonly Mismatch[];
  /** Programs that were not compared on the processor: they hung there, or left by a system call. */
  readonly skipped: number;
}

/** Differences between two runs of one program; none where one of the two tells nothing. */
export function differencesOf(layout: Layout, reference: Contestant, expected: Run, actual: Run): Difference[] {
  // A run that hangs is stopped at a place of its own.
  if (expected.end !== 'done' || actual.end === 'timeout') return [];
  return compareRuns(expected, actual, reference.ours ? undefined : undefinedAt(layout));
}

/**
 * `contestants` in the order of trust: each is compared with the first one, and with the first of ours, whose flags
 * count in full; those two must take part in every program.
 */
export function judge(
  entries: readonly Entry[],
  contestants: readonly Contestant[],
  takesPart: (contestant: Contestant, entry: Entry) => boolean,
): Verdict {
  const runs = new Map<Contestant, (Run | undefined)[]>();
  for (const contestant of contestants) {
    const taken = entries.filter((entry) => takesPart(contestant, entry));
    const results = contestant.run(taken.map(({ layout }) => layout.image));
    runs.set(contestant, entries.map((entry) => results[taken.indexOf(entry)])); // prettier-ignore
  }
  const [first] = contestants;
  const ours = contestants.find((contestant) => contestant.ours);
  const mismatches: Mismatch[] = [];
  let skipped = 0;
  entries.forEach((entry, n) => {
    if (first && runs.get(first)?.[n]?.end !== 'done') skipped++;
    const blamed = new Set<Contestant>();
    for (const reference of new Set([first, ours]))
      for (const contestant of contestants) {
        const expected = reference && runs.get(reference)?.[n];
        const actual = runs.get(contestant)?.[n];
        if (!expected || !actual || contestant === reference || blamed.has(contestant)) continue;
        if (reference === ours && contestant === first) continue;
        const differences = differencesOf(entry.layout, reference, expected, actual);
        if (differences.length === 0) continue;
        blamed.add(contestant);
        mismatches.push({ entry, reference, contestant, expected, actual, differences });
      }
  });
  return { mismatches, skipped };
}
