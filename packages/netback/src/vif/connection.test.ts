import { FakeClock } from '@xenhost/base';
import { localPrivcmd } from '@xenhost/privcmd';
import { FakeBackend } from '@xenhost/privcmd/testing';
import { NETIF_RSP, NETRXF, NETTXF, NetifExtraGso, XEN_NETIF_EXTRA_TYPE, XEN_NETIF_GSO_TYPE } from '@xenhost/xen-abi';
import type { EthernetFrame } from '../switch/frame.ts';
import { FakeFrontend } from '../testing/fake-frontend.ts';
import { Batches } from './batches.ts';
import { Connection } from './connection.ts';
import { newCounters } from './counters.ts';
import type { VifCounters } from './counters.ts';
import { Credit } from './credit.ts';
import { EventPorts } from './event-ports.ts';
import type { FrontendKeys } from './frontend-keys.ts';
import { RX_DRAIN_MS, RX_QUEUE_BYTES } from './limits.ts';
import { MulticastFilter } from './multicast.ts';
import type { PagedFrame } from './paged-frame.ts';

/** Lets all that is under way come to rest. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

class FakeTimers {
  readonly waiting = new Map<() => void, number>();

  after(delayMs: number, callback: () => void): () => void {
    this.waiting.set(callback, delayMs);
    return () => this.waiting.delete(callback);
  }

  fire(): number[] {
    const delays = [...this.waiting.values()];
    const callbacks = [...this.waiting.keys()];
    this.waiting.clear();
    for (const callback of callbacks) callback();
    return delays;
  }
}

interface Scene {
  readonly backend: FakeBackend;
  readonly guest: FakeFrontend;
  readonly connection: Connection;
  readonly frames: EthernetFrame[];
  readonly counters: VifCounters;
  readonly faults: string[];
  readonly fatal: string[];
  readonly timers: FakeTimers;
  readonly clock: FakeClock;
  readonly credit: Credit;
  readonly multicast: MulticastFilter;
  readonly batches: () => number;
  /** Who gets frames from this guest's pages. */
  readonly peer: { current: Connection | undefined };
  readonly reopen: () => Promise<Connection>;
}

const keysOf = (guest: FakeFrontend, change: Partial<FrontendKeys>): FrontendKeys => ({
  queues: [{ txRingRef: 8, rxRingRef: 9, txPort: guest.port, rxPort: guest.port }],
  rxNotify: true,
  scatterGather: true,
  gsoTcpv4: true,
  gsoTcpv6: true,
  checksumV4: true,
  checksumV6: true,
  multicastControl: false,
  ...change,
});

const openers = new WeakMap<FakeBackend, ReturnType<typeof localPrivcmd>>();

/** A backend has one opener. */
function opener(backend: FakeBackend): ReturnType<typeof localPrivcmd> {
  const known = openers.get(backend) ?? localPrivcmd({}, backend);
  openers.set(backend, known);
  return known;
}

async function scene(change: Partial<FrontendKeys> = {}, backend = new FakeBackend(), domid = 5): Promise<Scene> {
  const guest = new FakeFrontend(backend, domid);
  const privcmd = opener(backend).open();
  const peer: Scene['peer'] = { current: undefined };
  let batches = 0;
  const clock = new FakeClock();
  const [counters, timers, credit, multicast] = [
    newCounters(),
    new FakeTimers(),
    new Credit(undefined, clock),
    new MulticastFilter(),
  ];
  const frames: EthernetFrame[] = [];
  const faults: string[] = [];
  const fatal: string[] = [];
  const paged = (frame: PagedFrame): boolean => peer.current?.receivePaged(frame) ?? false;
  const ports = new EventPorts(privcmd);
  const open = (): Promise<Connection> =>
    Connection.open(
      { domid: guest.domid, frontend: keysOf(guest, change) },
      {
        privcmd,
        ports,
        batches: new Batches({
          memory: (ops) => {
            batches += 1;
            return privcmd.memory(ops);
          },
        }),
        credit,
        multicast,
        counters,
        budget: { bytes: 0 },
        timers,
        onFrame: (frame) => frames.push(frame),
        onPaged: (frame) => paged(frame),
        onFault: (reason) => faults.push(reason),
        onFatal: (reason) => fatal.push(reason),
      },
    );
  const connection = await open();
  await settle();
  return {
    backend,
    guest,
    connection,
    frames,
    counters,
    faults,
    fatal,
    timers,
    clock,
    credit,
    multicast,
    batches: () => batches,
    peer,
    reopen: open,
  };
}

