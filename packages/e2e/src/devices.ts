/** Journeys of devices: a block read and a packet, each from a guest's ring to its backend and back. */
import { randomFillSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  assert,
  blkRequest,
  netFrame,
  netTx,
  Puppet,
  PuppetDisk,
  PuppetNic,
  type Report,
  TestHost,
} from '@xenhost/testkit';
import { BLKIF_OP } from '@xenhost/xen-abi';

const IMAGE_BYTES = 1 << 20;
const SECTOR = 512;
const PAGE_SECTORS = 8;
const AT = 40;
const FRAME_BYTES = 200;
const RX_PAGES = 4;

export async function devices(report: Report): Promise<void> {
  const host = await TestHost.start({ memoryMiB: 256 });
  try {
    await report.case(
      'a block read: sectors of an image arrive in a page of the guest, and go back changed',
      async () => {
        const image = join(host.directory, 'disk.img');
        const content = randomFillSync(Buffer.alloc(IMAGE_BYTES));
        writeFileSync(image, content);
        const puppet = await Puppet.start(host, 'reader', { disk: [`file:${image},xvda,w`] });
        const disk = await PuppetDisk.connect(puppet);
        const [page] = await disk.buffers(1);
        assert(page !== undefined, 'no page');
        await disk.push(blkRequest({ id: 5n, sector: BigInt(AT), segments: [page] }));
        assert((await disk.answers(1))?.[0]?.status === 0, 'the read was not answered well');
        const expected = content.subarray(AT * SECTOR, (AT + PAGE_SECTORS) * SECTOR);
        assert(
          (await puppet.get(page.address, expected.length)).equals(expected),
          'other bytes than those of the image',
        );
        await disk.push(blkRequest({ operation: BLKIF_OP.WRITE, id: 6n, segments: [page] }));
        assert((await disk.answers(1))?.[0]?.status === 0, 'the write was not answered well');
        assert(readFileSync(image).subarray(0, expected.length).equals(expected), 'the image has other bytes');
        await puppet.destroy();
      },
    );
    await report.case('a packet: a frame of one guest arrives in a page of another', async () => {
      const sender = await Puppet.start(host, 'sender', { vif: [''] });
      const receiver = await Puppet.start(host, 'receiver', { vif: [''] });
      const from = await PuppetNic.connect(sender);
      const to = await PuppetNic.connect(receiver);
      const pages = await to.offerPages(RX_PAGES);
      const { gref } = await from.frame(FRAME_BYTES);
      await from.push(netTx({ gref, id: 3, size: FRAME_BYTES }));
      const [answer] = (await from.answers(1)) ?? [];
      assert(answer?.id === 3 && answer.status === 0, 'the frame was not taken');
      const sent = Buffer.from(netFrame(FRAME_BYTES));
      const came = await to.receive(pages);
      assert(came?.equals(sent) === true, `another frame: ${came?.toString('hex') ?? 'none'}`);
      await sender.destroy();
      await receiver.destroy();
    });
  } finally {
    await host.stop();
  }
}
