/**
 * Networks of Debian's guest: netfront on a host of ours against virtio-net in QEMU's TCG, the same kernel and initramfs, round
 * by round in one run. To this machine through passt here and QEMU's user network there; between guests over the bridge here
 * and a socket of QEMU's there. One JSON line a figure; ratios are higher where we are better.
 *   --machines NAMES  ours,tcg (default both)
 *   --only NAMES      lines (lines.ts) or `fairness`; default all
 *   --runs N          rounds, medians are taken (default 3)
 *   --megabytes N     of each transfer (default 64)
 *   --seconds N       of the line `fairness` (default 10)
 *   --guests N        of the line `fairness` (default 20)
 *   --jit MODE        off, on or force (default: XENHOST_JIT, else on)
 */
import { execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type DeviceGuest, deviceGuest, freePort, LOOPBACK_NETWORK, providePasst, TestHost } from '@xenhost/testkit';
import { compareMachines, type DeviceMachine, startOurs, startTcg } from '../lib/device-machines.ts';
import { fairness } from './fairness.ts';
import { netLines } from './lines.ts';

const MACHINES = ['ours', 'tcg'] as const;
type MachineName = (typeof MACHINES)[number];
const TIMEOUT_MS = 600_000;
const HOST_MEMORY_MIB = 1024;
const PEER = '10.9.0.1';
const SELF = '10.9.0.2';
/** Both passt's network (docs/NETWORK.md) and QEMU's have the machine at this address. */
const MACHINE = '10.0.2.2';
const MACHINE_NETWORK_ADDRESS = '10.0.2.40';

interface Pair {
  readonly name: MachineName;
  /** Runs the lines. */
  readonly machine: DeviceMachine;
  readonly others: readonly DeviceMachine[];
}

async function address(machine: DeviceMachine, device: string, ip: string): Promise<void> {
  await machine.command(`ip addr add ${ip}/24 dev ${device}; ip link set ${device} up`, TIMEOUT_MS);
}

async function serving(machine: DeviceMachine): Promise<void> {
  await machine.command('(gio serve 5577 >/tmp/serve 2>&1 &)', TIMEOUT_MS);
}

async function ours(host: TestHost, guest: DeviceGuest): Promise<Pair> {
  const peer = await startOurs(host, guest, 'peer', { vif: [''] });
  const machine = await startOurs(host, guest, 'self', { vif: [''] });
  await address(peer, 'eth0', PEER);
  await address(machine, 'eth0', SELF);
  await address(machine, 'eth0', MACHINE_NETWORK_ADDRESS);
  await serving(peer);
  return { name: 'ours', machine, others: [peer] };
}

async function tcg(guest: DeviceGuest): Promise<Pair> {
  const port = await freePort();
  const peer = await startTcg(guest, { networks: [`socket,listen=127.0.0.1:${port}`] });
  const machine = await startTcg(guest, { networks: [`socket,connect=127.0.0.1:${port}`, 'user'] });
  await address(peer, 'eth0', PEER);
  await address(machine, 'eth0', SELF);
  await address(machine, 'eth1', MACHINE_NETWORK_ADDRESS);
  await serving(peer);
  return { name: 'tcg', machine, others: [peer] };
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      machines: { type: 'string', default: MACHINES.join(',') },
      only: { type: 'string' },
      runs: { type: 'string', default: '3' },
      megabytes: { type: 'string', default: '64' },
      seconds: { type: 'string', default: '10' },
      guests: { type: 'string', default: '20' },
      jit: { type: 'string' },
    },
  });
  // Hosts start from dist/: it shall be of the sources that are measured.
  execFileSync(process.execPath, [fileURLToPath(new URL('../../tools/build.mjs', import.meta.url))]);
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const missing = await providePasst(say);
  if (missing !== undefined) say(`${missing}: no line to this machine`);
  const guest = await deviceGuest(say);
  const { gio } = guest;
  if (gio === undefined) throw new Error('no gcc on this machine: the programs of the guest cannot be made');
  const only = values.only?.split(',');
  const port = await freePort();
  const lines = netLines({
    mebibytes: Number(values.megabytes),
    peer: { address: PEER, port: 5577 },
    machine: missing === undefined ? { address: MACHINE, port } : undefined,
  }).filter(({ name }) => only?.includes(name) ?? true);
  const server = spawn(gio, ['serve', String(port)], { stdio: 'ignore' });
  const chosen = values.machines.split(',');
  const pairs: Pair[] = [];
  let host: TestHost | undefined;
  try {
    if (lines.length > 0) {
      if (chosen.includes('ours')) {
        host = await TestHost.start({ jit: values.jit, memoryMiB: HOST_MEMORY_MIB, networkConfig: LOOPBACK_NETWORK });
        pairs.push(await ours(host, guest));
      }
      if (chosen.includes('tcg')) pairs.push(await tcg(guest));
      for (const line of lines) {
        const compared = { ...line, lessIsBetter: line.unit === 'ms' };
        await compareMachines(pairs, compared, Number(values.runs), async ({ machine }) =>
          line.figure(await machine.command(line.command, TIMEOUT_MS)),
        );
      }
    }
    await host?.stop();
    host = undefined;
    if (chosen.includes('ours') && (only?.includes('fairness') ?? true))
      await fairness(guest, { guests: Number(values.guests), seconds: Number(values.seconds), jit: values.jit });
    return 0;
  } finally {
    server.kill('SIGKILL');
    for (const { name, machine, others } of pairs)
      if (name === 'tcg') for (const each of [machine, ...others]) await each.stop();
    await host?.stop();
  }
}
