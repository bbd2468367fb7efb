/** What a hostile blkfront tries. Each attack ends with an error for its request, or with its ring let go. */
import { BLKIF_OP, BLKIF_RSP } from '@xenhost/xen-abi';
import { assert, blkIndirect, blkRequest, blkSegmentInto, type Puppet, PUPPET_VBD, PuppetDisk } from '@xenhost/testkit';

const SECTORS = 8 << 11;
const GTF_readonly = 5;

export interface DiskAttack {
  readonly name: string;
  /** The device's mode; `w` unless it says another. */
  readonly mode?: 'r';
  /** Resolves to what came of it; throws when the backend did what it should not. */
  readonly run: (puppet: Puppet) => Promise<string>;
}

type Outcome = 'refused' | 'let go';

/** Every one of `count` requests got an error, or the ring was let go. */
async function refused(disk: PuppetDisk, count = 1): Promise<Outcome> {
  const answers = await disk.answers(count);
  if (answers === undefined) {
    assert(await disk.dropped(), 'neither an answer nor a ring let go');
    return 'let go';
  }
  for (const { id, status } of answers) assert(status !== BLKIF_RSP.OKAY, `request ${id} was answered OKAY`);
  return 'refused';
}

/** A request that must be refused; afterwards the ring, if it is still served, serves honest requests. */
function oneRequest(name: string, build: (disk: PuppetDisk) => Promise<Uint8Array>, mode?: 'r'): DiskAttack {
  return {
    name,
    ...(mode === undefined ? {} : { mode }),
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      await disk.push(await build(disk));
      const outcome = await refused(disk);
      if (outcome === 'refused' && mode === undefined) await disk.works();
      return outcome;
    },
  };
}

const first = async (disk: PuppetDisk): Promise<Awaited<ReturnType<PuppetDisk['buffers']>>[number]> => {
  const [page] = await disk.buffers(1);
  assert(page !== undefined, 'no page');
  return page;
};

/** Something about the connection is wrong: the backend lets go of the device, or never takes it. */
function badOffer(name: string, nodes: Readonly<Record<string, string | number>>): DiskAttack {
  return {
    name,
    run: async (puppet) => {
      const disk = await PuppetDisk.offer(puppet, nodes);
      await puppet.backendState('vbd', PUPPET_VBD, ['5', '6']);
      await puppet.send(disk.port);
      return 'let go';
    },
  };
}

async function flipping(puppet: Puppet, offset: number, values: readonly [number, number]): Promise<string> {
  const disk = await PuppetDisk.connect(puppet);
  const page = await first(disk);
  const entries = Array.from({ length: disk.ring.size }, (_, i) => blkRequest({ id: BigInt(i), segments: [page] }));
  const flipped = disk.ring.entry(disk.ring.size - 1) + offset;
  await disk.ring.lay(...entries);
  await disk.ring.produce();
  await puppet.sendAndFlip(disk.port, flipped, values);
  const answers = await disk.answers(entries.length);
  if (answers === undefined) {
    assert(await disk.dropped(), 'neither answers nor a ring let go');
    return 'let go';
  }
  return `${answers.filter(({ status }) => status !== BLKIF_RSP.OKAY).length} of ${answers.length} refused`;
}

