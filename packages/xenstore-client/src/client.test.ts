import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XenbusState } from '@xenhost/xen-abi';
import { XsOp, XsPacketParser, encodeXsPacket, splitStrings } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import { XenstoreClient } from './client.ts';
import { waitForNode, waitForState } from './wait.ts';

/** A xenstored of so much: one map of values, watches that match exactly, and whatever a test puts in its way. */
class Fake {
  readonly values = new Map<string, string>();
  readonly asked: string[] = [];
  readonly sockets = new Set<Socket>();
  /** Answers instead: an error name, or nothing ever. */
  intercept: (packet: XsPacket) => string | undefined = () => undefined;
  readonly #watches = new Map<Socket, [path: string, token: string][]>();
  #server: Server | undefined;
  #transactions = 0;
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  start(): Promise<void> {
    this.#server = createServer((socket) => {
      const parser = new XsPacketParser();
      this.sockets.add(socket);
      this.#watches.set(socket, []);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.sockets.delete(socket);
        this.#watches.delete(socket);
      });
      socket.on('data', (chunk) => {
        for (const packet of parser.push(chunk)) this.#answer(socket, packet);
      });
    });
    return new Promise((resolve) => this.#server?.listen(this.path, resolve));
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  change(path: string, value = ''): void {
    this.values.set(path, value);
    for (const [socket, watches] of this.#watches)
      for (const [watched, token] of watches) if (path.startsWith(watched)) this.event(socket, path, token);
  }

  event(socket: Socket, path: string, token: string): void {
    socket.write(encodeXsPacket(XsOp.WATCH_EVENT, 0, 0, `${path}\0${token}\0`));
  }

  #answer(socket: Socket, packet: XsPacket): void {
    const { op, reqId, txId, payload } = packet;
    const { strings, rest } = splitStrings(payload);
    const [first = '', second = ''] = strings;
    this.asked.push(`${op} ${txId} ${payload.toString('latin1').replaceAll('\0', '|')}`);
    const answer = (text: string): void => void socket.write(encodeXsPacket(op, reqId, txId, text));
    const refuse = (code: string): void => void socket.write(encodeXsPacket(XsOp.ERROR, reqId, txId, `${code}\0`));
    const instead = this.intercept(packet);
    if (instead === 'silence') return;
    if (instead !== undefined) {
      refuse(instead);
      return;
    }
    const value = this.values.get(first);
    switch (op) {
      case XsOp.READ:
        if (value === undefined) refuse('ENOENT');
        else answer(value);
        return;
      case XsOp.WATCH:
        this.#watches.get(socket)?.push([first, second]);
        answer('OK\0');
        this.event(socket, first, second);
        return;
      case XsOp.TRANSACTION_START:
        answer(`${++this.#transactions}\0`);
        return;
      case XsOp.WRITE:
        answer('OK\0');
        this.change(first, rest.toString('latin1'));
        return;
      default:
        answer('OK\0');
    }
  }
}

let directory: string;
let fake: Fake;
let client: XenstoreClient;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  fake = new Fake(join(directory, 's'));
  await fake.start();
  client = await XenstoreClient.connect({ path: fake.path, reconnect: { delayMs: 5, giveUpMs: 5000 } });
});

afterEach(async () => {
  await client.close();
  await fake.stop();
  await rm(directory, { recursive: true });
});

const asked = (op: number): string[] => fake.asked.filter((each) => each.startsWith(`${op} `));
const turns = async (): Promise<void> => {
  for (let i = 0; i < 50; i++) await new Promise(setImmediate);
};

test('requests that do not wait for each other are answered each with its own', async () => {
  for (let i = 0; i < 100; i++) fake.values.set(`/n${i}`, `v${i}`);
  const values = await Promise.all(Array.from({ length: 100 }, (_, i) => client.tryRead(`/n${i}`)));
  expect(values).toEqual(Array.from({ length: 100 }, (_, i) => `v${i}`));
  expect(await client.tryRead('/none')).toBeUndefined();
});

