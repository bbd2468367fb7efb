/** xenstored put together: the core, its journal, its socket, and the rings when there is a hypervisor. */
import { randomInt } from 'node:crypto';
import { claimUnixPath } from '@xenhost/daemon-kit';
import type { Logger } from '@xenhost/daemon-kit';
import { XenstoreCore } from './core/core.ts';
import type { ConflictPolicy } from './core/core.ts';
import type { Quotas } from './core/limits.ts';
import type { DomainGate } from './core/ports.ts';
import { Journal, ringChange, ringStateOf } from './journal/index.ts';
import type { JournalChange, JournalOptions, Recovered } from './journal/index.ts';
import { DomainChecker } from './server/domain-checker.ts';
import type { HypervisorLink } from './server/domain-checker.ts';
import { RingServer } from './server/ring-server.ts';
import type { RingRecords } from './server/ring-server.ts';
import { serveSocket } from './server/socket-server.ts';

export type { HypervisorLink, ListedDomain } from './server/domain-checker.ts';

export interface XenstoredOptions {
  readonly socketPath: string;
  readonly quotas?: Partial<Quotas>;
  readonly conflictPolicy?: ConflictPolicy;
  /** Absent: a daemon that was killed is followed by an empty one. */
  readonly journal?: JournalOptions;
}

export interface XenstoredModules {
  /** Absent: the socket alone is served, and an introduced domain has no ring. */
  readonly hypervisor?: HypervisorLink;
  readonly log: Logger;
}

export interface Xenstored {
  readonly core: XenstoreCore;
  stop(): Promise<void>;
}

const NO_RINGS: DomainGate = {
  introduce: () => Promise.resolve(),
  release: () => undefined,
};
const NO_RECORDS: RingRecords = {
  notedBytes: 0,
  watchesChanged: () => undefined,
  requestDone: () => undefined,
  ringState: () => undefined,
};
/** What xen-init-dom0 writes on a real host. */
const DOMAIN0_NODES = [
  ['/local', ''],
  ['/local/domain', ''],
  ['/local/domain/0', ''],
  ['/local/domain/0/domid', '0'],
  ['/local/domain/0/name', 'Domain-0'],
] as const;
/** Guests' transactions are gone with the daemon that had them: new ones get numbers that are hardly among theirs. */
const LAST_FIRST_TRANSACTION_ID = 0x7fff_ffff;

export async function startXenstored(options: XenstoredOptions, modules: XenstoredModules): Promise<Xenstored> {
  const { hypervisor, log } = modules;
  // Before the journal of another daemon that serves there is touched.
  await claimUnixPath(options.socketPath);
  const journal: Journal | undefined = options.journal
    ? new Journal(options.journal, { log, snapshot: () => everything(core, rings) })
    : undefined;
  const beforeSend = (): void => journal?.flush();
  const checker = hypervisor ? new DomainChecker(hypervisor, log) : undefined;
  const rings: RingServer | undefined = hypervisor
    ? new RingServer({
        privcmd: hypervisor.privcmd,
        log,
        onIntroduced: () => checker?.check(),
        beforeSend,
        records: journal ?? NO_RECORDS,
      })
    : undefined;
  const { quotas, conflictPolicy } = options;
  const makeCore = (): XenstoreCore =>
    new XenstoreCore(
      { ...(quotas && { quotas }), ...(conflictPolicy && { conflictPolicy }) },
      {
        gate: rings ?? NO_RINGS,
        log: (message, data) => {
          if ('err' in data) log.error(data, message);
          else log.info(data, message);
        },
        ...(journal && { journal }),
        ...(hypervisor && {
          existing: async () => new Set((await hypervisor.listDomains()).map(({ domid }) => domid)),
        }),
      },
    );
  let core = makeCore();
  let recovered = journal?.recover();
  if (recovered && !restore(core, recovered, log)) {
    core = makeCore();
    recovered = undefined;
  }
  rings?.attach(core);
  if (!recovered) core.setup(DOMAIN0_NODES);
  await checker?.start(core);
  if (recovered && rings) await reconnect(core, rings, recovered, log);
  journal?.begin();
  rings?.resume();
  if (recovered) checker?.check();
  const server = await serveSocket(options.socketPath, { core, beforeSend });
  return {
    core,
    stop: async () => {
      await server.close();
      journal?.close();
    },
  };
}

function* everything(core: XenstoreCore, rings: RingServer | undefined): Generator<JournalChange> {
  yield* core.snapshot();
  for (const { domid, connection } of core.domains.values()) {
    if (connection.watches.size > 0) yield { op: 'watches', domid, watches: [...connection.watches] };
  }
  for (const [domid, ring] of rings?.rings() ?? []) {
    if (ring.hasState) yield ringChange(domid, ring.state);
    for (const reqCons of ring.toSkip) yield { op: 'done', domid, reqCons };
  }
}

/** False when the journal is not to be made sense of. */
function restore(core: XenstoreCore, { changes, sessions, tornBytes }: Recovered, log: Logger): boolean {
  try {
    core.restore(changes);
  } catch (error) {
    log.error({ err: error }, 'the journal is damaged, the store starts empty');
    return false;
  }
  for (const [domid, watches] of sessions.watches) {
    const connection = core.domains.get(domid)?.connection;
    if (!connection) continue;
    for (const { path, token, relative } of watches) core.addWatch(connection, path, token, relative);
  }
  log.info({ domains: core.domains.size, tornBytes }, 'the store is as it was');
  return true;
}

/** Guests go on where they were. What their watches may have missed is made up for by one event each, as when they were registered. */
async function reconnect(core: XenstoreCore, rings: RingServer, { sessions }: Recovered, log: Logger): Promise<void> {
  for (const { domid, connection, mfn, port } of core.domains.values()) {
    connection.nextTransactionId = randomInt(1, LAST_FIRST_TRANSACTION_ID);
    for (const watch of connection.watches) core.events.first(watch);
    const states = (sessions.rings.get(domid) ?? []).map(ringStateOf);
    try {
      await rings.reconnect(
        connection,
        /^\d+$/.test(mfn) ? BigInt(mfn) : 0n,
        port,
        states,
        sessions.done.get(domid) ?? [],
      );
    } catch (error) {
      // It has died meanwhile, which the hypervisor will say, or its toolstack introduces it again.
      log.warn({ domid, err: error }, 'ring cannot be connected again');
    }
  }
}
