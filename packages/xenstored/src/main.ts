import { dirname, join } from 'node:path';
import { hostPaths, metricsBeside, parseDaemonArgs, runDaemon, UsageError } from '@xenhost/daemon-kit';
import { openXenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { warmUp } from './core/warm-up.ts';
import { startXenstored, takeOver } from './daemon.ts';
import type { HypervisorLink, XenstoredOptions } from './daemon.ts';
import { incarnationOf } from './incarnation.ts';
import { COMPACT_MIN_BYTES } from './journal/limits.ts';
import { TAKEOVER_VARIABLE } from './live-update/messages.ts';
import { Predecessor } from './live-update/take-over.ts';

/** How long the hypervisor may take to come up when both start together. */
const HYPERVISOR_WAIT_MS = 30_000;
const MIB = 1024 * 1024;

runDaemon('xenstored', async ({ log, shutdown }) => {
  const paths = hostPaths();
  const args = parseDaemonArgs('xenstored', {
    socket: { type: 'string', help: 'Unix socket to serve', default: paths.xenstored },
    privcmd: { type: 'string', help: "the hypervisor's socket", default: paths.privcmd },
    'no-hypervisor': { type: 'boolean', help: 'serve the socket alone, without guests' },
    journal: { type: 'string', help: 'on, off, or sync: on, and each write waits for the disk', default: 'on' },
    transactions: { type: 'string', help: 'eagain, or merge what does not conflict', default: 'eagain' },
    'journal-mib': {
      type: 'number',
      help: 'length from which the journal is compacted',
      default: COMPACT_MIN_BYTES / MIB,
    },
    'access-log': {
      ...{ type: 'string', help: 'where requests are logged once xenstore-control log on says so' },
      default: join(paths.log, 'xenstored-access.log'),
    },
    'journal-dir': { type: 'string', help: "where the journal is (default the socket's folder)" },
  });
  if (!['on', 'off', 'sync'].includes(args.journal)) {
    throw new UsageError(`xenstored: --journal wants on, off or sync, not '${args.journal}'`);
  }
  const { transactions } = args;
  if (transactions !== 'eagain' && transactions !== 'merge') {
    throw new UsageError(`xenstored: --transactions wants eagain or merge, not '${transactions}'`);
  }
  warmUp();
  const hypervisor = args['no-hypervisor'] ? undefined : await openHypervisor(args.privcmd, shutdown);
  const incarnation = incarnationOf(hypervisor && args.privcmd);
  const journal =
    args.journal === 'off'
      ? {}
      : {
          journal: {
            directory: args['journal-dir'] ?? dirname(args.socket),
            incarnation,
            sync: args.journal === 'sync',
            compactMinBytes: args['journal-mib'] * MIB,
          },
        };
  const options: XenstoredOptions = {
    ...{ socketPath: args.socket, conflictPolicy: transactions, accessLogPath: args['access-log'] },
    ...{ metricsPath: metricsBeside(args.socket), ...journal },
  };
  const modules = { log, shutdown, ...(hypervisor ? { hypervisor } : {}) };
  const daemon =
    process.env[TAKEOVER_VARIABLE] === undefined
      ? await startXenstored(options, modules)
      : await takeOver(
          options,
          modules,
          new Predecessor(() => {
            shutdown('the process that started first is gone', 1);
          }),
        );
  log.info({ socket: args.socket, hypervisor: hypervisor !== undefined, journal: args.journal }, 'serving');
  return daemon;
});

async function openHypervisor(
  path: string,
  shutdown: (reason: string, code?: number) => void,
): Promise<HypervisorLink> {
  const privcmd = await connectPrivcmd(path, { waitMs: HYPERVISOR_WAIT_MS });
  privcmd.onClose((error) => {
    if (error) shutdown('the hypervisor is gone', 1);
  });
  const xenctrl = openXenctrl(privcmd);
  return { privcmd, listDomains: () => xenctrl.domainGetinfolist() };
}
