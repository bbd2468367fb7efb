import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { FakePages } from '@xenhost/privcmd/testing';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { XsOp, XsPacketParser, encodeXsPacket } from '@xenhost/xs-wire';
import { startXenstored } from './daemon.ts';
import type { ListedDomain, Xenstored } from './daemon.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import { RawClient } from './testing/raw-client.ts';

const log = createLogger('xenstored-test', { level: 'silent' });
/** Lets everything that is ready run. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
};

let directory: string;
let socketPath: string;
let daemon: Xenstored;
let hypervisor: FakePages;
let listed: ListedDomain[];
let client: XenstoreClient;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  socketPath = join(directory, 's');
  hypervisor = new FakePages();
  listed = [];
  daemon = await startXenstored(
    { socketPath },
    { log, hypervisor: { privcmd: hypervisor, listDomains: () => Promise.resolve(listed) } },
  );
  client = await XenstoreClient.connect({ path: socketPath });
});

afterEach(async () => {
  await client.close();
  await daemon.stop();
  await rm(directory, { recursive: true });
});

async function guest(domid: number): Promise<FakeGuest> {
  const it = new FakeGuest(domid, hypervisor);
  listed.push({ domid, dying: false, shutdown: false, crashed: false });
  await client.mkdir(`/local/domain/${domid}`);
  await client.setPerms(`/local/domain/${domid}`, [{ domid, access: 'none' }]);
  await client.introduce(domid, 0x1234, 7);
  await settle();
  it.notifications = 0;
  return it;
}

describe('over the socket', () => {
  test('nodes', async () => {
    await client.write('/a/b', 'grüße');
    expect(await client.readString('/a/b')).toBe('grüße');
    expect(await client.tryRead('/a/none')).toBeUndefined();
    expect(await client.exists('/a/b')).toBe(true);
    expect(await client.directory('/a')).toEqual(['b']);
    expect(await client.tryDirectory('/none')).toEqual([]);
    listed.push({ domid: 3, dying: false, shutdown: false, crashed: false });
    await client.setPerms('/a/b', [
      { domid: 3, access: 'none' },
      { domid: 4, access: 'both' },
    ]);
    expect(await client.getPerms('/a/b')).toEqual([
      { domid: 3, access: 'none' },
      { domid: 4, access: 'both' },
    ]);
    await client.rm('/a');
    await expect(client.read('/a/b')).rejects.toMatchObject({ code: 'ENOENT', operation: 'READ', subject: '/a/b' });
    await expect(client.write('/x', 'v'.repeat(5000))).rejects.toMatchObject({ code: 'E2BIG' });
    expect(await client.readString('/local/domain/0/name')).toBe('Domain-0');
    expect(await client.getDomainPath(3)).toBe('/local/domain/3');
    expect(await client.control('quota')).toContain('nodes            :     1000 Nodes per domain\n');
  });

  test('a directory of any length', async () => {
    const names = Array.from({ length: 3000 }, (_, i) => `n${i}`);
    await Promise.all(names.map((name) => client.mkdir(`/wide/${name}`)));
    expect(await client.directory('/wide')).toEqual(names);
  });

  test('a transaction is tried again until nobody comes between', async () => {
    const other = await XenstoreClient.connect({ path: socketPath });
    await client.write('/counter', 0);
    const add = (c: XenstoreClient) =>
      c.transaction(async (t) => {
        await t.write('/counter', Number(await t.readString('/counter')) + 1);
      });
    await Promise.all([
      ...Array.from({ length: 10 }, () => add(client)),
      ...Array.from({ length: 10 }, () => add(other)),
    ]);
    expect(await client.readString('/counter')).toBe('20');
    await expect(client.transaction(() => Promise.reject(new Error('mine')))).rejects.toThrow('mine');
    expect(daemon.core.accounts.of(0).transactions).toBe(0);
    await other.close();
  });

  test('a watch is an iterator that ends with its signal', async () => {
    const aborter = new AbortController();
    const watch = client.watch('/w', { signal: aborter.signal });
    const seen: string[] = [];
    for await (const { path } of watch) {
      seen.push(path);
      if (seen.length === 1) await client.write('/w/x', 1);
      else aborter.abort();
    }
    expect(seen).toEqual(['/w', '/w/x']);
    await settle();
    expect(daemon.core.accounts.of(0).watches).toBe(0);
    await expect(client.watch('bad path!').next()).rejects.toMatchObject({ code: 'EINVAL' });
  });

  test('closing ends what waits', async () => {
    const watch = client.watch('/w');
    await watch.next();
    const next = watch.next();
    await client.close();
    expect(await next).toEqual({ done: true, value: undefined });
    await expect(client.read('/')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  test('nobody there', async () => {
    await expect(XenstoreClient.connect({ path: join(directory, 'none') })).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('requests split and joined anyhow are answered in order; a header over the limit ends the connection only', async () => {
    const socket = connect(socketPath);
    const parser = new XsPacketParser();
    const replies: number[] = [];
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('data', (chunk) => replies.push(...parser.push(chunk).map((p) => p.reqId)));
    const bytes = Buffer.concat(Array.from({ length: 500 }, (_, i) => encodeXsPacket(XsOp.READ, i, 0, '/tool\0')));
    socket.write(bytes.subarray(0, 7));
    await settle();
    socket.write(bytes.subarray(7, 1000));
    await settle();
    socket.write(bytes.subarray(1000));
    while (replies.length < 500) await new Promise(setImmediate);
    expect(replies).toEqual(Array.from({ length: 500 }, (_, i) => i));
    const wrong = encodeXsPacket(XsOp.READ, 1, 0, '');
    wrong.writeUInt32LE(4097, 12);
    socket.write(wrong);
    await closed;
    expect(await client.readString('/local/domain/0/domid')).toBe('0');
  });

  test('who writes is answered in front of those who watch', async () => {
    const [watcher, writer] = [await RawClient.open(socketPath), await RawClient.open(socketPath)];
    await watcher.ask(XsOp.WATCH, '/w|t|');
    expect(await watcher.text()).toBe('! /w|t|');
    // What came first is told first.
    const told: string[] = [];
    const both = [watcher, writer].map(async (each) => told.push(await each.text()));
    writer.send(XsOp.WRITE, '/w|1');
    await Promise.all(both);
    expect(told).toEqual(['OK|', '! /w|t|']);
    for (const { socket } of [watcher, writer]) socket.destroy();
  });

  test('a client that never reads is held back, others are served', async () => {
    const socket = connect(socketPath);
    socket.pause();
    await client.write('/big', 'v'.repeat(4000));
    const request = encodeXsPacket(XsOp.READ, 1, 0, '/big\0');
    for (let i = 0; i < 100; i++) socket.write(Buffer.concat(Array.from({ length: 1000 }, () => request)));
    await settle();
    expect((await client.readString('/big')).length).toBe(4000);
    socket.destroy();
  });
});

describe('over rings', () => {
  test('requests are answered, several in one batch', async () => {
    const g = await guest(5);
    const before = hypervisor.batches;
    g.put(encodeXsPacket(XsOp.WRITE, 1, 0, 'data/x\0hello'));
    g.put(encodeXsPacket(XsOp.READ, 2, 0, 'data/x\0'));
    g.send(XsOp.READ, 3, '/tool|');
    await settle();
    expect(hypervisor.batches - before).toBe(1);
    expect(g.notifications).toBe(1);
    expect(g.get('req_cons')).toBe(g.get('req_prod'));
    expect(g.texts()).toEqual(['OK|', 'hello', 'EACCES|']);
    expect(await client.readString('/local/domain/5/data/x')).toBe('hello');
  });

  test('events come from other clients', async () => {
    const g = await guest(5);
    g.send(XsOp.WATCH, 1, 'control|tok|');
    await settle();
    expect(g.texts()).toEqual(['OK|', '! control|tok|']);
    await client.write('/local/domain/5/control/shutdown', 'poweroff');
    await settle();
    expect(g.texts()).toEqual(['! control/shutdown|tok|']);
  });

  test('replies longer than the ring, and a guest slow to take them', async () => {
    const g = await guest(5);
    await client.write('/local/domain/5/long', 'x'.repeat(3000));
    for (let i = 0; i < 30; i++) g.put(encodeXsPacket(XsOp.READ, i, 0, 'long\0'));
    g.notify();
    await settle();
    expect(g.get('rsp_prod')).toBe(1024);
    const got: number[] = [];
    for (let i = 0; i < 200 && got.length < 30; i++) {
      got.push(...g.take().map((p) => p.payload.length));
      await settle();
    }
    expect(got).toEqual(Array.from({ length: 30 }, () => 3000));
    // More than the quota of outstanding requests, and indices that have wrapped around the ring many times.
    expect(g.get('req_cons')).toBe(30 * 21);
  });

  test('a header is taken before its payload is there: Linux tells of the payload only then', async () => {
    const g = await guest(5);
    const packet = encodeXsPacket(XsOp.GET_DOMAIN_PATH, 1, 0, '5\0');
    for (const piece of [packet.subarray(0, 16), packet.subarray(16)]) {
      const start = g.get('req_prod');
      g.put(piece);
      expect(g.get('req_cons')).toBe(start);
      g.notify();
      await settle();
    }
    expect(g.texts()).toEqual(['/local/domain/5|']);
  });

  test('requests in pieces as the ring allows', async () => {
    const g = await guest(5);
    const packet = encodeXsPacket(XsOp.WRITE, 9, 0, `data/v\0${'y'.repeat(2000)}`);
    for (let at = 0; at < packet.length; at += 700) {
      g.put(packet.subarray(at, at + 700));
      g.notify();
      await settle();
    }
    expect(g.texts()).toEqual(['OK|']);
    expect((await client.read('/local/domain/5/data/v')).length).toBe(2000);
  });

  test.each([
    [
      'a producer too far ahead',
      (g: FakeGuest) => {
        g.set('req_prod', 1025);
      },
      2,
    ],
    [
      'a consumer ahead of the producer',
      (g: FakeGuest) => {
        g.set('rsp_cons', 77);
      },
      2,
    ],
    [
      'a packet over the limit',
      (g: FakeGuest) => {
        const packet = encodeXsPacket(XsOp.READ, 1, 0, '');
        packet.writeUInt32LE(0xffffffff, 12);
        g.put(packet);
      },
      3,
    ],
  ])('%s costs that domain its session, and an introduction brings it back', async (_name, spoil, error) => {
    const bad = await guest(5);
    const good = await guest(6);
    spoil(bad);
    bad.notify();
    await settle();
    expect(bad.get('error')).toBe(error);
    bad.send(XsOp.READ, 1, '/tool|');
    good.send(XsOp.GET_DOMAIN_PATH, 1, '6|');
    await settle();
    expect(good.texts()).toEqual(['/local/domain/6|']);
    expect(bad.get('rsp_prod')).toBe(0);
    await client.introduce(5, 0x1234, 7);
    await settle();
    bad.send(XsOp.GET_DOMAIN_PATH, 1, '5|');
    await settle();
    expect(bad.texts()).toEqual(['/local/domain/5|']);
  });

  test('a domain that dies is forgotten, one that shuts down is told once', async () => {
    await guest(5);
    await guest(6);
    const released = client.watch('@releaseDomain');
    await released.next();
    listed = listed.map((d) => (d.domid === 5 ? { ...d, shutdown: true } : d));
    hypervisor.deliver(await hypervisor.bindVirq());
    await released.next();
    expect(await client.isDomainIntroduced(5)).toBe(true);
    listed = listed.filter((d) => d.domid !== 5);
    hypervisor.deliver(await hypervisor.bindVirq());
    await released.next();
    expect(await client.isDomainIntroduced(5)).toBe(false);
    expect(await client.exists('/local/domain/5')).toBe(false);
    expect(await client.isDomainIntroduced(6)).toBe(true);
  });

  test('a domain that the hypervisor does not know cannot be introduced', async () => {
    await expect(client.introduce(9, 1, 1)).rejects.toMatchObject({ code: 'EINVAL' });
    expect(await client.isDomainIntroduced(9)).toBe(false);
  });
});
