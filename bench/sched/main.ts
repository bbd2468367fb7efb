/**
 * The credit scheduler under load, on hypervisors of their own with guests that spin or sleep:
 *   - shares: pCPU time of spinning guests against what their weights and caps promise; the figure is the largest error
 *   - wake-up: how late a guest's timer wakes it while others spin, and alone
 *   - halted: CPU time of the hypervisor's process, in percent of a core, while its guests are idle
 * Shares are by what guests are charged (wall time on a pCPU) and, beside it, by what they have counted; the latter is
 * what a busy machine lets through.
 *   --seconds N   of each measurement of shares (default 10)
 *   --only TEXT   figures whose name has it
 */
import { parseArgs } from 'node:util';
import { consoleShell } from '@xenhost/guest-kernels';
import { figure, median } from '../lib/figures.ts';
import { NR_SAMPLES, SAMPLES_AT, sleeper, spinner } from './guests.ts';
import { BareHost } from './host.ts';
import type { BenchGuest } from './host.ts';

const SETTLE_MS = 500;
const FIRST_ROUNDS = 1000;
const PERIOD_NS = 5_300_000;
const IDLE_SECONDS = 5;
/** A host compiles its engine once it is up. */
const START_UP_MS = 8000;
const PERCENT = 100;
/** Xen's default; the peer of every weight here. */
const WEIGHT = 256;

interface Claim {
  readonly weight?: number;
  readonly cap?: number;
  /** Share of one pCPU that it should get. */
  readonly share: number;
}

interface Shares {
  readonly name: string;
  readonly pcpus: number;
  readonly claims: readonly Claim[];
}

const SHARES: readonly Shares[] = [
  { name: '2 alike on 1', pcpus: 1, claims: [{ share: 1 / 2 }, { share: 1 / 2 }] },
  { name: '2:1 on 1', pcpus: 1, claims: [{ weight: 512, share: 2 / 3 }, { share: 1 / 3 }] },
  { name: '1:2:4 on 1', pcpus: 1, claims: [{ weight: 128, share: 1 / 7 }, { share: 2 / 7 }, { weight: 512, share: 4 / 7 }] },
  { name: '4 alike on 1', pcpus: 1, claims: Array.from({ length: 4 }, () => ({ share: 1 / 4 })) },
  { name: '3 alike on 2', pcpus: 2, claims: Array.from({ length: 3 }, () => ({ share: 2 / 3 })) },
  { name: '1:1:1:3 on 2', pcpus: 2, claims: [...Array.from({ length: 3 }, () => ({ share: 1 / 3 })), { weight: 768, share: 1 }] },
  { name: '4 alike on 2', pcpus: 2, claims: Array.from({ length: 4 }, () => ({ share: 1 / 2 })) },
  { name: 'cap 20 alone', pcpus: 1, claims: [{ cap: 20, share: 0.2 }] },
  { name: 'cap 25 beside none on 1', pcpus: 1, claims: [{ cap: 25, share: 0.25 }, { share: 0.75 }] },
  { name: 'caps 30 and 40 on 2', pcpus: 2, claims: [{ cap: 30, share: 0.3 }, { cap: 40, share: 0.4 }] },
]; // prettier-ignore

interface WakeUps {
  readonly name: string;
  readonly pcpus: number;
  readonly spinners: number;
}

const WAKE_UPS: readonly WakeUps[] = [
  { name: 'alone on 1', pcpus: 1, spinners: 0 },
  { name: 'beside 1 on 1', pcpus: 1, spinners: 1 },
  { name: 'beside 3 on 1', pcpus: 1, spinners: 3 },
  { name: 'beside 3 on 2', pcpus: 2, spinners: 3 },
];

const HALTED: readonly (readonly [name: string, kernels: () => readonly Uint8Array[]])[] = [
  ['no guest', () => []],
  ['2 idle guests', () => [consoleShell(), consoleShell()]],
];

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Reading {
  readonly cpuNs: number;
  readonly rounds: number;
}