describe('signals', () => {
  test('a request is given up, the connection goes on', async () => {
    fake.intercept = ({ op }) => (op === XsOp.READ ? 'silence' : undefined);
    const ending = new AbortController();
    const reading = client.read('/a', { signal: ending.signal });
    await turns();
    ending.abort();
    await expect(reading).rejects.toMatchObject({ code: 'ECANCELED', operation: 'READ', subject: '/a' });
    fake.intercept = () => undefined;
    await client.write('/a', '1');
    expect(await client.readString('/a', { signal: new AbortController().signal })).toBe('1');
    await expect(client.read('/a', { signal: ending.signal })).rejects.toMatchObject({ code: 'ECANCELED' });
  });

  test('a transaction is aborted at the server, too', async () => {
    const ending = new AbortController();
    const running = client.transaction(
      async (t) => {
        await t.write('/t', 1);
        ending.abort();
      },
      { signal: ending.signal },
    );
    await expect(running).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(asked(XsOp.TRANSACTION_END)).toEqual([`${XsOp.TRANSACTION_END} 1 F|`]);
    await expect(client.transaction(() => Promise.resolve(), { signal: ending.signal })).rejects.toMatchObject({
      code: 'ECANCELED',
    });
  });

  test('a watch ends its loop', async () => {
    const ending = new AbortController();
    const seen: string[] = [];
    for await (const { path } of client.watch('/w', { signal: ending.signal })) {
      seen.push(path);
      ending.abort();
    }
    expect(seen).toEqual(['/w']);
    await turns();
    expect(asked(XsOp.UNWATCH)).toHaveLength(1);
  });
});

describe('transactions', () => {
  test('run again after EAGAIN, so many times', async () => {
    let commits = 0;
    fake.intercept = ({ op }) => (op === XsOp.TRANSACTION_END && ++commits < 7 ? 'EAGAIN' : undefined);
    const attempts: number[] = [];
    const body = (_t: unknown, attempt: number): Promise<number> => Promise.resolve(attempts.push(attempt));
    expect(await client.transaction(body)).toBe(7);
    expect(attempts).toEqual([1, 2, 3, 4, 5, 6, 7]);
    commits = -100;
    await expect(client.transaction(() => Promise.resolve(), { maxAttempts: 3 })).rejects.toMatchObject({
      code: 'EAGAIN',
      operation: 'TRANSACTION_END',
    });
    expect(commits).toBe(-97);
  });

  test('an error of the body aborts', async () => {
    const bug = new Error('bug');
    await expect(client.transaction(() => Promise.reject(bug))).rejects.toBe(bug);
    expect(asked(XsOp.TRANSACTION_END)).toEqual([`${XsOp.TRANSACTION_END} 1 F|`]);
  });

  test('one that was under way when the daemon went fails, and is not run again', async () => {
    let runs = 0;
    const running = client.transaction(async (t) => {
      runs++;
      await fake.stop();
      await fake.start();
      await client.write('/elsewhere', 1);
      await t.write('/t', 1);
    });
    await expect(running).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(runs).toBe(1);
    expect(fake.values.has('/t')).toBe(false);
    expect(await client.transaction((t) => t.write('/t', 2).then(() => 'done'))).toBe('done');
  });
});

describe('watches', () => {
  test('a slow consumer loses no path', async () => {
    const watch = client.watch('/w');
    await watch.registered;
    for (let i = 0; i < 1000; i++) fake.change(`/w/${i % 100}`);
    await client.write('/after', 1);
    const seen = new Set<string>();
    while (seen.size < 101) seen.add(((await watch.next()).value as { path: string }).path);
    expect(seen.size).toBe(101);
    await watch.return();
  });

  test('too many changes that nobody takes end the watch with an error, after what there was', async () => {
    const watch = client.watch('/w', { maxQueued: 10 });
    await watch.registered;
    for (let i = 0; i < 20; i++) fake.change(`/w/${i}`);
    await client.write('/after', 1);
    for (let i = 0; i < 11; i++) expect((await watch.next()).done).toBe(false);
    await expect(watch.next()).rejects.toMatchObject({ code: 'EOVERFLOW', subject: '/w' });
    expect((await watch.next()).done).toBe(true);
    expect(asked(XsOp.UNWATCH)).toHaveLength(1);
  });

  test('one that the server refuses fails', async () => {
    fake.intercept = ({ op }) => (op === XsOp.WATCH ? 'E2BIG' : undefined);
    const watch = client.watch('/w');
    await expect(watch.next()).rejects.toMatchObject({ code: 'E2BIG' });
    await expect(watch.registered).rejects.toMatchObject({ code: 'E2BIG' });
  });

  test('leaving the loop unregisters, closing the client ends it', async () => {
    for await (const { path } of client.watch('/w')) {
      expect(path).toBe('/w');
      break;
    }
    expect(asked(XsOp.UNWATCH)).toHaveLength(1);
    const watch = client.watch('/w');
    await watch.next();
    const ended = watch.next();
    await client.close();
    expect((await ended).done).toBe(true);
  });
});

