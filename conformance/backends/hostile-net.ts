/** What a hostile netfront tries. Each attack ends with an error for its packet, or with its rings let go. */
import { bytesOf } from '@xenhost/base';
import { assert, netRx, netTx, type Puppet, PUPPET_VIF, PuppetNic, until } from '@xenhost/testkit';
import { NETIF_RSP, NetifExtraGso, NETTXF, XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE } from '@xenhost/xen-abi';

export interface NetAttack {
  readonly name: string;
  readonly run: (puppet: Puppet) => Promise<string>;
}

/** Some slot of the packet was answered with an error (as in Linux, others may not be), or the rings were let go. */
async function refused(nic: PuppetNic, count: number): Promise<string> {
  const answers = await nic.answers(count);
  if (answers === undefined) {
    assert(await nic.dropped(), 'neither an answer nor rings let go');
    return 'let go';
  }
  assert(
    answers.some(({ status }) => status < NETIF_RSP.OKAY),
    'every slot was answered OKAY',
  );
  await nic.works();
  return 'refused';
}

/** Slots of packets that must not be taken. */
function packet(name: string, build: (nic: PuppetNic) => Promise<readonly Uint8Array[]>): NetAttack {
  return {
    name,
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      const slots = await build(nic);
      await nic.push(...slots);
      return refused(nic, slots.length);
    },
  };
}

function gso(options: { type?: number; flags?: number; size?: number; gsoType?: number }): Uint8Array {
  const bytes = new Uint8Array(netTx({}).length);
  const view = NetifExtraGso.view(bytesOf(bytes), 0);
  view.type = options.type ?? XEN_NETIF_EXTRA_TYPE.GSO;
  view.flags = options.flags ?? 0;
  view.size = options.size ?? 1448;
  view.gso_type = options.gsoType ?? 1;
  return bytes;
}

function badOffer(name: string, nodes: Readonly<Record<string, string | number>>): NetAttack {
  return {
    name,
    run: async (puppet) => {
      const nic = await PuppetNic.offer(puppet, nodes);
      await until('the backend lets go of the rings', () => nic.dropped());
      return 'let go';
    },
  };
}

async function lettingGo(nic: PuppetNic): Promise<string> {
  await until('the backend lets go of the rings', () => nic.dropped());
  return 'let go';
}

async function flipping(puppet: Puppet, offset: number, values: readonly [number, number]): Promise<string> {
  const nic = await PuppetNic.connect(puppet);
  const { gref } = await nic.frame(100);
  const count = 64;
  await nic.tx.lay(...Array.from({ length: count }, (_, id) => netTx({ gref, id, size: 100 })));
  await nic.tx.produce();
  await puppet.sendAndFlip(nic.port, nic.tx.entry(count - 1) + offset, values);
  const answers = await nic.answers(count);
  if (answers === undefined) {
    assert(await nic.dropped(), 'neither answers nor rings let go');
    return 'let go';
  }
  return `${answers.filter(({ status }) => status !== NETIF_RSP.OKAY).length} of ${count} refused`;
}

