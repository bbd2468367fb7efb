/** Devices that come and go, change and grow while the guest works on another. */
import { truncateSync } from 'node:fs';
import { assert, type ConsoleSession, Puppet, type TestHost, until } from '@xenhost/testkit';
import { linked, serve } from './network.ts';
import { gioEnded, must, qcow2, raw, type World } from './world.ts';

const IMAGE_MIB = 64;
const SMALL_MIB = 16;
const DISC_MIB = 4;
const SPAN_KIB = 8 << 10;
const DEPTH = 8;
const ROUNDS = 5;
const LINE_TIMEOUT_MS = 120_000;
const MAC = '00:16:3e:00:00:77';
const RESIZED_SECTORS = (SMALL_MIB * 2) << 11;

const sectors = async (shell: ConsoleSession, device: string): Promise<number> =>
  Number(/^(\d+)\r?$/m.exec(await shell.command(`cat /sys/block/${device}/size`, LINE_TIMEOUT_MS))?.[1] ?? -1);

const exists = async (shell: ConsoleSession, path: string): Promise<boolean> =>
  /^there/m.test(await shell.command(`test -e ${path} && echo th''ere`, LINE_TIMEOUT_MS));

const GUEST = 'plug';

async function disks(world: World, host: TestHost, shell: ConsoleSession): Promise<string> {
  const image = await world.image(qcow2, 'second', SMALL_MIB);
  const seconds = ROUNDS * 4;
  await shell.command(`(gio fsx /dev/xvda ${SPAN_KIB} ${seconds} 5 ${DEPTH} >/tmp/fsx 2>&1 &)`, LINE_TIMEOUT_MS);
  for (let round = 1; round <= ROUNDS; round++) {
    await host.mustXm('block-attach', GUEST, `${qcow2.prefix}${image}`, 'xvdb', 'w');
    await until('xvdb is there', () => exists(shell, '/dev/xvdb'));
    if (round > 1) await must(shell, `gio check /dev/xvdb ${SMALL_MIB} ${round - 1}`);
    await must(shell, `gio fill /dev/xvdb ${SMALL_MIB} ${round}`);
    await host.mustXm('block-detach', GUEST, 'xvdb');
    await until('xvdb is gone', async () => !(await exists(shell, '/dev/xvdb')));
  }
  await until(
    'the random requests have ended',
    async () => !/^\d/m.test(await shell.command('pidof gio', LINE_TIMEOUT_MS)),
    LINE_TIMEOUT_MS,
  );
  return `${ROUNDS} rounds beside ${gioEnded(await shell.command('cat /tmp/fsx', LINE_TIMEOUT_MS))}`;
}

async function cdrom(world: World, host: TestHost, shell: ConsoleSession): Promise<string> {
  const before = await sectors(shell, 'xvdc');
  assert(before === DISC_MIB << 11, `${before} sectors at first`);
  const other = await world.image(raw, 'disc-2', 2 * DISC_MIB);
  await host.mustXm('block-configure', GUEST, `file:${other}`, 'xvdc:cdrom', 'r');
  await until('the guest sees the other disc', async () => (await sectors(shell, 'xvdc')) === (2 * DISC_MIB) << 11);
  await must(shell, `dd if=/dev/xvdc of=/dev/null bs=1M count=${2 * DISC_MIB}`);
  return "the size is the second disc's";
}

async function resize(shell: ConsoleSession, image: string): Promise<string> {
  await must(shell, `gio fill /dev/xvdd ${SMALL_MIB} 3`);
  truncateSync(image, RESIZED_SECTORS * 512);
  await until('the guest sees the new size', async () => {
    await must(shell, 'dd if=/dev/xvdd of=/dev/null bs=4096 count=1 iflag=direct');
    return (await sectors(shell, 'xvdd')) === RESIZED_SECTORS;
  });
  await must(shell, `gio check /dev/xvdd ${SMALL_MIB} 3`);
  await must(shell, `dd if=/dev/zero of=/dev/xvdd bs=1M seek=${SMALL_MIB} count=${SMALL_MIB} conv=fsync`);
  return 'seen and writable to its new end';
}

/** Domains that need not boot: the backend decides. */
async function modes(world: World, host: TestHost): Promise<string> {
  const image = await world.image(raw, 'modes', SMALL_MIB);
  const disk = (mode: string): string[] => [`file:${image},xvda,${mode}`];
  const owner = await Puppet.start(host, 'owner', { disk: disk('w') });
  const second = await Puppet.start(host, 'second', { disk: disk('w') }).catch(() => undefined);
  assert(second === undefined, 'a second domain got the disk for writing');
  await host.xm('destroy', 'second');
  const reader = await Puppet.start(host, 'reader', { disk: disk('r') }).catch(() => undefined);
  assert(reader === undefined, 'a second domain got for reading what another writes');
  await host.xm('destroy', 'reader');
  const sharer = await Puppet.start(host, 'sharer', { disk: disk('w!') });
  await sharer.destroy();
  await owner.destroy();
  const readers = [
    await Puppet.start(host, 'first', { disk: disk('r') }),
    await Puppet.start(host, 'another', { disk: disk('r') }),
  ];
  for (const each of readers) await each.destroy();
  return 'w refuses a second domain; w! and r together do not';
}

async function interfaces(world: World, host: TestHost): Promise<string> {
  const one = await world.start(host, 'one', { vif: [''] });
  const two = await world.start(host, 'two', { vif: [''] });
  await linked(one, '10.9.0.1');
  await linked(two, '10.9.0.2');
  await serve(one);
  await two.command(`(while gio send 10.9.0.1 5577 4 9; do echo round; done >/tmp/transfers 2>&1 &)`, LINE_TIMEOUT_MS);
  for (let round = 0; round < ROUNDS; round++) {
    await host.mustXm('network-attach', 'two', `mac=${MAC}`);
    await until('eth1 is there', () => exists(two, '/sys/class/net/eth1'));
    await must(two, 'ip addr add 10.9.1.2/24 dev eth1 && ip link set eth1 up');
    await host.mustXm('network-detach', 'two', MAC);
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

export async function hotplugPart(world: World): Promise<void> {
  const { report } = world;
  const image = await world.image(raw, 'first', IMAGE_MIB);
  const disc = await world.image(raw, 'disc-1', DISC_MIB);
  const growing = await world.image(raw, 'growing', SMALL_MIB);
  await world.withHost(async (host) => {
    const disk = [`file:${image},xvda,w`, `file:${disc},xvdc:cdrom,r`, `file:${growing},xvdd,w`];
    const shell = await world.start(host, GUEST, { disk });
    await report.case('disks attached and detached while random requests run on another', () =>
      disks(world, host, shell),
    );
    await report.case('another disc in a cdrom', () => cdrom(world, host, shell));
    await report.case('a raw image that grows', () => resize(shell, growing));
    await report.case('exclusive and shared writers', () => modes(world, host));
    await world.destroy(host, GUEST);
    await report.case('interfaces attached and detached beside a transfer', () => interfaces(world, host));
  });
}
