/**
 * xend on a live host, as the programs that were written for Xen's own see it: a contract of all legacy methods, Python's
 * xmlrpc.client, npm's xen-api, xm's texts character by character with either server, kill -9 at every step, races, and bad
 * requests.
 *   --only NAME   contract, python, xen-api, texts, xm-api, crashes, races, doors, ssh or pam
 */
import { parseArgs } from 'node:util';
import { Report } from '@xenhost/testkit';
import { runContract } from './contract.ts';
import { runPam } from './pam.ts';
import { runPython } from './python.ts';
import { runCrashes } from './crashes.ts';
import { runDoors } from './doors.ts';
import { runRaces } from './races.ts';
import { runSsh } from './ssh.ts';
import { runTexts } from './texts.ts';
import { World } from './world.ts';
import { runXenApi } from './xen-api.ts';
import { runXmXenApi } from './xm-xen-api.ts';

const PARTS = {
  contract: runContract,
  python: runPython,
  'xen-api': runXenApi,
  texts: runTexts,
  'xm-api': runXmXenApi,
  crashes: runCrashes,
  races: runRaces,
  doors: runDoors,
  ssh: runSsh,
  pam: runPam,
} as const satisfies Record<string, (world: World, report: Report) => Promise<void>>;

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: { only: { type: 'string' } } });
  const report = new Report();
  const world = await World.start();
  try {
    for (const [name, part] of Object.entries(PARTS)) {
      if (values.only !== undefined && values.only !== name) continue;
      report.note(name);
      await part(world, report);
    }
  } finally {
    await world.stop();
  }
  return report.close();
}