export const netAttacks: readonly NetAttack[] = [
  ...[20, 30].map((slots) =>
    packet(`a packet of ${slots} slots`, async (nic) => {
      const { gref } = await nic.frame();
      return Array.from({ length: slots }, (_, id) =>
        netTx({ gref, id, size: id === 0 ? slots * 100 : 100, flags: id < slots - 1 ? NETTXF.more_data : 0 }),
      );
    }),
  ),
  packet('offset and size past the page', async (nic) => {
    const { gref } = await nic.frame();
    return [netTx({ gref, id: 1, offset: 4000, size: 200 })];
  }),
  packet('an offset past the page', async (nic) => {
    const { gref } = await nic.frame();
    return [netTx({ gref, id: 1, offset: 65_535, size: 60 })];
  }),
  packet('a whole smaller than its parts', async (nic) => {
    const { gref } = await nic.frame();
    return [netTx({ gref, id: 1, size: 100, flags: NETTXF.more_data }), netTx({ gref, id: 2, size: 2000 })];
  }),
  packet('a packet of no bytes', async (nic) => [netTx({ gref: (await nic.frame()).gref, id: 1, size: 0 })]),
  packet('a packet shorter than its Ethernet header', async (nic) => [
    netTx({ gref: (await nic.frame()).gref, id: 1, size: 5 }),
  ]),
  packet('a reference that was never granted', () => Promise.resolve([netTx({ gref: 300, id: 1, size: 100 })])),
  packet('a reference past the table', () => Promise.resolve([netTx({ gref: 0xffff_ffff, id: 1, size: 100 })])),
  packet('a grant that was taken back', async (nic) => {
    const { gref } = await nic.frame();
    await nic.push(netTx({ gref, id: 1, size: 100 }));
    const answers = await nic.answers(1);
    assert(answers?.[0]?.status === NETIF_RSP.OKAY, 'the grant did not serve while it was there');
    await nic.puppet.revoke(gref);
    return [netTx({ gref, id: 2, size: 100 })];
  }),
  packet('a second part that was never granted', async (nic) => {
    const { gref } = await nic.frame();
    return [netTx({ gref, id: 1, size: 300, flags: NETTXF.more_data }), netTx({ gref: 301, id: 2, size: 200 })];
  }),
  packet('an extra of an unknown type', async (nic) => [
    netTx({ gref: (await nic.frame()).gref, id: 1, size: 100, flags: NETTXF.extra_info }),
    gso({ type: 200 }),
  ]),
  packet('segments of no size', async (nic) => [
    netTx({ gref: (await nic.frame()).gref, id: 1, size: 100, flags: NETTXF.extra_info }),
    gso({ size: 0 }),
  ]),
  packet('segments of an unknown type', async (nic) => [
    netTx({ gref: (await nic.frame()).gref, id: 1, size: 100, flags: NETTXF.extra_info }),
    gso({ gsoType: 9 }),
  ]),
  {
    name: 'extras that go on for ever',
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      const { gref } = await nic.frame();
      await nic.push(
        netTx({ gref, id: 1, size: 100, flags: NETTXF.extra_info }),
        ...Array.from({ length: 200 }, () => gso({ flags: XEN_NETIF_EXTRA_FLAG_MORE })),
      );
      const answers = await nic.answers(1);
      assert(answers !== undefined || (await nic.dropped()), 'neither an answer nor rings let go');
      assert(answers?.[0]?.status !== NETIF_RSP.OKAY, 'it was taken');
      return answers === undefined ? 'let go' : 'refused';
    },
  },
  {
    name: 'a packet whose end never comes',
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      const { gref } = await nic.frame();
      await nic.push(netTx({ gref, id: 1, size: 300, flags: NETTXF.more_data }));
      await puppet.send(nic.port);
      if (await nic.dropped()) return 'let go';
      await nic.push(netTx({ gref, id: 2, size: 100 }));
      const answers = await nic.answers(2);
      assert(answers !== undefined || (await nic.dropped()), 'the end came and nothing was answered');
      return answers === undefined ? 'let go' : 'waited for its end';
    },
  },
  {
    name: 'two packets with one id',
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      const { gref } = await nic.frame();
      await nic.push(netTx({ gref, id: 5, size: 100 }), netTx({ gref, id: 5, size: 100 }));
      const answers = await nic.answers(2);
      if (answers === undefined) return lettingGo(nic);
      assert(
        answers.every(({ id }) => id === 5),
        'an answer to another id',
      );
      await nic.works();
      return 'both answered';
    },
  },
  {
    name: 'a transmit producer that jumps ahead',
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      await nic.tx.produce(10_000);
      await puppet.send(nic.port);
      return lettingGo(nic);
    },
  },
  {
    name: 'a receive producer that jumps ahead',
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      await nic.rx.produce(10_000);
      await puppet.send(nic.port);
      await nic.works().catch(() => undefined);
      return (await nic.dropped()) ? 'let go' : 'not served further';
    },
  },
  {
    name: 'receive pages that were never granted',
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      await nic.rx.lay(...Array.from({ length: 32 }, (_, id) => netRx(id, 400 + id)));
      await nic.rx.produce();
      await puppet.send(nic.port);
      await nic.works();
      return 'still served';
    },
  },
  { name: 'a size changes while it is read', run: (puppet) => flipping(puppet, 8, [0x0064_0000, 0xffff_0000]) },
  { name: 'a reference changes while it is read', run: (puppet) => flipping(puppet, 0, [8, 0xffff_fff0]) },
  { name: 'flags change while they are read', run: (puppet) => flipping(puppet, 4, [0x0000_0000, 0x000c_0000]) },
  {
    name: 'packets under way when the domain is destroyed',
    run: async (puppet) => {
      const nic = await PuppetNic.connect(puppet);
      const { gref } = await nic.frame();
      await nic.tx.lay(...Array.from({ length: 128 }, (_, id) => netTx({ gref, id, size: 100 })));
      await nic.tx.produce();
      await Promise.all([puppet.send(nic.port).catch(() => undefined), puppet.host.mustXm('destroy', puppet.name)]);
      return 'gone';
    },
  },
  badOffer('a ring that was never granted', { 'tx-ring-ref': 200 }),
  badOffer('a reference that is no number', { 'rx-ring-ref': 'nonsense' }),
  badOffer('a port that is not there', { 'event-channel': 900 }),
  badOffer('a million queues', { 'multi-queue-num-queues': 1_000_000 }),
  {
    name: 'states that flap',
    run: async (puppet) => {
      await PuppetNic.connect(puppet);
      for (const state of [6, 1, 4, 5, 6, 1, 4, 4, 6, 3, 1, 9, 77, 1])
        await puppet.write(`device/vif/${PUPPET_VIF}/state`, state);
      await puppet.backendState('vif', PUPPET_VIF, ['2', '5', '6']);
      return `backend in state ${await puppet.backend('vif', PUPPET_VIF, 'state')}`;
    },
  },
];
