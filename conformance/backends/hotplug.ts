/** Devices that come and go, change and grow while the guest works on another. */
import { truncateSync } from 'node:fs';
import { assert, type ConsoleSession, type TestHost, until } from '@xenhost/testkit';
import { formats, gioEnded, must, type World } from './world.ts';

const IMAGE_MIB = 64;
const SMALL_MIB = 16;
const SPAN_KIB = 8 << 10;
const DEPTH = 8;
const ROUNDS = 5;
const LINE_TIMEOUT_MS = 120_000;
const RESIZED_SECTORS = (SMALL_MIB * 2) << 11;

const sectors = async (shell: ConsoleSession, device: string): Promise<number> =>
  Number(/^(\d+)\r?$/m.exec(await shell.command(`cat /sys/block/${device}/size`, LINE_TIMEOUT_MS))?.[1] ?? -1);

const exists = async (shell: ConsoleSession, path: string): Promise<boolean> =>
  /^there/m.test(await shell.command(`test -e ${path} && echo th''ere`, LINE_TIMEOUT_MS));

async function disks(world: World, host: TestHost): Promise<string> {
  const [raw, qcow2] = formats;
  assert(raw !== undefined && qcow2 !== undefined, 'formats');
  const images = {
    first: await world.image(raw, 'first', IMAGE_MIB),
    second: await world.image(qcow2, 'second', SMALL_MIB),
  };
  const shell = await world.start(host, 'plug', { disk: [`file:${images.first},xvda,w`] });
  const seconds = ROUNDS * 4;
  await shell.command(`(gio fsx /dev/xvda ${SPAN_KIB} ${seconds} 5 ${DEPTH} >/tmp/fsx 2>&1 &)`, LINE_TIMEOUT_MS);
  for (let round = 1; round <= ROUNDS; round++) {
    await host.mustXm('block-attach', 'plug', `${qcow2.prefix}${images.second}`, 'xvdb', 'w');
    await until('xvdb is there', () => exists(shell, '/dev/xvdb'));
    if (round > 1) await must(shell, `gio check /dev/xvdb ${SMALL_MIB} ${round - 1}`);
    await must(shell, `gio fill /dev/xvdb ${SMALL_MIB} ${round}`);
    await host.mustXm('block-detach', 'plug', 'xvdb');
    await until('xvdb is gone', async () => !(await exists(shell, '/dev/xvdb')));
  }
  await until(
    'the random requests have ended',
    async () => !(await shell.command('pidof gio', LINE_TIMEOUT_MS)).match(/^\d/m),
    LINE_TIMEOUT_MS,
  );
  const figure = gioEnded(await shell.command('cat /tmp/fsx', LINE_TIMEOUT_MS));
  await world.destroy(host, 'plug');
  return `${ROUNDS} rounds beside ${figure}`;
}

async function interfaces(world: World, host: TestHost): Promise<string> {
  const one = await world.start(host, 'one', { vif: [''] });
  const two = await world.start(host, 'two', { vif: [''] });
  await must(one, 'ip addr add 10.9.0.1/24 dev eth0 && ip link set eth0 up');
  await must(two, 'ip addr add 10.9.0.2/24 dev eth0 && ip link set eth0 up');
  one.write('gio serve 5577\n');
  await one.expect('serving\r', LINE_TIMEOUT_MS);
  await two.command(`(while gio send 10.9.0.1 5577 4 9; do echo round; done >/tmp/transfers 2>&1 &)`, LINE_TIMEOUT_MS);
  for (let round = 0; round < ROUNDS; round++) {
    await host.mustXm('network-attach', 'two');
    await until('eth1 is there', () => exists(two, '/sys/class/net/eth1'));
    await must(two, 'ip addr add 10.9.1.2/24 dev eth1 && ip link set eth1 up');
    await host.mustXm('network-detach', 'two', '1');
    await until('eth1 is gone', async () => !(await exists(two, '/sys/class/net/eth1')));
  }
  const output = await two.command('cat /tmp/transfers', LINE_TIMEOUT_MS);
  assert(!output.includes('GIO-FAIL'), output.slice(-500));
  const transfers = [...output.matchAll(/^round/gm)].length;
  assert(transfers > 0, 'no transfer came to its end');
  await world.destroy(host, 'one');
  await world.destroy(host, 'two');
  return `${ROUNDS} rounds beside ${transfers} transfers`;
}

async function cdrom(world: World, host: TestHost): Promise<string> {
  const [raw] = formats;
  assert(raw !== undefined, 'formats');
  const discs = [await world.image(raw, 'disc-1', 4), await world.image(raw, 'disc-2', 8)] as const;
  const shell = await world.start(host, 'cdrom', { disk: [`file:${discs[0]},xvdc:cdrom,r`] });
  const before = await sectors(shell, 'xvdc');
  assert(before === 4 << 11, `${before} sectors at first`);
  await host.mustXm('block-configure', 'cdrom', `file:${discs[1]}`, 'xvdc:cdrom', 'r');
  await until('the guest sees the other disc', async () => (await sectors(shell, 'xvdc')) === 8 << 11);
  await must(shell, 'dd if=/dev/xvdc of=/dev/null bs=1M count=8');
  await world.destroy(host, 'cdrom');
  return "the size is the second disc's";
}

async function resize(world: World, host: TestHost): Promise<string> {
  const [raw] = formats;
  assert(raw !== undefined, 'formats');
  const image = await world.image(raw, 'resize', SMALL_MIB);
  const shell = await world.start(host, 'resize', { disk: [`file:${image},xvda,w`] });
  await must(shell, `gio fill /dev/xvda ${SMALL_MIB} 3`);
  truncateSync(image, RESIZED_SECTORS * 512);
  await until('the guest sees the new size', async () => {
    await must(shell, 'dd if=/dev/xvda of=/dev/null bs=4096 count=1 iflag=direct');
    return (await sectors(shell, 'xvda')) === RESIZED_SECTORS;
  });
  await must(shell, `gio check /dev/xvda ${SMALL_MIB} 3`);
  await must(shell, `dd if=/dev/zero of=/dev/xvda bs=1M seek=${SMALL_MIB} count=${SMALL_MIB} conv=fsync`);
  await world.destroy(host, 'resize');
  return 'seen and writable to its new end';
}

async function modes(world: World, host: TestHost): Promise<string> {
  const [raw] = formats;
  assert(raw !== undefined, 'formats');
  const image = await world.image(raw, 'modes', SMALL_MIB);
  await world.start(host, 'owner', { disk: [`file:${image},xvda,w`] });
  const second = host.config('second', {
    kernel: world.guest.kernel,
    ramdisk: world.guest.ramdisk,
    memory: 128,
    disk: [`file:${image},xvda,w`],
  });
  const { code } = await host.xm('create', '-q', second);
  assert(code !== 0, 'a second domain got the disk for writing');
  await host.xm('destroy', 'second');
  await world.start(host, 'sharer', { disk: [`file:${image},xvda,w!`] });
  await world.destroy(host, 'sharer');
  await world.destroy(host, 'owner');
  return 'w is refused to a second domain, w! is not';
}

export async function hotplugPart(world: World): Promise<void> {
  const cases = [
    ['disks attached and detached while random requests run on another', disks],
    ['interfaces attached and detached beside a transfer', interfaces],
    ['another disc in a cdrom', cdrom],
    ['a raw image that grows', resize],
    ['exclusive and shared writers', modes],
  ] as const;
  for (const [title, body] of cases)
    await world.withHost(async (host) => {
      await world.report.case(title, () => body(world, host));
    });
}