async function read(guest: BenchGuest): Promise<Reading> {
  return { cpuNs: await guest.cpuTimeNs(), rounds: Number((await guest.page()).getBigUint64(0, true)) };
}

async function shares({ name, pcpus, claims }: Shares, seconds: number): Promise<void> {
  const host = await BareHost.start(pcpus);
  try {
    const guests = await Promise.all(claims.map(() => host.boot(spinner())));
    for (const [i, { weight = WEIGHT, cap = 0 }] of claims.entries())
      await host.xc.schedCreditDomainSet(guests[i]?.domid ?? 0, { weight, cap });
    // The engine is compiled while the first of them begins.
    for (const guest of guests) while ((await read(guest)).rounds < FIRST_ROUNDS) await pause(SETTLE_MS);
    await pause(SETTLE_MS);
    const start = performance.now();
    const before = await Promise.all(guests.map(read));
    await pause(seconds * 1000);
    const elapsedNs = (performance.now() - start) * 1e6;
    const after = await Promise.all(guests.map(read));
    const cpu = after.map(({ cpuNs }, i) => (cpuNs - (before[i]?.cpuNs ?? 0)) / elapsedNs);
    const rounds = after.map((reading, i) => reading.rounds - (before[i]?.rounds ?? 0));
    const wanted = claims.reduce((sum, { share }) => sum + share, 0);
    const counted = rounds.map((n) => (n / rounds.reduce((sum, each) => sum + each, 0)) * wanted);
    const worst = (got: readonly number[]): number =>
      Math.max(...got.map((share, i) => Math.abs(share / (claims[i]?.share ?? NaN) - 1))) * PERCENT;
    figure(`sched share ${name}`, {
      'error-%': worst(cpu),
      'error-counted-%': worst(counted),
      shares: cpu.map((share) => share.toFixed(3)).join(' '),
      seconds,
    });
  } finally {
    await host.stop();
  }
}

/** How late, in µs, a sleeper beside so many spinners woke up. */
async function wakeUps({ name, pcpus, spinners }: WakeUps): Promise<void> {
  const host = await BareHost.start(pcpus);
  try {
    for (let i = 0; i < spinners; i++) await host.boot(spinner());
    const guest = await host.boot(sleeper(PERIOD_NS));
    let page = await guest.page();
    for (; page.getBigUint64(0, true) < BigInt(NR_SAMPLES); page = await guest.page()) await pause(SETTLE_MS);
    const late = Array.from({ length: NR_SAMPLES }, (_, i) => page.getUint32(SAMPLES_AT + 4 * i, true) / 1000);
    late.sort((a, b) => a - b);
    figure(`sched wake-up ${name}`, {
      'median-us': median(late),
      'p99-us': late[Math.floor(NR_SAMPLES * 0.99)] ?? NaN,
      samples: NR_SAMPLES,
    });
  } finally {
    await host.stop();
  }
}

async function halted(name: string, kernels: readonly Uint8Array[]): Promise<void> {
  const host = await BareHost.start(2);
  try {
    for (const kernel of kernels) await host.boot(kernel);
    await pause(START_UP_MS);
    const before = host.cpuNs();
    await pause(IDLE_SECONDS * 1000);
    figure(`sched halted ${name}`, { 'cpu-%': ((host.cpuNs() - before) / (IDLE_SECONDS * 1e9)) * PERCENT });
  } finally {
    await host.stop();
  }
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { seconds: { type: 'string', default: '10' }, only: { type: 'string', default: '' } },
  });
  const wanted = (name: string): boolean => name.includes(values.only);
  for (const [name, kernels] of HALTED) if (wanted(`halted ${name}`)) await halted(name, kernels());
  for (const each of WAKE_UPS) if (wanted(`wake-up ${each.name}`)) await wakeUps(each);
  for (const each of SHARES) if (wanted(`share ${each.name}`)) await shares(each, Number(values.seconds));
  return 0;
}
