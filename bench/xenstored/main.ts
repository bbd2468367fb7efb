/**
 * xenstored under load: ours, Debian's C daemon and oxenstored 4.17, one after the other in each round, with one client
 * program (client.c). Figures are the best of the rounds (a busy machine only makes them worse); ratios are to the C daemon's,
 * above 1 is better for ours. CPU is the daemon's own, for one operation.
 *   --runs N       rounds (default 3)
 *   --seconds S    of each test (default 1)
 *   --only TEXT    tests whose name has it
 *   --ours         ours alone
 * Ours keeps a journal, which Debian's have not: `withoutJournal` is its figure with `--journal off`.
 * Guests' rings: those of Debian's daemons are in memory that they share with the client (conformance/lib/xen/fakexen.h), ours are
 * behind privcmd, in another process, as a hypervisor's are (ring-host.ts).
 * Where Debian's packages are not to be had, ratios are to the table of docs/RATIONALE.md.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { compile, startDaemon } from '../../conformance/lib/xen/daemons.ts';
import type { Daemon, Kind } from '../../conformance/lib/xen/daemons.ts';
import { debianXen } from '../../conformance/lib/xen/debian.ts';
import type { DebianXen } from '../../conformance/lib/xen/debian.ts';
import { print } from '../lib/figures.ts';
import { RINGS, loadRings } from './rings.ts';

const CLIENT_MS = 300_000;

interface Test {
  /** The client's name of it. */
  readonly name: string;
  readonly title: string;
  readonly unit: 'operations/s' | 'events/s' | 'ms' | 'MiB';
  /** What one operation of the client stands for. */
  readonly each?: number;
  /** Changes the store: with a journal, that is written. */
  readonly changes?: true;
  /** The C daemon's and oxenstored's figures on another machine, where none is at hand. */
  readonly c?: number;
  readonly ox?: number;
}

const TESTS: readonly Test[] = [
  { name: 'read', title: 'read of 1 byte', unit: 'operations/s', c: 29_300, ox: 36_200 },
  { name: 'write', title: 'write of 1 byte', unit: 'operations/s', changes: true, c: 36_100, ox: 33_800 },
  { name: 'write-2000', title: 'write of 2000 bytes', unit: 'operations/s', changes: true, c: 34_800, ox: 29_200 },
  { name: 'mkdir-rm', title: 'mkdir and rm', unit: 'operations/s', changes: true, c: 16_200, ox: 15_600 },
  { name: 'transaction', title: 'empty transaction', unit: 'operations/s', changes: true, c: 17_000, ox: 19_500 },
  { name: 'modify', title: 'read-modify-write transaction', unit: 'operations/s', changes: true, c: 9200, ox: 8900 },
  { name: 'event', title: 'write to watch event', unit: 'operations/s', changes: true, c: 28_800, ox: 29_800 },
  {
    name: 'events-100',
    title: 'events to 100 watchers',
    unit: 'events/s',
    changes: true,
    each: 100,
    c: 183_000,
    ox: 161_000,
  },
  { name: 'in-flight', title: '16 reads in flight', unit: 'operations/s', each: 16, c: 47_000, ox: 46_100 },
  { name: 'parallel-100', title: '100 clients in parallel, read', unit: 'operations/s', c: 103_500, ox: 101_200 },
  { name: 'create', title: 'create 10,000 nodes', unit: 'operations/s', changes: true, c: 31_400, ox: 32_100 },
  { name: 'rm', title: 'rm of 10,000 nodes', unit: 'ms', changes: true, c: 13, ox: 1.1 },
  { name: 'list', title: 'list of 1,000 domains', unit: 'ms' },
  { name: 'rings-read', title: '20 guest rings, read', unit: 'operations/s', c: 23_200, ox: 19_600 },
  { name: 'rings-write', title: '20 guest rings, write', unit: 'operations/s', changes: true, c: 27_500, ox: 23_500 },
  { name: 'domains', title: 'memory of 10,000 domains of 20 nodes', unit: 'MiB' },
];

/** What the client prints. */
interface Said {
  readonly rate?: number;
  /** All of them, the warming-up included. */
  readonly operations?: number;
  readonly p50?: number;
  readonly p99?: number;
  readonly ms?: number;
  readonly growth?: number;
}

interface Figure extends Said {
  readonly rssMiB: number;
  /** Microseconds of the daemon's CPU for an operation. */
  readonly cpuUs: number | undefined;
}

/** `off`: ours without its journal. */
type Peer = Kind | 'off';

