/**
 * Disks of Debian's guest: blkfront on a host of ours against virtio-blk in QEMU's TCG, the same kernel, initramfs and a copy
 * of the same raw image, round by round in one run. One JSON line a figure; ratios are higher where we are better. Exit code 1
 * when a machine fails.
 *   --machines NAMES  ours,tcg (default both)
 *   --only NAMES      lines (lines.ts) or `fairness`; default all
 *   --runs N          rounds, medians are taken (default 3)
 *   --megabytes N     of each sequential line (default 64)
 *   --seconds N       of each random line (default 2)
 *   --guests N        of the line `fairness` (default 20)
 *   --jit MODE        off, on or force (default: XENHOST_JIT, else on)
 *   --tools DIR       sources of the bench guest: with them its own disk lines run too (default ../shared/tools/guest)
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, copyFileSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchFiles, defaultBenchTools, deviceGuest, TestHost } from '@xenhost/testkit';
import { compareMachines, type DeviceMachine, startOurs, startTcg } from '../lib/device-machines.ts';
import { fairness } from './fairness.ts';
import { diskLines, type DiskLine } from './lines.ts';

const IMAGE_MIB = 256;
const MIB = 1 << 20;
const LINE_TIMEOUT_MS = 600_000;
const MACHINES = ['ours', 'tcg'] as const;
type MachineName = (typeof MACHINES)[number];

/** An image without holes: a hole would be read without the disk. */
function writeImage(path: string): void {
  const file = openSync(path, 'w');
  const piece = Buffer.alloc(MIB);
  for (let i = 0; i < IMAGE_MIB; i++) writeSync(file, randomFillSync(piece));
  closeSync(file);
}

/** Takes the file out of this machine's page cache (posix_fadvise, by dd). */
function dropFromCache(path: string): void {
  execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

interface Bench {
  readonly name: MachineName;
  readonly machine: DeviceMachine;
  readonly image: string;
}

async function measure({ machine, image }: Bench, line: DiskLine): Promise<number> {
  if (line.cold === true) dropFromCache(image);
  await machine.command('echo 3 >/proc/sys/vm/drop_caches', LINE_TIMEOUT_MS);
  return line.rate(await machine.command(line.command(machine.disk), LINE_TIMEOUT_MS));
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      machines: { type: 'string', default: MACHINES.join(',') },
      only: { type: 'string' },
      runs: { type: 'string', default: '3' },
      megabytes: { type: 'string', default: '64' },
      seconds: { type: 'string', default: '2' },
      guests: { type: 'string', default: '20' },
      jit: { type: 'string' },
      tools: { type: 'string', default: defaultBenchTools },
    },
  });
  const only = values.only?.split(',');
  const gbench = await benchFiles(values.tools);
  const lines = diskLines({
    mebibytes: Number(values.megabytes),
    seconds: Number(values.seconds),
    spanMiB: IMAGE_MIB,
    gbench: gbench.length > 0,
  }).filter(({ name }) => only?.includes(name) ?? true);
  // Hosts start from dist/: it shall be of the sources that are measured.
  execFileSync(process.execPath, [fileURLToPath(new URL('../../tools/build.mjs', import.meta.url))]);
  const guest = await deviceGuest((text) => void process.stderr.write(`${text}\n`), { more: gbench });
  if (guest.gio === undefined) throw new Error('no gcc on this machine: the programs of the guest cannot be made');
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const images = { ours: join(directory, 'ours.img'), tcg: join(directory, 'tcg.img') };
  writeImage(images.ours);
  copyFileSync(images.ours, images.tcg);
  const chosen = values.machines.split(',');
  const benches: Bench[] = [];
  let host: TestHost | undefined;
  try {
    if (chosen.includes('ours')) {
      host = await TestHost.start({ jit: values.jit, memoryMiB: 1024 });
      const machine = await startOurs(host, guest, 'disk', { disk: [`file:${images.ours},xvda,w`] });
      benches.push({ name: 'ours', machine, image: images.ours });
    }
    if (chosen.includes('tcg'))
      benches.push({ name: 'tcg', machine: await startTcg(guest, { disk: images.tcg }), image: images.tcg });
    for (const line of lines)
      await compareMachines(benches, line, Number(values.runs), (bench) => measure(bench, line));
    for (const { machine } of benches) await machine.stop();
    await host?.stop();
    host = undefined;
    if (chosen.includes('ours') && (only?.includes('fairness') ?? true))
      await fairness(guest, { guests: Number(values.guests), seconds: Number(values.seconds), jit: values.jit });
    return 0;
  } finally {
    for (const { machine, name } of benches) if (name === 'tcg') await machine.stop();
    await host?.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}