const bytes = (length: number, seed = 1): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

/** An Ethernet frame with an IPv4 TCP packet of so many bytes of payload. */
function tcpFrame(payload: number): Uint8Array {
  const frame = bytes(54 + payload);
  frame.set([0, 0x16, 0x3e, 0, 0, 2, 0, 0x16, 0x3e, 0, 0, 1, 8, 0]);
  const length = 40 + payload;
  frame.set([0x45, 0, length >> 8, length & 0xff, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 14);
  frame[46] = 0x50;
  return frame;
}

/** Cut where pages end, as a frontend does. */
function parts(frame: Uint8Array): { data: Uint8Array }[] {
  const pieces: { data: Uint8Array }[] = [];
  for (let at = 0; at < frame.length; at += 4096) pieces.push({ data: frame.subarray(at, at + 4096) });
  return pieces;
}

const gsoInfo = (size: number, type: number = XEN_NETIF_GSO_TYPE.TCPV4): Uint8Array =>
  NetifExtraGso.create({ type: XEN_NETIF_EXTRA_TYPE.GSO, size, gso_type: type }).bytes;

test('a packet reaches the switch and is answered; the event is suppressed as the guest asked', async () => {
  const { guest, frames, counters } = await scene();
  guest.events();
  const data = bytes(98);
  const [ids] = guest.send({ parts: [{ data, offset: 100 }] });
  await settle();
  expect(frames).toEqual([{ bytes: data, checksum: 'complete' }]);
  expect(guest.answers()).toEqual([[ids?.[0], NETIF_RSP.OKAY]]);
  expect(guest.events()).toBe(1);
  expect(counters).toMatchObject({ rxPackets: 1, rxBytes: 98 });
  guest.tx.set('rsp_event', 100);
  guest.send({ parts: [{ data }] });
  await settle();
  expect(guest.answers()).toHaveLength(1);
  expect(guest.events()).toBe(0);
});

test('a packet costs two batches: its data, then its answer with the last look', async () => {
  const { guest, batches } = await scene();
  const before = batches();
  guest.send({ parts: [{ data: bytes(60) }] });
  await settle();
  expect(batches() - before).toBe(2);
});

test('an event of the other ring costs no batch', async () => {
  const { guest, batches } = await scene();
  const before = batches();
  guest.notify();
  await settle();
  expect(batches() - before).toBe(0);
});

test('more packets than the ring has slots pass in order, again and again', async () => {
  const { guest, frames } = await scene();
  for (let round = 0; round < 9; round += 1) {
    guest.send(...Array.from({ length: 100 }, (_, i) => ({ parts: [{ data: bytes(60 + i, round) }] })));
    await settle();
    expect(guest.answers().filter(([, status]) => status === NETIF_RSP.OKAY)).toHaveLength(100);
  }
  expect(frames.map(({ bytes: { length } }) => length)).toEqual(Array.from({ length: 900 }, (_, i) => 60 + (i % 100)));
});

test('indices wrap at 2^32', async () => {
  const { guest, frames, connection, reopen, fatal } = await scene();
  await connection.close();
  for (const ring of [guest.tx, guest.rx]) {
    ring.prod = ring.cons = 0xffff_fff0;
    for (const field of ['req_prod', 'rsp_prod'] as const) ring.set(field, 0xffff_fff0);
    for (const field of ['req_event', 'rsp_event'] as const) ring.set(field, 0xffff_fff1);
  }
  const again = await reopen();
  guest.offer(40);
  guest.send(...Array.from({ length: 40 }, () => ({ parts: [{ data: bytes(60) }] })));
  for (let i = 0; i < 40; i += 1) again.receive({ bytes: bytes(70, i), checksum: 'complete' });
  await settle();
  expect(fatal).toEqual([]);
  expect(frames).toHaveLength(40);
  expect(guest.answers()).toHaveLength(40);
  expect(guest.received()).toHaveLength(40);
});

test('a large segment comes whole, with its size, its checksum left to whoever cuts it', async () => {
  const { guest, frames } = await scene();
  const frame = tcpFrame(60_000);
  const [ids = []] = guest.send({ parts: parts(frame), flags: NETTXF.csum_blank, extras: [gsoInfo(1448)] });
  await settle();
  expect(frames).toEqual([{ bytes: frame, checksum: 'partial', gso: { type: 'tcpv4', size: 1448 } }]);
  const answers = guest.answers();
  expect(answers).toHaveLength(ids.length + 1);
  expect(answers[1]?.[1]).toBe(NETIF_RSP.NULL);
  expect(answers.filter((_, i) => i !== 1)).toEqual(ids.map((id) => [id, NETIF_RSP.OKAY]));
});

describe('what is wrong with a packet costs the packet', () => {
  const data = bytes(100);
  test.each([
    ['a grant that is not there', { parts: [{ data, gref: 40 }] }, [NETIF_RSP.ERROR]],
    ['one of two grants', { parts: [{ data }, { data, gref: 40 }] }, [NETIF_RSP.OKAY, NETIF_RSP.ERROR]],
    ['a truncated header', { parts: [{ data: bytes(13) }] }, [NETIF_RSP.ERROR]],
    ['an empty packet', { parts: [{ data: bytes(0) }] }, [NETIF_RSP.ERROR]],
    ['19 slots', { parts: Array.from({ length: 20 }, () => ({ data })) }, Array<number>(20).fill(NETIF_RSP.ERROR)],
    ['a checksum of no known protocol', { parts: [{ data }], flags: NETTXF.csum_blank }, [NETIF_RSP.OKAY]],
    ['a large segment that is none', { parts: [{ data }], extras: [gsoInfo(1000)] }, [NETIF_RSP.OKAY, NETIF_RSP.NULL]],
  ])('%s', async (_, packet, statuses) => {
    const { guest, frames, fatal, counters } = await scene();
    guest.send(packet);
    await settle();
    expect(guest.answers().map(([, status]) => status)).toEqual(statuses);
    expect(frames).toEqual([]);
    expect(fatal).toEqual([]);
    expect(counters.rxErrors).toBe(1);
    guest.send({ parts: [{ data }] });
    await settle();
    expect(frames).toHaveLength(1);
  });
});

describe('what only a malicious frontend does costs the vif', () => {
  const data = bytes(100);
  test.each([
    ['offset and size past the page', { parts: [{ data, offset: 4090 }] }, /crosses its page/],
    ['the same in a later slot', { parts: [{ data }, { data, offset: 4000 }] }, /crosses its page/],
    ['more than 20 slots', { parts: Array.from({ length: 30 }, () => ({ data })) }, /more than 20 slots/],
    ['a slot that is missing', { parts: [{ data }], flags: NETTXF.more_data }, /slot 1 is missing/],
    ['an extra info that is missing', { parts: [{ data }], flags: NETTXF.extra_info }, /extra info is missing/],
    ['an unknown extra info', { parts: [{ data }], extras: [Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0)] }, /type 9/],
    ['segments of size 0', { parts: [{ data }], extras: [gsoInfo(0)] }, /size 0/],
    ['segments of no known type', { parts: [{ data }], extras: [gsoInfo(1448, 7)] }, /type 7/],
  ])('%s', async (_, packet, reason) => {
    const { guest, fatal } = await scene();
    guest.send(packet);
    await settle();
    expect(fatal).toEqual([expect.stringMatching(reason)]);
  });

  test.each([300, 0x8000_0000, 0xffff_fff0])('a producer index that jumps by %i', async (by) => {
    const { guest, fatal } = await scene();
    guest.tx.set('req_prod', by);
    guest.notify();
    await settle();
    // A small step back brings no requests; the next look at the ring finds it out.
    if (fatal.length === 0) {
      guest.tx.set('req_prod', 0);
      guest.send({ parts: [{ data }] });
      await settle();
      expect(guest.answers()).toHaveLength(1);
    } else {
      expect(fatal).toEqual([expect.stringContaining('impossible number of requests')]);
    }
  });
});

