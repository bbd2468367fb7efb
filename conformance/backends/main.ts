/**
 * Disks and networks of domains: Debian's drivers (xen-blkfront, xen-netfront) in Debian's kernel against blkback and netback,
 * images checked by qemu-img, and guests that keep to no protocol.
 *   --only PARTS     files,random,crashes,hotplug,network,many,hostile-disk,hostile-net (default all)
 *   --seconds N      of each run of random requests (default 20)
 *   --megabytes N    of each transfer over the network (default 32)
 *   --guests N       of the part `many` (default 20)
 *   --jit MODE       off, on or force (default: XENHOST_JIT, else on)
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Report } from '@xenhost/testkit';
import { crashesPart } from './crashes.ts';
import { filesPart } from './files.ts';
import { hostileDiskPart, hostileNetPart } from './hostile.ts';
import { hotplugPart } from './hotplug.ts';
import { manyPart } from './many.ts';
import { networkPart } from './network.ts';
import { randomPart } from './random.ts';
import { World } from './world.ts';

const parts: Readonly<Record<string, (world: World) => Promise<void>>> = {
  files: filesPart,
  random: randomPart,
  crashes: crashesPart,
  hotplug: hotplugPart,
  network: networkPart,
  many: manyPart,
  'hostile-disk': hostileDiskPart,
  'hostile-net': hostileNetPart,
};

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', default: Object.keys(parts).join(',') },
      seconds: { type: 'string', default: '20' },
      megabytes: { type: 'string', default: '32' },
      guests: { type: 'string', default: '20' },
      jit: { type: 'string' },
    },
  });
  // Hosts start from dist/: it shall be of the sources that are tested.
  execFileSync(process.execPath, [fileURLToPath(new URL('../../tools/build.mjs', import.meta.url))]);
  const report = new Report();
  const world = await World.open(report, {
    seconds: Number(values.seconds),
    megabytes: Number(values.megabytes),
    guests: Number(values.guests),
    jit: values.jit,
  });
  try {
    for (const name of values.only.split(',')) {
      const part = parts[name];
      if (!part) throw new Error(`--only ${name}: one of ${Object.keys(parts).join(' ')}`);
      report.note(`--- ${name}`);
      try {
        await part(world);
      } catch (error) {
        report.row(name, false, error instanceof Error ? (error.stack ?? error.message) : String(error));
      }
    }
  } finally {
    world.close();
  }
  return report.close();
}
