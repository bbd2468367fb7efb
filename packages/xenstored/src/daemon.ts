/** xenstored put together: the core, its journal, its socket, and the rings when there is a hypervisor. */
import { randomInt } from 'node:crypto';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { claimUnixPath, listenUnix } from '@xenhost/daemon-kit';
import type { Logger } from '@xenhost/daemon-kit';
import { XenstoreCore } from './core/core.ts';
import type { ConflictPolicy } from './core/core.ts';
import type { Quotas } from './core/limits.ts';
import type { ControlPort, DomainGate, LiveUpdateRequest } from './core/ports.ts';
import { Journal, ringChange, ringStateOf, watchRecords } from './journal/index.ts';
import type { JournalOptions, Recovered, SessionChange } from './journal/index.ts';
import { UpdateRefused, handOver } from './live-update/hand-over.ts';
import { ringStateFrom } from './live-update/messages.ts';
import { programCommand, programProblem } from './live-update/program.ts';
import { Shell } from './live-update/shell.ts';
import { ChildSuccessor, PassedSuccessor } from './live-update/successor-port.ts';
import type { SuccessorPort } from './live-update/successor-port.ts';
import type { Predecessor } from './live-update/take-over.ts';
import { reconnectRings } from './parts.ts';
import type { DaemonParts } from './parts.ts';
import { AccessLog } from './server/access-log.ts';
import { DomainChecker } from './server/domain-checker.ts';
import type { HypervisorLink } from './server/domain-checker.ts';
import { MetricsServer } from './server/metrics-server.ts';
import { xenstoredMetrics } from './server/metrics.ts';
import { RingServer } from './server/ring-server.ts';
import type { RingRecords } from './server/ring-server.ts';
import { SocketServer } from './server/socket-server.ts';

export type { HypervisorLink, ListedDomain } from './server/domain-checker.ts';

export interface XenstoredOptions {
  readonly socketPath: string;
  readonly quotas?: Partial<Quotas>;
  readonly conflictPolicy?: ConflictPolicy;
  /** Absent: a daemon that was killed is followed by an empty one. */
  readonly journal?: JournalOptions;
  /** Unix socket of the metrics. Absent: none are served. */
  readonly metricsPath?: string;
  /** Where the access log goes once it is switched on. Absent: it cannot be. */
  readonly accessLogPath?: string;
}

export interface XenstoredModules {
  /** Absent: the socket alone is served, and an introduced domain has no ring. */
  readonly hypervisor?: HypervisorLink;
  readonly log: Logger;
  /** Ends the process: what was begun cannot be finished here. Absent: no live update. */
  readonly shutdown?: (reason: string, exitCode: number) => void;
}

