import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { FakePages } from '@xenhost/privcmd/testing';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { XsOp, encodeXsPacket } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import { startXenstored } from './daemon.ts';
import type { ListedDomain, Xenstored } from './daemon.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import { MortalLink } from './testing/mortal-link.ts';

const log = createLogger('xenstored-test', { level: 'silent' });
const settle = async (): Promise<void> => {
  for (let i = 0; i < 12; i++) await new Promise(setImmediate);
};

let directory: string;
let pages: FakePages;
let listed: ListedDomain[];
let daemons: Xenstored[];
let clients: XenstoreClient[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  pages = new FakePages();
  listed = [];
  daemons = [];
  clients = [];
});

afterEach(async () => {
  for (const client of clients) await client.close();
  for (const daemon of daemons) await daemon.stop();
  await rm(directory, { recursive: true });
});

/** One daemon after the other, over one journal; those before have been killed. */
async function start(link: MortalLink): Promise<XenstoreClient> {
  const socketPath = join(directory, `s${daemons.length}`);
  const journal = { directory, incarnation: 'this', sync: false };
  const hypervisor = { privcmd: link, listDomains: () => Promise.resolve(listed) };
  daemons.push(await startXenstored({ socketPath, journal }, { log, hypervisor }));
  const client = await XenstoreClient.connect({ path: socketPath });
  clients.push(client);
  return client;
}

async function introduce(client: XenstoreClient, domid: number): Promise<FakeGuest> {
  const guest = new FakeGuest(domid, pages);
  listed.push({ domid, dying: false, shutdown: false, crashed: false });
  await client.mkdir(`/local/domain/${domid}`);
  await client.setPerms(`/local/domain/${domid}`, [{ domid, access: 'none' }]);
  await client.introduce(domid, 0x1234, 7);
  await settle();
  return guest;
}

test('guests go on: watches fire once and still watch, transactions are gone, half a request is completed', async () => {
  const link = new MortalLink(pages);
  const before = await start(link);
  const guest = await introduce(before, 5);
  guest.send(XsOp.WATCH, 1, 'control|tok|');
  guest.send(XsOp.WATCH, 2, '@releaseDomain|rel|');
  guest.send(XsOp.TRANSACTION_START, 3, '|');
  await settle();
  guest.texts();
  const request = encodeXsPacket(XsOp.WRITE, 4, 0, 'data/x\0hello');
  guest.put(request.subarray(0, 9));
  guest.notify();
  await settle();
  link.kill();

  const after = await start(new MortalLink(pages));
  await settle();
  expect(guest.texts()).toEqual(['! control|tok|', '! @releaseDomain|rel|']);
  guest.put(request.subarray(9));
  guest.notify();
  await settle();
  expect(guest.texts()).toEqual(['OK|']);
  expect(await after.readString('/local/domain/5/data/x')).toBe('hello');
  await after.write('/local/domain/5/control/shutdown', 'poweroff');
  await settle();
  expect(guest.texts()).toEqual(['! control/shutdown|tok|']);
  const old = encodeXsPacket(XsOp.TRANSACTION_END, 5, 1, 'T\0');
  guest.put(old);
  guest.notify();
  await settle();
  expect(guest.texts()).toEqual(['ENOENT|']);
  guest.send(XsOp.UNWATCH, 6, 'control|tok|');
  await settle();
  expect(guest.texts()).toEqual(['OK|']);
  expect(daemons[1]?.core.checkAccounts()).toBe(true);
});

test('domains that died meanwhile are forgotten', async () => {
  const link = new MortalLink(pages);
  const before = await start(link);
  await introduce(before, 5);
  await introduce(before, 6);
  link.kill();
  listed = listed.filter(({ domid }) => domid !== 5);
  pages.guests.delete(5);
  const after = await start(new MortalLink(pages));
  await settle();
  expect(await after.isDomainIntroduced(5)).toBe(false);
  expect(await after.exists('/local/domain/5')).toBe(false);
  expect(await after.isDomainIntroduced(6)).toBe(true);
});

/** Replies are found by their request's number; a guest sends the next request when it has the reply to the last. */
const REQUESTS: readonly (readonly [op: number, payload: string, reply: string])[] = [
  [XsOp.WRITE, 'data/a\0small', 'OK\0'],
  [XsOp.READ, 'data/a\0', 'small'],
  [XsOp.READ, 'long\0', 'l'.repeat(3000)],
  [XsOp.WRITE, `data/b\0${'b'.repeat(1900)}`, 'OK\0'],
  [XsOp.READ, 'data/b\0', 'b'.repeat(1900)],
  [XsOp.WRITE, 'data/a\0other', 'OK\0'],
  [XsOp.WATCH, 'data\0t\0', 'OK\0'],
  [XsOp.WRITE, `data/c\0${'c'.repeat(1500)}`, 'OK\0'],
  [XsOp.READ, 'data/c\0', 'c'.repeat(1500)],
  [XsOp.READ, 'data/a\0', 'other'],
];

/** A guest at work over many turns: it puts what fits, takes what is there. */
async function converse(
  guest: FakeGuest,
  next: { nr: number; sent: number; readonly replies: XsPacket[] },
): Promise<void> {
  for (let idle = 0; idle < 3 && next.nr < REQUESTS.length;) {
    const [op, payload] = REQUESTS[next.nr] ?? [0, ''];
    const request = encodeXsPacket(op, next.nr + 1, 0, payload);
    const room = 1024 - ((guest.get('req_prod') - guest.get('req_cons')) >>> 0);
    const piece = request.subarray(next.sent, next.sent + Math.min(room, 600));
    if (piece.length > 0) {
      guest.put(piece);
      guest.notify();
      next.sent += piece.length;
    }
    await settle();
    const taken = guest.take();
    const replies = taken.filter((packet) => packet.op !== XsOp.WATCH_EVENT);
    next.replies.push(...replies);
    for (const { reqId } of replies) {
      expect(reqId).toBe(next.nr + 1);
      next.nr++;
      next.sent = 0;
    }
    idle = piece.length > 0 || replies.length > 0 ? 0 : idle + 1;
  }
}

test.each([
  ['in front of', false],
  ['behind', true],
])(
  'killed %s any batch, the next daemon goes on at the same byte',
  async (_name, lastIsRun) => {
    let crashes = 0;
    for (let batches = 4; ; batches++) {
      const first = new MortalLink(pages);
      const client = await start(first);
      const guest = await introduce(client, 5);
      await client.write('/local/domain/5/long', 'l'.repeat(3000));
      await settle();
      first.kill();
      const mortal = new MortalLink(pages, batches, lastIsRun);
      await start(mortal);
      const next = { nr: 0, sent: 0, replies: [] };
      await converse(guest, next);
      if (!mortal.dead) break;
      crashes++;
      const last = await start(new MortalLink(pages));
      await settle();
      await converse(guest, next);
      const replies: readonly XsPacket[] = next.replies;
      expect(replies.map(({ payload }) => payload.toString('latin1'))).toEqual(REQUESTS.map(([, , reply]) => reply));
      expect(guest.get('error')).toBe(0);
      for (const [name, value] of [
        ['a', 'other'],
        ['b', 'b'.repeat(1900)],
        ['c', 'c'.repeat(1500)],
      ] as const) {
        expect(await last.readString(`/local/domain/5/data/${name}`)).toBe(value);
      }
      listed = [];
      pages = new FakePages();
      await rm(join(directory, 'journal'));
    }
    expect(crashes).toBeGreaterThan(15);
  },
  60_000,
);
