/**
 * What nobody here wrote, and what nobody should send, against our xenstored.
 *   --only TEXT      parts whose name has it: utils, clients, table, differential, model, restart, live-update, hostile
 *   --seed N         first seed of the random parts (default 1)
 *   --count N        sequences of each random part (default 4)
 *   --attack TEXT    of the hostile part, those whose name has it
 *   --socket PATH    the utils alone, against a daemon that already runs
 * Debian's C daemon runs the table too, and every random sequence of `differential`, where its packages are to be had.
 */
import { parseArgs } from 'node:util';
import { Report } from '@xenhost/testkit';
import { startDaemon } from '../lib/xen/daemons.ts';
import { debianXen } from '../lib/xen/debian.ts';
import type { DebianXen } from '../lib/xen/debian.ts';
import { runClients } from './clients.ts';
import { runDifferential, runModel } from './differential.ts';
import { runHostile } from './hostile.ts';
import { runLiveUpdate } from './live-update.ts';
import { runRestart } from './restart.ts';
import { runTables } from './table.ts';
import { tool } from './tool.ts';
import { runUtils } from './utils.ts';

interface Setting {
  readonly report: Report;
  readonly debian: DebianXen | undefined;
  readonly seed: number;
  readonly count: number;
  readonly attack: string;
}

type Part = (setting: Setting) => Promise<void>;

const PARTS: Readonly<Record<string, Part>> = {
  utils: async ({ report }) => {
    const installed = await tool('xenstore-exists', ['/'], '/nowhere').catch(() => undefined);
    if (!installed) {
      report.row('xenstore-utils', false, 'not installed (Debian package xenstore-utils)');
      return;
    }
    const daemon = await startDaemon('ours', {});
    try {
      await runUtils(daemon.socket, report);
    } finally {
      await daemon.stop();
    }
  },
  clients: async ({ report, debian }) => {
    if (debian) await runClients(report, debian);
  },
  table: async ({ report, debian }) => {
    await runTables('ours', debian, report);
    if (debian) await runTables('c', debian, report);
  },
  differential: async ({ report, debian, seed, count }) => {
    if (debian) await runDifferential(report, debian, { seed, count });
  },
  model: async ({ report, seed, count }) => {
    await runModel(report, { seed, count });
  },
  restart: async ({ report, seed, count }) => {
    await runRestart(report, { seed, count });
  },
  'live-update': async ({ report, debian }) => {
    if (debian) await runLiveUpdate(report, debian);
  },
  hostile: async ({ report, attack }) => {
    await runHostile(report, attack);
  },
};

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', default: '' },
      seed: { type: 'string', default: '1' },
      count: { type: 'string', default: '4' },
      attack: { type: 'string', default: '' },
      socket: { type: 'string' },
    },
  });
  const report = new Report();
  if (values.socket !== undefined) {
    await runUtils(values.socket, report);
    return report.close();
  }
  const debian = debianXen((reason) => {
    report.note(`${reason}: what needs it is left out`);
  });
  const setting: Setting = {
    report,
    debian,
    seed: Number(values.seed),
    count: Number(values.count),
    attack: values.attack,
  };
  for (const [name, part] of Object.entries(PARTS)) if (name.includes(values.only)) await part(setting);
  return report.close();
}