export interface Xenstored {
  /** Of this process; after a live update it is another one's. */
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

/** Serves. What a journal tells of is there again. */
export async function startXenstored(options: XenstoredOptions, modules: XenstoredModules): Promise<Xenstored> {
  // Before the journal of another daemon that serves there is touched.
  await claimUnixPath(options.socketPath);
  const front = newFront();
  const update = (request: LiveUpdateRequest): Promise<string> =>
    liveUpdate(front, options, modules, { request, succession: asFirst(front) });
  const parts = await startParts(options, modules, update);
  front.parts = parts;
  await parts.metrics.open();
  const listener = await listenUnix(
    options.socketPath,
    (socket) => {
      if (front.shell) front.shell.connection(socket);
      else if (front.held) front.held.push(socket);
      else parts.sockets.accept(socket);
    },
    { pauseOnConnect: true },
  );
  return {
    core: parts.core,
    stop: async () => {
      await front.shell?.stop();
      await parts.metrics.close();
      const closed = listener.close();
      // With sockets that went to another process, Node would wait for word from it.
      if (!front.handedOver) await closed;
      parts.journal?.close();
    },
  };
}

/** Serves in the place of another process, which hands everything over (live update). */
export async function takeOver(
  options: XenstoredOptions,
  modules: XenstoredModules,
  predecessor: Predecessor,
): Promise<Xenstored> {
  const front = newFront();
  const parts = assemble(options, modules, (request) =>
    liveUpdate(front, options, modules, { request, succession: asLater(front) }),
  );
  const { core, sockets, rings, checker, journal, log } = parts;
  front.parts = parts;
  const state = await predecessor.state;
  const connections = core.restoreState(state.core);
  if (core.accessLog) core.control.setTrace?.(true);
  const rests = new Map(state.sockets);
  const ringsLeft = new Map(state.rings.map((ring) => [ring.domid, ring]));
  await reconnectRings(parts, (domid) => {
    const ring = ringsLeft.get(domid);
    return { states: ring ? [ringStateFrom(ring)] : [], done: ring?.toSkip ?? [] };
  });
  await checker?.start(core);
  predecessor.tell({ kind: 'restored' });
  const { unsent, journalBytes } = await predecessor.go;
  if (journal && (journalBytes === undefined || !journal.resume(journalBytes))) journal.begin();
  predecessor.onConnection((socket) => {
    if (front.held) front.held.push(socket);
    else if (front.successor) passOn(front, front.successor, socket);
    else sockets.accept(socket);
  });
  predecessor.onSuperseded(() => {
    front.passed = () => {
      if (front.passing === 0) process.exit(0);
    };
    front.passed();
  });
  // Before any client hears of it, and may ask for the next update.
  predecessor.tell({ kind: 'serving' });
  for (const [id, connection] of connections) {
    if (connection.isRing) continue;
    const handed = predecessor.sockets.get(id);
    if (!handed) {
      core.disconnect(connection);
      continue;
    }
    const rest = Buffer.concat([Buffer.from(rests.get(id) ?? '', 'latin1'), ...handed.early]);
    sockets.adopt(handed.socket, connection, { rest, unsent: Buffer.from(unsent.get(id) ?? '', 'latin1') });
  }
  rings?.resume();
  checker?.check();
  await parts.metrics.open();
  log.info({ domains: core.domains.size, clients: sockets.clients.size }, 'has taken over');
  return {
    core,
    stop: async () => {
      await parts.metrics.close();
      sockets.close();
      journal?.close();
    },
  };
}

/** Where new clients go. */
interface Front {
  parts: DaemonParts | undefined;
  /** Another process serves, and this one started first. */
  shell: Shell | undefined;
  /** Another process serves, and this one is about to end. */
  successor?: PassedSuccessor;
  /** An update is under way: they wait. */
  held: Socket[] | undefined;
  /** Sockets may have gone to another process. */
  handedOver: boolean;
  /** On their way to the successor. */
  passing: number;
  /** Called after each. */
  passed: () => void;
}

const newFront = (): Front => ({
  ...{ parts: undefined, shell: undefined, held: undefined, handedOver: false, passing: 0 },
  passed: () => undefined,
});

const passOn = (front: Front, successor: PassedSuccessor, socket: Socket): void => {
  front.passing++;
  successor
    .send({ kind: 'connection' }, socket)
    .catch(() => undefined)
    .finally(() => {
      socket.destroy();
      front.passing--;
      front.passed();
    });
};

type Shutdown = NonNullable<XenstoredModules['shutdown']>;

/** How a process lets another one serve in its place. */
interface Succession<S extends SuccessorPort> {
  begin(command: string, args: readonly string[]): S;
  /** The successor serves: what new clients' sockets go through from now on. */
  succeeded(successor: S, shutdown: Shutdown): (socket: Socket) => void;
}

/** The process that started first becomes a shell around the one that serves. */
const asFirst = (front: Front): Succession<ChildSuccessor> => ({
  begin: (command, args) => new ChildSuccessor(command, args),
  succeeded(successor, shutdown) {
    const shell = new Shell(successor, {
      onEnd: (how) => {
        shutdown(`the daemon that had taken over ${how}`, 1);
      },
    });
    front.shell = shell;
    front.parts = undefined;
    return (socket) => {
      shell.connection(socket);
    };
  },
});

/** A successor that is succeeded in its turn ends when it is told to. */
const asLater = (front: Front): Succession<PassedSuccessor> => ({
  begin: (command, args) => new PassedSuccessor(command, args),
  succeeded(successor) {
    front.successor = successor;
    return (socket) => {
      passOn(front, successor, socket);
    };
  },
});

/** Resolves only when there was no live update, to what the tool is told. */
async function liveUpdate<S extends SuccessorPort>(
  front: Front,
  { socketPath }: XenstoredOptions,
  { shutdown }: XenstoredModules,
  { request, succession }: { readonly request: LiveUpdateRequest; readonly succession: Succession<S> },
): Promise<string> {
  const { parts } = front;
  if (!parts || !shutdown) return 'Live update is not possible.';
  const { command, args } = programCommand(request.file, request.commandLine);
  const successor = succession.begin(command, args);
  const reason = await attempt(front, parts, request, successor, dirname(socketPath));
  if (reason !== undefined) return refusedOrGone(reason, shutdown);
  const pass = succession.succeeded(successor, shutdown);
  for (const socket of front.held ?? []) pass(socket);
  front.held = undefined;
  return new Promise(() => undefined);
}

/** Runs a handover; undefined when another process serves now. */
async function attempt(
  front: Front,
  parts: DaemonParts,
  request: LiveUpdateRequest,
  successor: SuccessorPort,
  directory: string,
): Promise<unknown> {
  const { log, sockets } = parts;
  const { file } = request;
  const onFreeze = (): void => {
    front.handedOver = true;
    front.held = [];
  };
  try {
    await handOver(parts, request, successor, { directory, onFreeze });
    log.info({ file }, 'another process has taken over');
    return undefined;
  } catch (error) {
    if (error instanceof UpdateRefused) log.warn({ file, reason: error.message }, 'no live update');
    else log.error({ err: error, file }, 'live update failed');
    for (const socket of front.held ?? []) sockets.accept(socket);
    front.held = undefined;
    return error;
  }
}

function refusedOrGone(error: unknown, shutdown: Shutdown): string {
  if (error instanceof UpdateRefused) return error.message;
  shutdown('what was handed over is not served', 1);
  return 'Live update failed.';
}

/** All parts, empty, nothing connected. */
function assemble(
  options: XenstoredOptions,
  { hypervisor, log, shutdown }: XenstoredModules,
  update: (request: LiveUpdateRequest) => Promise<string>,
): DaemonParts {
  const journal: Journal | undefined = options.journal
    ? new Journal(options.journal, {
        log,
        snapshot: () => core.snapshot(),
        sessions: () => sessionsOf(core, rings),
      })
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
  const accessLog = options.accessLogPath === undefined ? undefined : new AccessLog(options.accessLogPath, log);
  const control: ControlPort = {
    ...(shutdown && { checkProgram: programProblem, liveUpdate: update }),
    ...(accessLog && {
      setTrace: (on: boolean) => {
        accessLog.setOn(on);
      },
      setTraceFile: (path: string) => {
        accessLog.setFile(path);
      },
      appendReport: (path: string | undefined, text: string) => accessLog.append(path, text),
    }),
  };
  const core: XenstoreCore = new XenstoreCore(
    { ...(quotas && { quotas }), ...(conflictPolicy && { conflictPolicy }) },
    {
      gate: rings ?? NO_RINGS,
      log: (message, data) => {
        if ('err' in data) log.error(data, message);
        else log.info(data, message);
      },
      control,
      ...(accessLog && { trace: accessLog }),
      ...(journal && { journal }),
      ...(hypervisor && {
        existing: async () => new Set((await hypervisor.listDomains()).map(({ domid }) => domid)),
      }),
    },
  );
  rings?.attach(core);
  const sockets = new SocketServer(core, beforeSend);
  const metrics = new MetricsServer(options.metricsPath, () => xenstoredMetrics({ core, sockets, journal }), log);
  return { core, sockets, journal, hypervisor, rings, checker, metrics, log };
}

/** Parts that serve: empty, or as the journal tells. */
async function startParts(
  options: XenstoredOptions,
  modules: XenstoredModules,
  update: (request: LiveUpdateRequest) => Promise<string>,
): Promise<DaemonParts> {
  let parts = assemble(options, modules, update);
  let recovered = parts.journal?.recover();
  if (recovered && !restore(parts, recovered)) {
    parts.journal?.close();
    parts = assemble(options, modules, update);
    recovered = undefined;
  }
  const { core, journal, rings, checker } = parts;
  if (!recovered) core.setup(DOMAIN0_NODES);
  await checker?.start(core);
  if (recovered) {
    const { sessions } = recovered;
    for (const { connection } of core.domains.values()) {
      connection.nextTransactionId = randomInt(1, LAST_FIRST_TRANSACTION_ID);
      // What they may have missed is made up for by one event each, as when they were registered.
      for (const watch of connection.watches) core.events.first(watch);
    }
    await reconnectRings(parts, (domid) => ({
      states: (sessions.rings.get(domid) ?? []).map(ringStateOf),
      done: sessions.done.get(domid) ?? [],
    }));
  }
  journal?.begin();
  rings?.resume();
  if (recovered) checker?.check();
  return parts;
}

function* sessionsOf(core: XenstoreCore, rings: RingServer | undefined): Generator<SessionChange> {
  for (const { domid, connection } of core.domains.values()) {
    if (connection.watches.size > 0) yield { op: 'watches', domid, watches: watchRecords(connection) };
  }
  for (const [domid, ring] of rings?.rings() ?? []) {
    if (ring.hasState) yield ringChange(domid, ring.state);
    for (const reqCons of ring.toSkip) yield { op: 'done', domid, reqCons };
  }
}

/** False when the journal is not to be made sense of. */
function restore({ core, log }: DaemonParts, { changes, sessions, tornBytes }: Recovered): boolean {
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
