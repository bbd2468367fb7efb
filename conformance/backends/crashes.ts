/** kill -9 of the backends while guests work: what was flushed is in the image, no request is lost or done twice. */
import { assert, type ConsoleSession, type TestHost } from '@xenhost/testkit';
import { type Format, formats, gioEnded, must, type World } from './world.ts';

const IMAGE_MIB = 64;
const BLOCK = 4096;
const SPAN_KIB = 16 << 10;
const DEPTH = 16;
const KILLS = 3;
const FLUSHES_FIRST = 60;
/** More than fit before the kill. */
const FLUSHES = 15_000;
const LINE_TIMEOUT_MS = 300_000;
const PAUSE_MS = 1500;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The highest N of `flushed N` among what the console has shown. */
const flushed = (shell: ConsoleSession): number =>
  Number([...shell.output.matchAll(/^flushed (\d+)\r?$/gm)].at(-1)?.[1] ?? 0);

async function flushSurvives(world: World, host: TestHost, format: Format): Promise<string> {
  const image = await world.image(format, 'flushes', IMAGE_MIB);
  const shell = await world.start(host, 'flushes', { disk: [`${format.prefix}${image},xvda,w`] });
  shell.write(`gio flushes /dev/xvda ${FLUSHES}\n`);
  await shell.expect(`flushed ${FLUSHES_FIRST}\r`, LINE_TIMEOUT_MS);
  const seen = flushed(shell);
  process.kill(host.pidOf('blkback'), 'SIGKILL');
  await world.destroy(host, 'flushes');
  if (format.qemu === 'qcow2') await world.qemuImg('check', '-f', 'qcow2', image).catch(() => undefined);
  const bytes = await world.content(format, image);
  for (let n = 1; n <= seen; n++) {
    const found = bytes.readUInt32LE(n * BLOCK);
    assert(found === n, `block ${n} of ${seen} that were flushed holds ${found}`);
  }
  return `${seen} blocks flushed before the kill, all there`;
}

async function randomThroughKills(world: World, host: TestHost, format: Format): Promise<string> {
  const image = await world.image(format, 'kills', IMAGE_MIB);
  const shell = await world.start(host, 'kills', { disk: [`${format.prefix}${image},xvda,w`] });
  const seconds = Math.max(8, Math.round(world.options.seconds / formats.length));
  const ended = must(shell, `gio fsx /dev/xvda ${SPAN_KIB} ${seconds} 11 ${DEPTH}`, LINE_TIMEOUT_MS + seconds * 1000);
  // Whatever happens first: the run's end with an error, or all kills.
  const kills = (async () => {
    for (let i = 0; i < KILLS; i++) {
      await pause(PAUSE_MS);
      await host.killDaemon('blkback');
    }
  })();
  const [output] = await Promise.all([ended, kills]);
  const trouble = /^.*(blkfront|I\/O error).*$/m.exec(await shell.command('dmesg | tail -n 40', LINE_TIMEOUT_MS))?.[0];
  assert(trouble === undefined || !/incorrect|I\/O error/.test(trouble), trouble ?? '');
  await world.destroy(host, 'kills');
  return `${KILLS} kills, ${gioEnded(output)}`;
}

export async function crashesPart(world: World): Promise<void> {
  for (const format of formats) {
    await world.withHost(async (host) => {
      await world.report.case(`${format.name}: what was flushed survives kill -9 of blkback`, () =>
        flushSurvives(world, host, format),
      );
    });
    await world.withHost(async (host) => {
      await world.report.case(`${format.name}: random requests through kill -9 of blkback`, () =>
        randomThroughKills(world, host, format),
      );
    });
  }
  await world.withHost(async (host) => {
    await world.report.case('kill -9 of netback under a transfer: it goes on and every byte is right', () =>
      transferThroughKills(world, host),
    );
  });
}

async function transferThroughKills(world: World, host: TestHost): Promise<string> {
  const one = await world.start(host, 'one', { vif: [''] });
  const two = await world.start(host, 'two', { vif: [''] });
  await must(one, 'ip addr add 10.9.0.1/24 dev eth0 && ip link set eth0 up');
  await must(two, 'ip addr add 10.9.0.2/24 dev eth0 && ip link set eth0 up');
  one.write('gio serve 5577\n');
  await one.expect('serving\r', LINE_TIMEOUT_MS);
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
