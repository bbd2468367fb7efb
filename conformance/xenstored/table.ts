/**
 * The scripted table: who sends what, and what comes back, on any daemon. Guests speak over real rings. Answers are the C
 * daemon's, which runs the table too where it is there.
 */
import type { Report } from '@xenhost/testkit';
import { assert } from '@xenhost/testkit';
import type { Kind } from '../lib/xen/daemons.ts';
import type { DebianXen } from '../lib/xen/debian.ts';
import { control } from './tables/control.ts';
import { domains } from './tables/domains.ts';
import { nodes } from './tables/nodes.ts';
import { permissions } from './tables/permissions.ts';
import { quotas } from './tables/quotas.ts';
import { transactions } from './tables/transactions.ts';
import { watches } from './tables/watches.ts';
import { World } from './world.ts';
import type { Step } from './world.ts';

/** Scripts by name; each has a daemon of its own, with the guests 5 and 6. */
export type Tables = Readonly<Record<string, readonly Step[]>>;

const TABLES: Readonly<Record<string, Tables>> = {
  nodes,
  permissions,
  watches,
  transactions,
  domains,
  control,
  quotas,
};
const GUESTS = [5, 6] as const;

export async function runTables(kind: Kind, debian: DebianXen | undefined, report: Report): Promise<void> {
  for (const [group, tables] of Object.entries(TABLES)) {
    for (const [name, steps] of Object.entries(tables)) {
      await report.case(`table, ${kind}: ${group}: ${name}`, () => runTable(kind, debian, steps));
    }
  }
}

async function runTable(kind: Kind, debian: DebianXen | undefined, steps: readonly Step[]): Promise<string> {
  await using world = await World.open(kind, debian);
  for (const domid of GUESTS) await world.addGuest(domid);
  const wrong: string[] = [];
  for (const step of steps) {
    const [who, op, payload, ...expected] = step;
    const said = (await world.step(step)).map((each) =>
      op === 'DIRECTORY_PART' ? each.replace(/^\d+\|/, 'GEN|') : each,
    );
    if (JSON.stringify(said) === JSON.stringify(expected)) continue;
    wrong.push(
      `${who} ${op} ${JSON.stringify(payload)}: ${JSON.stringify(said)} instead of ${JSON.stringify(expected)}`,
    );
  }
  assert(wrong.length === 0, wrong.join('\n       '));
  return `${steps.length} steps`;
}