test('frames reach the guest in one batch, in order, over as many buffers as they need', async () => {
  const { guest, connection, counters, batches } = await scene();
  guest.offer(64);
  await settle();
  guest.events();
  const before = batches();
  const frames = [bytes(60), tcpFrame(9000), bytes(4096, 3), bytes(1514, 4)];
  for (const frame of frames) expect(connection.receive({ bytes: frame, checksum: 'complete' })).toBe(true);
  await settle();
  expect(guest.events()).toBe(1);
  expect(guest.received()).toMatchObject(
    frames.map((frame) => ({ bytes: frame, flags: frame.length > 4096 ? NETRXF.more_data : 0 })),
  );
  expect(batches() - before).toBeLessThanOrEqual(2);
  expect(counters).toMatchObject({ txPackets: 4, txBytes: frames.reduce((sum, { length }) => sum + length, 0) });
});

test('a large segment keeps its size, and its checksum stays blank', async () => {
  const { guest, connection } = await scene();
  guest.offer(64);
  const frame = tcpFrame(60_000);
  connection.receive({ bytes: frame, checksum: 'partial', gso: { type: 'tcpv6', size: 1440 } });
  await settle();
  const flags = NETRXF.csum_blank | NETRXF.data_validated | NETRXF.more_data | NETRXF.extra_info;
  expect(guest.received()).toEqual([
    expect.objectContaining({ bytes: frame, flags, gso: { type: XEN_NETIF_GSO_TYPE.TCPV6, size: 1440 } }),
  ]);
});

