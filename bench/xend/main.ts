/**
 * What xend costs, on a real host of 2 GiB with small paused guests: one line a figure, each beside the bound that is promised.
 * Times are of whole calls as a client on the Unix socket sees them; `cpu-ms` is xend's own CPU time.
 *   --guests N    of the sequence of creates, default 200
 *   --managed N   default 1000
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { consoleShell } from '@xenhost/guest-kernels';
import { RpcConnection, TestHost } from '@xenhost/testkit';
import { readState } from '@xenhost/xenhost';
import { encodeCall, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { figure, median, timesMs } from '../lib/figures.ts';

const MEMORY_MIB = 2048;
const GUEST_MIB = 4;
const LISTED = [25, 50, 100, 200];
const RUNS = 15;
const CLIENTS = 10;
const CALLS_S = 3;
/** /proc/PID/stat counts in these (USER_HZ). */
const TICK_MS = 10;
const PAGE_BYTES = 4096;

const kernelName = 'console-shell.elf';

function config(host: TestHost, name: string, memory = GUEST_MIB): XmlRpcValue {
  const image = ['linux', ['kernel', join(host.directory, kernelName)], ['args', '']];
  return ['vm', ['name', name], ['memory', memory], ['vcpus', 1], ['on_crash', 'destroy'], ['image', image]];
}

const pidOf = (host: TestHost): number =>
  readState(host.host.paths.run)?.daemons.find(({ name }) => name === 'xend')?.pid ?? 0;

function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

const residentMiB = (pid: number): number =>
  (Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]) * PAGE_BYTES) / 2 ** 20;

/** Creates guests one after the other and lists them on the way. */
async function createAndList(host: TestHost, rpc: RpcConnection, guests: number): Promise<void> {
  const creates: number[] = [];
  const listMs = new Map<number, number>();
  const list = encodeCall('xend.domains_with_state', [true, 'all', true]);
  for (let i = 0; i < guests; i++) {
    creates.push(...(await timesMs(1, () => rpc.call('xend.domain.create', config(host, `g${i}`)))));
    const domains = i + 1;
    if (!LISTED.includes(domains)) continue;
    await timesMs(3, () => rpc.post(list));
    const before = cpuMs(pidOf(host));
    const times = await timesMs(RUNS, () => rpc.post(list));
    const cpu = (cpuMs(pidOf(host)) - before) / RUNS;
    listMs.set(domains, Math.min(...times));
    const bounds = domains === 100 ? { 'promised-ms': 20 } : {};
    const bytes = (await rpc.post(list)).length;
    figure('xend-list', { domains, ms: median(times), min: Math.min(...times), ...bounds, 'cpu-ms': cpu, bytes });
    if (domains !== 100) continue;
    const whole = await timesMs(5, () => host.mustXm('list'));
    figure('xm-list', { domains, ms: median(whole), min: Math.min(...whole), 'promised-ms': 200 });
  }
  const [few, many] = [listMs.get(50), listMs.get(200)];
  if (few !== undefined && many !== undefined) {
    figure('list-growth', { 'time-for-4x-domains': many / few, promised: 'linear: 4' });
  }
  const [first = 1] = creates;
  const sorted = [...creates].sort((a, b) => a - b);
  figure('creates-in-sequence', {
    guests: creates.length,
    'first-ms': first,
    'median-ms': median(creates),
    'p95-ms': sorted[Math.floor(sorted.length * 0.95)],
    'slowest-ms': sorted.at(-1),
    'slowest-to-first': (sorted.at(-1) ?? 0) / first,
    'promised-ratio': 3,
  });
}

async function callsPerSecond(host: TestHost): Promise<void> {
  const where = { path: host.host.paths.xendXmlrpc };
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => RpcConnection.open(where)));
  for (const [name, document] of [
    ['xend.domain.getpauseflag', encodeCall('xend.domain.getpauseflag', ['g0'])],
    ['xend.domain', encodeCall('xend.domain', ['g0', false])],
  ] as const) {
    const pid = pidOf(host);
    const before = cpuMs(pid);
    const deadline = performance.now() + CALLS_S * 1000;
    let calls = 0;
    const start = performance.now();
    await Promise.all(
      clients.map(async (client) => {
        while (performance.now() < deadline) {
          await client.post(document);
          calls++;
        }
      }),
    );
    const seconds = (performance.now() - start) / 1000;
    const perCall = (cpuMs(pid) - before) / calls;
    figure('calls', {
      method: name,
      clients: CLIENTS,
      'per-second': calls / seconds,
      promised: 1000,
      'cpu-ms': perCall,
    });
  }
  for (const client of clients) client.close();
}

