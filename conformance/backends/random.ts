/** Random reads, writes, flushes and discards against a model in the guest's memory, on every format. */
import { assert } from '@xenhost/testkit';
import { type Format, formats, gioEnded, must, type World } from './world.ts';

const IMAGE_MIB = 64;
const SPAN_KIB = 16 << 10;
const DEPTH = 16;
const MARGIN_MS = 300_000;

interface Case {
  readonly title: string;
  readonly format: Format;
  readonly prefix: string;
  /** Of the image, for qemu-img create. */
  readonly more: readonly string[];
  readonly vcpus: number;
}

async function cases(world: World): Promise<Case[]> {
  const [raw, qcow2] = formats;
  assert(raw !== undefined && qcow2 !== undefined, 'formats');
  const backing = await world.image(raw, 'backing', IMAGE_MIB);
  return [
    ...formats.map((format) => ({ title: format.name, format, prefix: format.prefix, more: [], vcpus: 1 })),
    { title: 'raw, 2 vCPUs', format: raw, prefix: 'tap:aio:', more: [], vcpus: 2 },
    {
      title: 'qcow2 on a backing file',
      format: qcow2,
      prefix: qcow2.prefix,
      more: ['-b', backing, '-F', 'raw'],
      vcpus: 1,
    },
  ];
}

export async function randomPart(world: World): Promise<void> {
  const { report } = world;
  const all = await cases(world);
  const seconds = Math.max(1, Math.round(world.options.seconds / all.length));
  for (const [i, { title, format, prefix, more, vcpus }] of all.entries())
    await world.withHost(async (host) => {
      const image = await world.image(format, `random-${i}`, IMAGE_MIB, more);
      await report.case(`${title}: ${seconds} s of random requests`, async () => {
        const shell = await world.start(host, 'random', { disk: [`${prefix}${image},xvda,w`], vcpus });
        const discards = (await shell.command('cat /sys/block/xvda/queue/discard_max_bytes', MARGIN_MS)).includes(
          '\n0\r',
        )
          ? ''
          : ' discard';
        const line = `gio fsx /dev/xvda ${SPAN_KIB} ${seconds} ${i + 1} ${DEPTH}${discards}`;
        return `${gioEnded(await must(shell, line, seconds * 1000 + MARGIN_MS))}${discards}`;
      });
      await world.destroy(host, 'random');
      if (format.qemu === 'qcow2')
        await report.case(`${title}: qemu-img finds the image whole`, async () => {
          await world.qemuImg('check', '-f', format.qemu, image);
        });
    });
}