export const diskAttacks: readonly DiskAttack[] = [
  oneRequest('more segments than a request holds', async (disk) =>
    blkRequest({ segments: await disk.buffers(11), nrSegments: 12 }),
  ),
  oneRequest('255 segments', async (disk) => blkRequest({ segments: await disk.buffers(11), nrSegments: 255 })),
  oneRequest('a sector past the end', async (disk) =>
    blkRequest({ sector: BigInt(SECTORS), segments: [await first(disk)] }),
  ),
  oneRequest('a request that ends past the end', async (disk) =>
    blkRequest({ operation: BLKIF_OP.WRITE, sector: BigInt(SECTORS - 4), segments: [await first(disk)] }),
  ),
  oneRequest('a sector whose end wraps around', async (disk) =>
    blkRequest({ operation: BLKIF_OP.WRITE, sector: (1n << 64n) - 4n, segments: [await first(disk)] }),
  ),
  oneRequest('a segment past its page', async (disk) =>
    blkRequest({ segments: [{ ...(await first(disk)), first: 0, last: 200 }] }),
  ),
  oneRequest('a segment that ends before it begins', async (disk) =>
    blkRequest({ segments: [{ ...(await first(disk)), first: 5, last: 2 }] }),
  ),
  oneRequest('a reference that was never granted', async () =>
    Promise.resolve(blkRequest({ segments: [{ gref: 300, first: 0, last: 7 }] })),
  ),
  oneRequest('a reference past the table', async () =>
    Promise.resolve(blkRequest({ segments: [{ gref: 0xffff_ffff, first: 0, last: 7 }] })),
  ),
  oneRequest('a read into a page granted for reading only', async (disk) => {
    const gref = await disk.puppet.grant(disk.puppet.page(), GTF_readonly);
    return blkRequest({ segments: [{ gref, first: 0, last: 7 }] });
  }),
  oneRequest('a grant that was taken back', async (disk) => {
    const page = await first(disk);
    await disk.push(blkRequest({ id: 7n, segments: [page] }));
    const answers = await disk.answers(1);
    assert(answers?.[0]?.status === BLKIF_RSP.OKAY, 'the grant did not serve while it was there');
    await disk.puppet.revoke(page.gref);
    return blkRequest({ id: 8n, segments: [page] });
  }),
  oneRequest('an operation that does not exist', async (disk) =>
    blkRequest({ operation: 99, segments: [await first(disk)] }),
  ),
  oneRequest('the reserved operation', async (disk) =>
    blkRequest({ operation: BLKIF_OP.RESERVED_1, segments: [await first(disk)] }),
  ),
  oneRequest(
    'a write to a disk of mode r',
    async (disk) => blkRequest({ operation: BLKIF_OP.WRITE, segments: [await first(disk)] }),
    'r',
  ),
  oneRequest('an indirect request with more segments than offered', async (disk) => {
    const { gref } = await first(disk);
    return blkIndirect({ nrSegments: 60_000, pages: Array.from({ length: 8 }, () => gref) });
  }),
  oneRequest('an indirect request whose list was never granted', async () =>
    Promise.resolve(blkIndirect({ nrSegments: 12, pages: [400] })),
  ),
  oneRequest('an indirect request of an indirect request', async (disk) =>
    blkIndirect({ operation: BLKIF_OP.INDIRECT, nrSegments: 1, pages: [(await first(disk)).gref] }),
  ),
  oneRequest('an indirect list of bad segments', async (disk) => {
    const list = await first(disk);
    const bytes = new Uint8Array(96);
    for (let i = 0; i < 12; i++) blkSegmentInto(bytes, i * 8, { gref: 500 + i, first: 7, last: 255 });
    await disk.puppet.put(list.address, bytes);
    return blkIndirect({ nrSegments: 12, pages: [list.gref] });
  }),
  {
    name: 'two requests with one id',
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      const [a, b] = await disk.buffers(2);
      assert(a !== undefined && b !== undefined, 'no pages');
      await disk.push(blkRequest({ id: 5n, segments: [a] }), blkRequest({ id: 5n, segments: [b] }));
      const answers = await disk.answers(2);
      if (answers === undefined) {
        assert(await disk.dropped(), 'neither answers nor a ring let go');
        return 'let go';
      }
      assert(
        answers.every(({ id }) => id === 5n),
        'an answer to another id',
      );
      await disk.works();
      return 'both answered';
    },
  },
  {
    name: 'a producer that jumps ahead',
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      await disk.ring.produce(1000);
      await puppet.send(disk.port);
      return lettingGo(disk);
    },
  },
  {
    name: 'a producer that goes back',
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      const page = await first(disk);
      await disk.push(blkRequest({ id: 1n, segments: [page] }), blkRequest({ id: 2n, segments: [page] }));
      await disk.answers(2);
      await disk.ring.produce(0);
      await puppet.send(disk.port);
      // Nothing is done twice: what is answered next is the honest request.
      await disk.ring.produce();
      const served = await disk.works().then(
        () => true,
        () => false,
      );
      if (served) return 'ignored';
      assert(await disk.dropped(), 'neither served nor let go');
      return 'let go';
    },
  },
  {
    name: "the backend's own producer overwritten",
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      const page = await first(disk);
      await disk.ring.setResponseProducer(77_777);
      await disk.push(blkRequest({ id: 1n, segments: [page] }));
      for (let i = 0; i < 100; i++) if ((await disk.ring.responseProducer()) === 1) return 'it kept its own';
      assert(await disk.dropped(), `it took ${await disk.ring.responseProducer()}`);
      return 'let go';
    },
  },
  {
    name: 'the number of segments changes while it is read',
    run: (puppet) => flipping(puppet, 0, [0x0000_0100, 0x0000_ff00]),
  },
  {
    name: 'a reference changes while it is read',
    run: (puppet) => flipping(puppet, 24, [8, 0xffff_fff0]),
  },
  {
    name: 'the sector changes while it is read',
    run: (puppet) => flipping(puppet, 16, [0, 0xffff_fff0]),
  },
  {
    name: 'requests under way when the domain is destroyed',
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      const page = await first(disk);
      const entries = Array.from({ length: disk.ring.size }, (_, i) =>
        blkRequest({ id: BigInt(i), operation: BLKIF_OP.WRITE, segments: [page] }),
      );
      await disk.ring.lay(...entries);
      await disk.ring.produce();
      await Promise.all([puppet.send(disk.port).catch(() => undefined), puppet.host.mustXm('destroy', puppet.name)]);
      return 'gone';
    },
  },
  {
    name: 'the ring taken back while it is served',
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      await puppet.revoke(disk.ring.reference);
      await disk.push(blkRequest({ segments: [await first(disk)] }));
      const answers = await disk.answers(1);
      assert(answers === undefined, 'a ring that is no longer granted was served');
      return (await disk.dropped()) ? 'let go' : 'not served';
    },
  },
  badOffer('a ring that was never granted', { 'ring-ref': 200 }),
  badOffer('a reference that is no number', { 'ring-ref': 'nonsense' }),
  badOffer('a port that is not there', { 'event-channel': 900 }),
  badOffer('a protocol that does not exist', { protocol: 'vax-abi' }),
  badOffer('a ring of 2^30 pages', { 'ring-page-order': 30, 'ring-ref0': 8 }),
  badOffer('a million queues', { 'multi-queue-num-queues': 1_000_000 }),
  {
    name: 'two hundred events for nothing',
    run: async (puppet) => {
      const disk = await PuppetDisk.connect(puppet);
      for (let i = 0; i < 200; i++) await puppet.send(disk.port);
      await disk.works();
      return 'still served';
    },
  },
  {
    name: 'states that flap',
    run: async (puppet) => {
      await PuppetDisk.connect(puppet);
      for (const state of [6, 1, 3, 4, 5, 6, 1, 3, 3, 6, 4, 1, 9, 77, 1])
        await puppet.write(`device/vbd/${PUPPET_VBD}/state`, state);
      await puppet.backendState('vbd', PUPPET_VBD, ['2', '5', '6']);
      return `backend in state ${await puppet.backend('vbd', PUPPET_VBD, 'state')}`;
    },
  },
];

async function lettingGo(disk: PuppetDisk): Promise<string> {
  await disk.puppet.backendState('vbd', PUPPET_VBD, ['5', '6']);
  return 'let go';
}

export const ATTACKED_MIB = (SECTORS * 512) >> 20;
