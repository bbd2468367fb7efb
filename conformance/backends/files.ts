/** Files on disks of each format: what a guest wrote is there for the next guest; a mode that refuses. */
import { assert, type ConsoleSession, type TestHost } from '@xenhost/testkit';
import { files, type Format, formats, must, mustFail, type World } from './world.ts';

const IMAGE_MIB = 64;

interface Disk {
  readonly format: Format;
  readonly device: string;
  readonly image: string;
  made: string;
}

async function written(world: World, host: TestHost, disks: readonly Disk[]): Promise<void> {
  const { report } = world;
  const shell = await world.start(host, 'files', { disk: world.diskLines(disks, 'w') });
  for (const disk of disks)
    await report.case(`${disk.format.name}: ext4 is made, filled and unmounted`, async () => {
      disk.made = await files(shell, 'make', disk.device);
      return disk.made;
    });
  await report.case('the guest is destroyed, with nothing left of its disks', () => world.destroy(host, 'files'));
  for (const { format, image } of disks)
    await report.case(`${format.name}: qemu-img finds the image whole`, async () => {
      if (format.qemu === 'qcow2') await world.qemuImg('check', '-f', format.qemu, image);
      const bytes = await world.content(format, image);
      assert(bytes.length === IMAGE_MIB << 20, `${bytes.length} bytes`);
    });
}

async function read(world: World, host: TestHost, disks: readonly Disk[]): Promise<void> {
  const { report } = world;
  const shell: ConsoleSession = await world.start(host, 'files', { disk: world.diskLines(disks, 'r') });
  for (const { format, device, made } of disks) {
    await report.case(`${format.name}: the next guest finds every file`, async () => {
      const found = await files(shell, 'check', device);
      assert(found === made, `${found} instead of ${made}`);
    });
    await report.case(`${format.name}: mode r refuses writes`, async () => {
      await must(shell, `test $(blockdev --getro ${device}) = 1`);
      await mustFail(shell, `dd if=/dev/zero of=${device} bs=4096 count=1 conv=fsync`);
    });
  }
  await world.destroy(host, 'files');
}

export async function filesPart(world: World): Promise<void> {
  const disks: Disk[] = [];
  for (const [i, format] of formats.entries())
    disks.push({ format, device: world.device(i), image: await world.image(format, 'files', IMAGE_MIB), made: '' });
  await world.withHost(async (host) => {
    await written(world, host, disks);
    await read(world, host, disks);
  });
}