/** Whole lives of one small guest. */
async function lives(host: TestHost, rpc: RpcConnection): Promise<void> {
  const [creates, starts, destroys]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < RUNS; i++) {
    const name = `life${i}`;
    const time = async (into: number[], body: () => Promise<unknown>): Promise<void> => {
      into.push(...(await timesMs(1, body)));
    };
    await time(creates, () => rpc.call('xend.domain.create', config(host, name)));
    await time(starts, async () => {
      await rpc.call('xend.domain.waitForDevices', name);
      await rpc.call('xend.domain.unpause', name);
    });
    await time(destroys, () => rpc.call('xend.domain.destroy', name));
  }
  const running = creates.map((ms, i) => ms + (starts[i] ?? 0));
  figure('create-to-running', {
    ms: median(running),
    min: Math.min(...running),
    max: Math.max(...running),
    'promised-ms': 100,
  });
  figure('destroy', {
    ms: median(destroys),
    min: Math.min(...destroys),
    max: Math.max(...destroys),
    'promised-ms': 50,
  });
  const file = host.config('whole', { kernel: join(host.directory, kernelName), memory: GUEST_MIB });
  const [nodes, xmCreates, xmDestroys]: [number[], number[], number[]] = [[], [], []];
  // The first of each fills the code cache.
  for (let i = 0; i <= RUNS; i++) {
    const node = await timesMs(1, () => host.run(process.execPath, '-e', '0'));
    const create = await timesMs(1, () => host.mustXm('create', '-q', file));
    const destroy = await timesMs(1, () => host.mustXm('destroy', 'whole'));
    if (i === 0) continue;
    nodes.push(...node);
    xmCreates.push(...create);
    xmDestroys.push(...destroy);
  }
  const floor = median(nodes);
  figure('node-start', { ms: floor, min: Math.min(...nodes) });
  for (const [name, times, promised] of [
    ['xm-create', xmCreates, 100],
    ['xm-destroy', xmDestroys, 50],
  ] as const) {
    const ms = median(times);
    figure(name, { ms, min: Math.min(...times), 'to-node-start': ms / floor, 'promised-ms': promised });
  }
}

async function managed(host: TestHost, rpc: RpcConnection, count: number): Promise<void> {
  const pid = pidOf(host);
  const before = residentMiB(pid);
  const times = await timesMs(count, (i) => rpc.call('xend.domain.new', config(host, `m${i}`)));
  const list = encodeCall('xend.domains_with_state', [true, 'all', true]);
  const listed = await timesMs(5, () => rpc.post(list));
  figure('managed-domains', { domains: count, MiB: residentMiB(pid), 'MiB-before': before, 'promised-MiB': 150 });
  figure('new', { ms: median(times), max: Math.max(...times), domains: count });
  figure('managed-list', { domains: count, ms: median(listed), 'promised-ms': count / 5 });
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { guests: { type: 'string', default: '200' }, managed: { type: 'string', default: '1000' } },
  });
  const host = await TestHost.start({ memoryMiB: MEMORY_MIB });
  try {
    writeFileSync(join(host.directory, kernelName), consoleShell());
    const rpc = await RpcConnection.open({ path: host.host.paths.xendXmlrpc });
    await createAndList(host, rpc, Number(values.guests));
    await callsPerSecond(host);
    const clear = await timesMs(Number(values.guests), (i) => rpc.call('xend.domain.destroy', `g${i}`));
    figure('destroys-in-sequence', {
      guests: clear.length,
      'median-ms': median(clear),
      'slowest-ms': Math.max(...clear),
    });
    await lives(host, rpc);
    rpc.close();
  } finally {
    await host.stop();
  }
  const fresh = await TestHost.start({ memoryMiB: 64 });
  try {
    writeFileSync(join(fresh.directory, kernelName), consoleShell());
    const rpc = await RpcConnection.open({ path: fresh.host.paths.xendXmlrpc });
    await managed(fresh, rpc, Number(values.managed));
    rpc.close();
  } finally {
    await fresh.stop();
  }
  return 0;
}
