/** Files on disks of each format: what a guest wrote is there for the next guest; modes that refuse. */
import { assert, type TestHost } from '@xenhost/testkit';
import { files, type Format, formats, must, mustFail, type World } from './world.ts';

const IMAGE_MIB = 64;

async function format(world: World, host: TestHost, kind: Format): Promise<void> {
  const { report } = world;
  const image = await world.image(kind, 'files', IMAGE_MIB);
  const disk = (mode: string): string[] => [`${kind.prefix}${image},xvda,${mode}`];
  let made = '';
  const name = `files-${kind.name}`;
  const written = await report.case(`${kind.name}: ext4 is made, filled and unmounted`, async () => {
    const shell = await world.start(host, name, { disk: disk('w') });
    made = await files(shell, 'make', '/dev/xvda');
    return made;
  });
  await report.case(`${kind.name}: destroyed, with nothing left of its disk`, () => world.destroy(host, name));
  if (!written) return;
  await report.case(`${kind.name}: qemu-img finds the image whole`, async () => {
    if (kind.qemu === 'qcow2') await world.qemuImg('check', '-f', kind.qemu, image);
    const bytes = await world.content(kind, image);
    assert(bytes.length === IMAGE_MIB << 20, `${bytes.length} bytes`);
  });
  await report.case(`${kind.name}: the next guest finds every file`, async () => {
    const shell = await world.start(host, name, { disk: disk('r') });
    const found = await files(shell, 'check', '/dev/xvda');
    assert(found === made, `${found} instead of ${made}`);
  });
  await report.case(`${kind.name}: mode r refuses writes`, async () => {
    const shell = host.console(name);
    await must(shell, 'test $(blockdev --getro /dev/xvda) = 1');
    await mustFail(shell, 'dd if=/dev/zero of=/dev/xvda bs=4096 count=1 conv=fsync');
  });
  await world.destroy(host, name);
}

export async function filesPart(world: World): Promise<void> {
  for (const kind of formats) await world.withHost((host) => format(world, host, kind));
}