test('frames wait for buffers, which bring an event when there are enough', async () => {
  const { guest, connection } = await scene();
  guest.offer(2);
  await settle();
  connection.receive({ bytes: tcpFrame(9000), checksum: 'complete' });
  connection.receive({ bytes: bytes(60), checksum: 'complete' });
  await settle();
  expect(guest.received()).toEqual([]);
  guest.offer(1);
  await settle();
  expect(guest.received()).toHaveLength(1);
  guest.offer(1);
  await settle();
  expect(guest.received()).toHaveLength(1);
});

test('what waits is bounded, counted when it is dropped, and gone when no buffer comes', async () => {
  const { guest, connection, counters, timers } = await scene();
  const frame = { bytes: bytes(60_000), checksum: 'complete' } as const;
  const room = Math.floor(RX_QUEUE_BYTES / 60_000);
  const taken = Array.from({ length: room + 5 }, () => connection.receive(frame));
  expect(taken.filter(Boolean)).toHaveLength(room);
  expect(counters.txDropped).toBe(5);
  await settle();
  expect(timers.fire()).toEqual([RX_DRAIN_MS]);
  expect(counters.txDropped).toBe(5 + room);
  guest.offer(64);
  await settle();
  expect(guest.received()).toEqual([]);
  connection.receive({ bytes: bytes(60), checksum: 'complete' });
  await settle();
  expect(guest.received()).toHaveLength(1);
});

test('a frontend that does not tell of its buffers is looked at', async () => {
  const { guest, connection, timers } = await scene({ rxNotify: false });
  connection.receive({ bytes: bytes(60), checksum: 'complete' });
  await settle();
  guest.rx.set('req_event', 1000);
  guest.offer(4);
  timers.fire();
  await settle();
  expect(guest.received()).toHaveLength(1);
});