async function measure(test: Test, peer: Peer, { client, seconds, debian }: Setting): Promise<Figure> {
  const kind = peer === 'off' ? 'ours' : peer;
  const args = peer === 'off' ? ['--journal', 'off'] : [];
  const overRings = test.name.startsWith('rings');
  let figure: Figure | undefined = undefined as Figure | undefined;
  const around = async (daemon: Daemon, load: () => Promise<string>): Promise<void> => {
    const cpuBefore = daemon.cpuMs();
    const said = JSON.parse(await load()) as Said;
    const cpuMs = daemon.cpuMs() - cpuBefore;
    const cpuUs = said.operations === undefined ? undefined : (1000 * cpuMs) / said.operations / (test.each ?? 1);
    figure = { ...said, rssMiB: daemon.rssKiB() / 1024, cpuUs };
  };
  if (overRings && kind === 'ours') {
    await loadRings({ operation: test.name === 'rings-read' ? 'read' : 'write', seconds, args }, around);
  } else {
    const daemon = await startDaemon(kind, { debian, args });
    try {
      for (let domid = 1; domid <= RINGS && overRings; domid++) daemon.addDomain(domid);
      await around(daemon, () => runClient(client, test.name, daemon, seconds));
    } finally {
      await daemon.stop();
    }
  }
  if (!figure) throw new Error(`${test.name} of ${kind} was not measured`);
  return figure;
}

function runClient(client: string, test: string, daemon: Daemon, seconds: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(client, [test, daemon.socket, String(seconds), daemon.directory], { timeout: CLIENT_MS });
    let out = '';
    let err = '';
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    child.stderr.on('data', (data: Buffer) => (err += data.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${test} of ${daemon.kind}: ${err.trim() || `status ${String(code)}`}`));
    });
  });
}

interface Setting {
  readonly client: string;
  readonly seconds: number;
  readonly debian: DebianXen | undefined;
}

type Key = 'rate' | 'ms' | 'rssMiB' | 'p50' | 'p99' | 'growth' | 'cpuUs';

function best(figures: readonly Figure[], key: Key): number | undefined {
  const values = figures.flatMap((figure) => figure[key] ?? []);
  if (values.length === 0) return undefined;
  return key === 'rate' ? Math.max(...values) : Math.min(...values);
}

/** The figure that counts, of each round's. */
function value({ unit, each = 1 }: Test, figures: readonly Figure[]): number | undefined {
  const of = { ms: 'ms', MiB: 'rssMiB', 'operations/s': 'rate', 'events/s': 'rate' } as const;
  const figure = best(figures, of[unit]);
  return figure === undefined ? undefined : figure * each;
}

const ratio = (upper: number | undefined, lower: number | undefined): number | undefined =>
  upper === undefined || lower === undefined ? undefined : upper / lower;

function report(test: Test, { ours, off, c, ox }: Readonly<Record<Peer, readonly Figure[]>>): void {
  const figure = value(test, ours);
  const peer = value(test, c) ?? test.c;
  print({
    name: `xenstored ${test.title}`,
    unit: test.unit,
    ours: figure,
    c: peer,
    ox: value(test, ox) ?? test.ox,
    ratioToC: test.unit.endsWith('/s') ? ratio(figure, peer) : ratio(peer, figure),
    withoutJournal: value(test, off),
    peer: c.length > 0 ? undefined : 'table',
    ratioOfP50: ratio(best(c, 'p50'), best(ours, 'p50')),
    'ours-p50-us': best(ours, 'p50'),
    'ours-p99-us': best(ours, 'p99'),
    'c-p50-us': best(c, 'p50'),
    'c-p99-us': best(c, 'p99'),
    'ours-cpu-us': best(ours, 'cpuUs'),
    'c-cpu-us': best(c, 'cpuUs'),
    // Time a domain with 1,000 of them, to the same with 100: 1 is linear.
    growth: best(ours, 'growth'),
  });
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      runs: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
      ours: { type: 'boolean', default: false },
    },
  });
  const debian = values.ours ? undefined : debianXen((reason) => void process.stderr.write(`${reason}\n`));
  const client = compile(new URL('client.c', import.meta.url));
  const setting = { client, seconds: Number(values.seconds), debian };
  for (const test of TESTS.filter(({ name, title }) => name.includes(values.only) || title.includes(values.only))) {
    const figures: Record<Peer, Figure[]> = { ours: [], off: [], c: [], ox: [] };
    const peers: readonly Peer[] = [
      'ours',
      ...(test.changes ? (['off'] as const) : []),
      ...(debian ? (['c', 'ox'] as const) : []),
    ];
    for (let round = 0; round < Number(values.runs); round++)
      for (const peer of peers) figures[peer].push(await measure(test, peer, setting));
    report(test, figures);
  }
  return 0;
}