describe('a daemon that is started anew', () => {
  test('finds the watches again, each with its first event; requests under way are errors, later ones wait', async () => {
    const watch = client.watch('/w');
    await watch.next();
    fake.intercept = ({ op }) => (op === XsOp.READ ? 'silence' : undefined);
    const underWay = client.read('/a');
    underWay.catch(() => undefined);
    await turns();
    let reconnected = 0;
    client.onReconnect(() => reconnected++);
    await fake.stop();
    await expect(underWay).rejects.toMatchObject({ code: 'ECONNRESET', operation: 'READ' });
    const later = client.write('/later', 1);
    const ending = new AbortController();
    const givenUp = client.read('/a', { signal: ending.signal });
    ending.abort();
    await expect(givenUp).rejects.toMatchObject({ code: 'ECANCELED' });
    const second = client.watch('/second');
    fake.intercept = () => undefined;
    fake.asked.length = 0;
    await fake.start();
    await later;
    await second.registered;
    expect((await watch.next()).value).toMatchObject({ path: '/w' });
    expect((await second.next()).value).toMatchObject({ path: '/second' });
    fake.change('/w/x');
    expect((await watch.next()).value).toMatchObject({ path: '/w/x' });
    expect([reconnected, client.closed, asked(XsOp.WATCH).length]).toEqual([1, false, 2]);
  });

  test('that no longer takes a watch ends it', async () => {
    const watch = client.watch('/w');
    await watch.next();
    fake.intercept = ({ op }) => (op === XsOp.WATCH ? 'EACCES' : undefined);
    const next = watch.next();
    next.catch(() => undefined);
    await fake.stop();
    await fake.start();
    await expect(next).rejects.toMatchObject({ code: 'EACCES' });
    expect(client.closed).toBe(false);
  });

  test('and never comes closes the client with the error', async () => {
    const impatient = await XenstoreClient.connect({ path: fake.path, reconnect: { delayMs: 1, giveUpMs: 20 } });
    const watch = impatient.watch('/w');
    await watch.next();
    const closed = new Promise((resolve) => impatient.onClose(resolve));
    await fake.stop();
    await turns();
    await expect(impatient.read('/a')).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await closed).toMatchObject({ code: 'ENOENT' });
    await expect(watch.next()).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(impatient.read('/a')).rejects.toMatchObject({ code: 'ECONNRESET' });
    await fake.start();
  });

  test('ends a client that was not told to come back', async () => {
    const plain = await XenstoreClient.connect({ path: fake.path });
    const closed = new Promise((resolve) => plain.onClose(resolve));
    await fake.stop();
    expect(await closed).toMatchObject({ code: 'ECONNRESET' });
    expect(plain.closed).toBe(true);
    await fake.start();
  });
});

describe('waiting', () => {
  test('for a value, a state, too long, and no longer', async () => {
    const there = waitForNode(client, '/v', (value) => (value === 'right' ? value : undefined));
    await turns();
    fake.change('/v', 'wrong');
    await turns();
    fake.change('/v', 'right');
    expect(await there).toBe('right');
    const state = waitForState(client, '/dev/state', [XenbusState.Connected, XenbusState.Closed]);
    fake.change('/dev/state', '2');
    await turns();
    fake.change('/dev/state', '4');
    expect(await state).toBe(XenbusState.Connected);
    expect(await waitForState(client, '/none', [XenbusState.Unknown])).toBe(XenbusState.Unknown);
    await expect(waitForNode(client, '/never', () => undefined, { timeoutMs: 10 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      subject: '/never',
    });
    const ending = new AbortController();
    const waiting = waitForNode(client, '/never', () => undefined, { signal: ending.signal, timeoutMs: 60_000 });
    await turns();
    ending.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'ECANCELED' });
  });
});
