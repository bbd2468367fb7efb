import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { FakePages } from '@xenhost/privcmd/testing';
import { XS_PAYLOAD_MAX, XsOp, encodeXsPacket } from '@xenhost/xs-wire';
import { startXenstored } from './daemon.ts';
import type { Xenstored } from './daemon.ts';
import { SOCKET_HIGH_WATER_BYTES } from './server/limits.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import { RawClient } from './testing/raw-client.ts';

jest.setTimeout(60_000);
const log = createLogger('xenstored-test', { level: 'silent' });
let directory: string;
let path: string;
let pages: FakePages;
let daemon: Xenstored;
let clients: RawClient[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  path = join(directory, 's');
  pages = new FakePages();
  clients = [];
  const listDomains = () =>
    Promise.resolve(
      Array.from(pages.guests.keys(), (domid) => ({ domid, dying: false, shutdown: false, crashed: false })),
    );
  daemon = await startXenstored({ socketPath: path }, { log, hypervisor: { privcmd: pages, listDomains } });
});

afterEach(async () => {
  for (const { socket } of clients) socket.destroy();
  await daemon.stop();
  rmSync(directory, { recursive: true });
});

async function open(): Promise<RawClient> {
  const client = await RawClient.open(path);
  clients.push(client);
  return client;
}

const ended = async (client: RawClient): Promise<void> => {
  while (!client.closed) await new Promise(setImmediate);
};

test.each([XS_PAYLOAD_MAX + 1, 0x7fff_ffff, 0xffff_ffff])(
  'a length of %i ends the connection, after what came before',
  async (length) => {
    const good = await open();
    const bad = await open();
    const header = encodeXsPacket(XsOp.READ, 1, 0, '');
    header.writeUInt32LE(length, 12);
    bad.socket.write(Buffer.concat([encodeXsPacket(XsOp.WRITE, 1, 0, '/done\0'), header, Buffer.alloc(100)]));
    await ended(bad);
    expect(await good.ask(XsOp.READ, '/done|')).toBe('');
    expect(daemon.core.connections.size).toBe(1);
  },
);

test("half headers from 1,000 clients are nobody else's business", async () => {
  const half = encodeXsPacket(XsOp.READ, 1, 0, '/tool\0').subarray(0, 11);
  const many: RawClient[] = [];
  // Fewer at a time than may wait to be accepted.
  while (many.length < 1000) {
    many.push(...(await Promise.all(Array.from({ length: 100 }, open))));
    while (daemon.core.connections.size < many.length) await new Promise(setImmediate);
  }
  for (const client of many) client.socket.write(half);
  const good = await open();
  expect(await good.ask(XsOp.WRITE, '/a|1')).toBe('OK|');
  expect(await good.ask(XsOp.READ, '/a|')).toBe('1');
  expect(daemon.core.connections.size).toBe(1001);
  for (const client of many) client.socket.destroy();
  while (daemon.core.connections.size > 1) await new Promise(setImmediate);
});

test('100,000 requests of a client that does not read: its output is bounded, and all is answered when it does', async () => {
  const slow = await open();
  const good = await open();
  const value = 'v'.repeat(1000);
  expect(await good.ask(XsOp.WRITE, `/v|${value}`)).toBe('OK|');
  slow.socket.pause();
  const request = encodeXsPacket(XsOp.READ, 9, 0, '/v\0');
  const requests = 100_000;
  slow.socket.write(Buffer.concat(Array.from({ length: requests }, () => request)));
  for (let i = 0; i < 200; i++) {
    expect(await good.ask(XsOp.READ, '/v|')).toBe(value);
    for (const { output } of daemon.core.connections)
      expect(output.bytes).toBeLessThan(SOCKET_HIGH_WATER_BYTES + 2 * XS_PAYLOAD_MAX);
  }
  slow.socket.resume();
  for (let i = 0; i < requests; i++) expect((await slow.take()).payload.length).toBe(value.length);
});

test('among clients that flood, one that asks now and then has its turn', async () => {
  const request = Buffer.concat(Array.from({ length: 2000 }, () => encodeXsPacket(XsOp.READ, 9, 0, '/tool\0')));
  const good = await open();
  const flood = await Promise.all(Array.from({ length: 20 }, open));
  for (const client of flood) {
    client.socket.pause();
    client.socket.write(request);
  }
  // Answered long before the flood is.
  expect(await good.ask(XsOp.WRITE, '/a|1')).toBe('OK|');
  const answered = daemon.core.metrics.requests.get(XsOp.READ) ?? 0;
  expect(answered).toBeLessThan(20 * 2000);
});

test('a ring with wild indices, one that is never read, and one that floods with events leave others alone', async () => {
  const tool = await open();
  const guests: FakeGuest[] = [];
  for (const domid of [5, 6, 7, 8]) {
    guests.push(new FakeGuest(domid, pages));
    await tool.ask(XsOp.MKDIR, `/local/domain/${domid}|`);
    await tool.ask(XsOp.SET_PERMS, `/local/domain/${domid}|n${domid}|`);
    expect(await tool.ask(XsOp.INTRODUCE, `${domid}|1|7|`)).toBe('OK|');
  }
  const [wild, unread, storm, good] = guests as [FakeGuest, FakeGuest, FakeGuest, FakeGuest];
  const packet = encodeXsPacket(XsOp.GET_DOMAIN_PATH, 1, 0, '6\0');
  for (let round = 0; round < 50; round++) {
    wild.set('req_prod', 0x8000_0000 + round);
    wild.notify();
    while (((unread.get('req_prod') - unread.get('req_cons')) >>> 0) + packet.length <= 1024) unread.put(packet);
    unread.notify();
    for (let i = 0; i < 100; i++) storm.notify();
    good.send(XsOp.GET_DOMAIN_PATH, round, '8|');
    let texts: string[] = [];
    while (texts.length === 0) {
      await new Promise(setImmediate);
      texts = good.texts();
    }
    expect(texts).toEqual(['/local/domain/8|']);
  }
  expect(wild.get('error')).not.toBe(0);
  expect(unread.get('error')).toBe(0);
  const { output } = daemon.core.domains.get(6)?.connection ?? {};
  expect(output?.bytes).toBeLessThan(2 * XS_PAYLOAD_MAX);
  const sent = unread.get('req_cons') / packet.length;
  expect(unread.take().length).toBeLessThanOrEqual(sent);
  expect(await tool.ask(XsOp.CONTROL, 'check|')).toBe('OK|');
});