test('a bad receive buffer is told to the guest from the second one on, and costs its frame alone', async () => {
  const { guest, connection, counters, faults, fatal } = await scene();
  guest.offer(1, true);
  connection.receive({ bytes: bytes(60), checksum: 'complete' });
  await settle();
  guest.offer(1, true);
  guest.offer(2);
  connection.receive({ bytes: bytes(61), checksum: 'complete' });
  connection.receive({ bytes: bytes(62), checksum: 'complete' });
  await settle();
  expect(guest.received().map(({ status }) => status)).toEqual([[60], [NETIF_RSP.ERROR], [62]]);
  expect(counters.txErrors).toBe(2);
  expect(faults).toHaveLength(2);
  expect(fatal).toEqual([]);
});

test('multicast is filtered as the guest asked, and only then', async () => {
  const { guest, connection, multicast } = await scene();
  guest.offer(16);
  const group = Uint8Array.from([1, 0, 0x5e, 0, 0, 1, ...bytes(60)]);
  connection.receive({ bytes: group, checksum: 'complete' });
  multicast.enabled = true;
  expect(connection.receive({ bytes: group, checksum: 'complete' })).toBe(false);
  expect(connection.receive({ bytes: new Uint8Array(60).fill(0xff), checksum: 'complete' })).toBe(true);
  guest.send({
    parts: [{ data: bytes(60) }],
    extras: [Uint8Array.of(XEN_NETIF_EXTRA_TYPE.MCAST_ADD, 0, 1, 0, 0x5e, 0, 0, 1)],
  });
  await settle();
  expect(guest.answers().map(([, status]) => status)).toEqual([NETIF_RSP.OKAY, NETIF_RSP.NULL]);
  expect(connection.receive({ bytes: group, checksum: 'complete' })).toBe(true);
  guest.send({
    parts: [{ data: bytes(60) }],
    extras: [Uint8Array.of(XEN_NETIF_EXTRA_TYPE.MCAST_DEL, 0, 1, 0, 0x5e, 0, 0, 1)],
  });
  await settle();
  expect(connection.receive({ bytes: group, checksum: 'complete' })).toBe(false);
});

test('a rate lets so many bytes through in each window, and waits without a look at the ring', async () => {
  const { guest, frames, credit, clock, timers, batches } = await scene();
  credit.setRate({ bytes: 1000, windowUs: 50_000 });
  guest.send(...Array.from({ length: 5 }, () => ({ parts: [{ data: bytes(400) }] })));
  await settle();
  expect(frames).toHaveLength(2);
  const before = batches();
  await settle();
  expect(batches()).toBe(before);
  clock.advance(50_000_000n);
  expect(timers.fire()).toEqual([50]);
  await settle();
  expect(frames).toHaveLength(5);
  expect(guest.answers()).toHaveLength(5);
});

test('a backend that starts anew goes on where the ring was left', async () => {
  const { guest, frames, connection, reopen } = await scene();
  guest.offer(8);
  guest.send({ parts: [{ data: bytes(60) }] });
  connection.receive({ bytes: bytes(61), checksum: 'complete' });
  await settle();
  await connection.close();
  guest.send({ parts: [{ data: bytes(62) }] }, { parts: [{ data: bytes(63) }] });
  const again = await reopen();
  again.receive({ bytes: bytes(64), checksum: 'complete' });
  await settle();
  expect(frames.map(({ bytes: { length } }) => length)).toEqual([60, 62, 63]);
  expect(guest.answers()).toHaveLength(3);
  expect(guest.received().map(({ bytes: { length } }) => length)).toEqual([61, 64]);
});

