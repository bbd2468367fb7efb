/** Random reads, writes, flushes and discards against a model in the guest's memory, on every format. */
import { type Format, formats, gioEnded, must, qcow2, raw, type World } from './world.ts';

const IMAGE_MIB = 64;
const SPAN_KIB = 16 << 10;
const DEPTH = 16;
const MARGIN_MS = 300_000;

interface Disk {
  readonly title: string;
  readonly format: Format;
  readonly device: string;
  readonly image: string;
}

async function disksOf(world: World): Promise<Disk[]> {
  const backing = await world.image(raw, 'backing', IMAGE_MIB);
  const kinds = [
    ...formats.map((format) => ({ title: format.name, format, more: [] })),
    { title: 'raw as tap:aio', format: { ...raw, prefix: 'tap:aio:' }, more: [] },
    { title: 'qcow2 on a backing file', format: qcow2, more: ['-b', backing, '-F', 'raw'] },
  ];
  const disks: Disk[] = [];
  for (const [i, { title, format, more }] of kinds.entries()) {
    const image = await world.image(format, `random-${i}`, IMAGE_MIB, more);
    disks.push({ title, format, device: world.device(i), image });
  }
  return disks;
}

export async function randomPart(world: World): Promise<void> {
  const { report } = world;
  const disks = await disksOf(world);
  const seconds = Math.max(1, Math.round(world.options.seconds / disks.length));
  await world.withHost(async (host) => {
    const shell = await world.start(host, 'random', { disk: world.diskLines(disks, 'w'), vcpus: 2 });
    for (const [i, { title, device }] of disks.entries())
      await report.case(`${title}: ${seconds} s of random requests`, async () => {
        const queue = `/sys/block/${device.slice('/dev/'.length)}/queue/discard_max_bytes`;
        const discard = /^[1-9]/m.test(await shell.command(`cat ${queue}`, MARGIN_MS)) ? ' discard' : '';
        const line = `gio fsx ${device} ${SPAN_KIB} ${seconds} ${i + 1} ${DEPTH}${discard}`;
        return `${gioEnded(await must(shell, line, seconds * 1000 + MARGIN_MS))}${discard}`;
      });
    await world.destroy(host, 'random');
    for (const { title, format, image } of disks)
      if (format.qemu === 'qcow2')
        await report.case(`${title}: qemu-img finds the image whole`, async () => {
          await world.qemuImg('check', '-f', format.qemu, image);
        });
  });
}
