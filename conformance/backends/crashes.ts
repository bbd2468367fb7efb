/** kill -9 of the backends while guests work: what was flushed is in the image, no request is lost or done twice. */
import { assert, type ConsoleSession, type TestHost, until } from '@xenhost/testkit';
import { linked, serve } from './network.ts';
import { type Format, formats, gioEnded, must, type World } from './world.ts';

const IMAGE_MIB = 64;
const BLOCK = 4096;
const SPAN_KIB = 16 << 10;
const DEPTH = 16;
const KILLS = 3;
const FLUSHES_FIRST = 40;
/** More than fit before the kill. */
const FLUSHES = 15_000;
const LINE_TIMEOUT_MS = 300_000;
const PAUSE_MS = 1500;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The highest N of `flushed N` that the console has shown for a format. */
const flushed = (shell: ConsoleSession, { name }: Format): number =>
  Number([...shell.output.matchAll(new RegExp(`${name} flushed (\\d+)\r`, 'g'))].at(-1)?.[1] ?? 0);

interface Disk {
  readonly format: Format;
  readonly device: string;
  readonly image: string;
}

async function disksOf(world: World, name: string): Promise<Disk[]> {
  const disks: Disk[] = [];
  for (const [i, format] of formats.entries())
    disks.push({ format, device: world.device(i), image: await world.image(format, name, IMAGE_MIB) });
  return disks;
}

/** All formats at once: a flush that the guest was told of before the kill is in each image. */
async function flushSurvives(world: World, host: TestHost): Promise<void> {
  const disks = await disksOf(world, 'flushes');
  const shell = await world.start(host, 'flushes', { disk: world.diskLines(disks, 'w') });
  for (const { device, format } of disks)
    await shell.command(`(gio flushes ${device} ${FLUSHES} | sed 's/^/${format.name} /' &)`, LINE_TIMEOUT_MS);
  await until(
    'each disk has flushed',
    () => Promise.resolve(disks.every(({ format }) => flushed(shell, format) >= FLUSHES_FIRST)),
    LINE_TIMEOUT_MS,
  );
  const seen = disks.map(({ format }) => flushed(shell, format));
  process.kill(host.pidOf('blkback'), 'SIGKILL');
  await world.destroy(host, 'flushes');
  for (const [i, { format, image }] of disks.entries())
    await world.report.case(`${format.name}: what was flushed survives kill -9 of blkback`, async () => {
      const count = seen[i] ?? 0;
      const bytes = await world.content(format, image);
      for (let n = 1; n <= count; n++) {
        const found = bytes.readUInt32LE(n * BLOCK);
        assert(found === n, `block ${n} of ${count} that were flushed holds ${found}`);
      }
      return `${count} blocks flushed before the kill, all there`;
    });
}

async function randomThroughKills(world: World, host: TestHost): Promise<void> {
  const disks = await disksOf(world, 'kills');
  const shell = await world.start(host, 'kills', { disk: world.diskLines(disks, 'w'), vcpus: 2 });
  const seconds = Math.max(8, world.options.seconds);
  for (const { device, format } of disks)
    await shell.command(
      `(gio fsx ${device} ${SPAN_KIB} ${seconds} 11 ${DEPTH} >/tmp/${format.name} 2>&1 &)`,
      LINE_TIMEOUT_MS,
    );
  for (let i = 0; i < KILLS; i++) {
    await pause(PAUSE_MS);
    await host.killDaemon('blkback');
  }
  await until(
    'the random requests have ended',
    async () => !/^\d/m.test(await shell.command('pidof gio', LINE_TIMEOUT_MS)),
    seconds * 1000 + LINE_TIMEOUT_MS,
  );
  for (const { format } of disks)
    await world.report.case(`${format.name}: random requests through ${KILLS} kill -9 of blkback`, async () =>
      gioEnded(await shell.command(`cat /tmp/${format.name}`, LINE_TIMEOUT_MS)),
    );
  await world.report.case('the guest saw neither errors nor answers that it did not ask for', async () => {
    const trouble = /^.*(incorrect|I\/O error|bad response).*$/m.exec(
      await shell.command('dmesg', LINE_TIMEOUT_MS),
    )?.[0];
    assert(trouble === undefined, trouble ?? '');
  });
  await world.destroy(host, 'kills');
}

export async function crashesPart(world: World): Promise<void> {
  await world.withHost(async (host) => {
    await flushSurvives(world, host);
    await randomThroughKills(world, host);
  });
  await world.withHost(async (host) => {
    await world.report.case('kill -9 of netback under a transfer: it goes on and every byte is right', () =>
      transferThroughKills(world, host),
    );
  });
}

async function transferThroughKills(world: World, host: TestHost): Promise<string> {
  const one = await world.start(host, 'one', { vif: [''] });
  const two = await world.start(host, 'two', { vif: [''] });
  await linked(one, '10.9.0.1');
  await linked(two, '10.9.0.2');
  await serve(one);
  await must(two, 'gio send 10.9.0.1 5577 1 3', LINE_TIMEOUT_MS);
  const ended = must(two, `gio send 10.9.0.1 5577 ${Math.max(64, world.options.megabytes)} 7`, LINE_TIMEOUT_MS);
  const kills = (async () => {
    for (let i = 0; i < KILLS; i++) {
      await pause(PAUSE_MS / 3);
      await host.killDaemon('netback');
    }
  })();
  const [output] = await Promise.all([ended, kills]);
  return `${KILLS} kills, ${gioEnded(output)}`;
}