describe('large frames from pages to pages', () => {
  async function pair(): Promise<readonly [Scene, Scene]> {
    const one = await scene();
    const two = await scene({}, one.backend, 6);
    one.peer.current = two.connection;
    return [one, two];
  }
  const frame = tcpFrame(40_000);
  /** As Linux does it: the headers in a part of their own, pages anywhere. */
  const pieces = [
    { data: frame.subarray(0, 54), offset: 300 },
    { data: frame.subarray(54, 4000), offset: 150 },
    ...parts(frame.subarray(4000)),
  ];
  const packet = { parts: pieces, flags: NETTXF.csum_blank, extras: [gsoInfo(1448)] };

  test('they arrive whole, with their flags; the sender has its answers when they have', async () => {
    const [one, two] = await pair();
    two.guest.offer(64);
    const [ids = []] = one.guest.send(packet);
    await settle();
    expect(one.frames).toEqual([]);
    expect(two.guest.received()).toMatchObject([{ bytes: frame, gso: { type: 1, size: 1448 } }]);
    expect(one.guest.answers().map(([, status]) => status)).toEqual([
      NETIF_RSP.OKAY,
      NETIF_RSP.NULL,
      ...ids.slice(1).map(() => NETIF_RSP.OKAY),
    ]);
    expect(one.counters).toMatchObject({ rxPackets: 1, rxBytes: frame.length });
    expect(two.counters).toMatchObject({ txPackets: 1, txBytes: frame.length });
  });

  test('without buffers at once they come through here, in order with those behind them', async () => {
    const [one, two] = await pair();
    two.guest.offer(4);
    one.guest.send({ parts: [{ data: bytes(60) }] }, packet, { parts: [{ data: bytes(61) }] }, packet);
    await settle();
    expect(one.frames.map(({ bytes: { length } }) => length)).toEqual([60, frame.length, 61, frame.length]);
    expect(one.frames[1]?.bytes).toEqual(frame);
    expect(one.guest.answers().every(([, status]) => status !== NETIF_RSP.ERROR)).toBe(true);
  });

  test('many of them between small ones, both ways', async () => {
    const [one, two] = await pair();
    two.peer.current = one.connection;
    for (let round = 0; round < 20; round += 1) {
      for (const { guest } of [one, two]) {
        guest.offer(round === 0 ? 200 : 22);
        guest.send(packet, packet);
      }
      await settle();
      for (const { guest, fatal } of [one, two]) {
        expect(guest.received().map(({ bytes: { length } }) => length)).toEqual([frame.length, frame.length]);
        expect(guest.answers().every(([, status]) => status !== NETIF_RSP.ERROR)).toBe(true);
        expect(fatal).toEqual([]);
      }
    }
  });

  test('a part without a grant is an error to its sender, who is read first from then on', async () => {
    const [one, two] = await pair();
    two.guest.offer(64);
    one.guest.send({ parts: [...pieces, { data: frame, gref: 40, size: 100 }] });
    await settle();
    expect(one.guest.answers().map(([, status]) => status)).toEqual([
      ...pieces.map(() => NETIF_RSP.OKAY),
      NETIF_RSP.ERROR,
    ]);
    two.guest.received();
    one.guest.send(packet);
    await settle();
    expect(one.frames).toHaveLength(1);
    expect(two.faults).toEqual([]);
  });

  test('headers that change after they were judged change nothing', async () => {
    const [one, two] = await pair();
    two.guest.offer(64);
    const page = one.backend.guests.get(5)?.frames;
    one.peer.current = {
      receivePaged: (paged: PagedFrame) => {
        for (const bytes of page?.values() ?? []) if (bytes[308] === 0x3e) bytes.fill(0xee, 300, 354);
        return two.connection.receivePaged(paged);
      },
    } as Connection;
    one.guest.send(packet);
    await settle();
    expect(two.guest.received()).toMatchObject([{ bytes: frame }]);
  });

  test('a sender that goes away takes along what has not left', async () => {
    const [one, two] = await pair();
    two.guest.offer(64);
    one.guest.send(packet);
    await Promise.all([one.connection.close(), settle()]);
    expect(two.guest.received().every(({ bytes: got }) => Buffer.compare(got, frame) === 0)).toBe(true);
    expect(two.fatal).toEqual([]);
  });
});

test('a ring that is not granted, or holds nonsense, is refused', async () => {
  const first = await scene();
  await first.connection.close();
  first.guest.tx.set('req_prod', 10_000);
  await expect(first.reopen()).rejects.toThrow('10000 requests in 256 slots');
  first.guest.revoke(8);
  await expect(first.reopen()).rejects.toThrow('transmit ring: grant 8 cannot be mapped');
  expect(first.backend.boundPorts).toBe(0);
});
