import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import { createLogger } from '@xenhost/daemon-kit';
import { FakePages } from '@xenhost/privcmd/testing';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { WebSocket } from 'ws';
import { startXenconsoled } from './daemon.ts';
import type { Xenconsoled } from './daemon.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import { HISTORY_BYTES, READER_QUEUE_BYTES } from './limits.ts';
import { runSession } from './session.ts';
import { ConsoleError, findTty } from './tty-path.ts';

const log = createLogger('xenconsoled-test', { level: 'silent' });

let directory: string;
let storeDirectory: string;
let store: ChildProcess;
let xenstore: XenstoreClient;
let hypervisor: FakePages;
let daemon: Xenconsoled;
let dmesg: string;
const attached: Socket[] = [];

/** Waits until `condition` holds; rejects when it does not within seconds. */
async function until(condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 4000; !condition();) {
    if (Date.now() > end) throw new Error(`never: ${condition.toString()}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

beforeAll(async () => {
  storeDirectory = await mkdtemp(join(tmpdir(), 'xh-'));
  const socket = join(storeDirectory, 'xs');
  const main = resolve(__dirname, '../../xenstored/src/main.ts');
  store = spawn(process.execPath, [main, '--no-hypervisor', '--socket', socket], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await new Promise((ready) => store.stdout?.once('data', ready));
});

afterAll(async () => {
  store.kill();
  await rm(storeDirectory, { recursive: true });
});

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  xenstore = await XenstoreClient.connect({ path: join(storeDirectory, 'xs') });
  hypervisor = new FakePages();
  dmesg = 'Xen 4.17\n';
  daemon = await startXenconsoled(
    {
      socketDirectory: join(directory, 'c'),
      logDirectory: join(directory, 'log'),
      logs: { guests: true, hypervisor: true },
      webSocket: { host: '127.0.0.1', port: 0 },
    },
    {
      log,
      xenstore,
      xenctrl: {
        privcmd: hypervisor,
        readconsolering: ({ fromIndex = 0 } = {}) =>
          Promise.resolve({ text: dmesg.slice(fromIndex), index: dmesg.length }),
      },
    },
  );
});

afterEach(async () => {
  for (const socket of attached.splice(0)) socket.destroy();
  await daemon.stop();
  for (const domid of hypervisor.guests.keys()) await xenstore.release(domid).catch(() => undefined);
  await xenstore.rm('/local/domain');
  await xenstore.close();
  await rm(directory, { recursive: true });
});

async function guest(
  domid: number,
  name: string,
  g = new FakeGuest(domid, hypervisor),
): Promise<{ g: FakeGuest; tty: string; log: () => string }> {
  const base = `/local/domain/${domid}`;
  await xenstore.write(`${base}/name`, name);
  await xenstore.write(`${base}/console/port`, 2);
  await xenstore.introduce(domid, 1, 1);
  await xenstore.write(`${base}/console/ring-ref`, 77);
  const tty = await findTty(xenstore, domid, 0);
  const path = join(directory, 'log', `guest-${name}.log`);
  return { g, tty, log: () => readFileSync(path, 'utf8') };
}

function attach(tty: string): { socket: Socket; text: () => string; ended: Promise<void> } {
  const socket = connect({ path: tty, allowHalfOpen: true });
  attached.push(socket);
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString('latin1')));
  const ended = new Promise<void>((done) => socket.once('end', done));
  return { socket, text: () => text, ended };
}

test('output reaches the log though nobody is attached, and a later reader', async () => {
  const { g, tty, log: logged } = await guest(5, 'web');
  const long = Array.from({ length: 2000 }, (_, i) => `line ${i}\r\n`).join('');
  await g.print(long);
  await until(() => g.get('out_cons') === g.get('out_prod'));
  expect(logged()).toBe(long);
  const reader = attach(tty);
  await until(() => reader.text().length >= long.length);
  expect(reader.text()).toBe(long);
});

test('what was printed before the console was connected is not lost', async () => {
  const early = new FakeGuest(6, hypervisor);
  await early.print('early\n');
  const { log: logged } = await guest(6, 'x', early);
  await until(() => logged() === 'early\n');
});

test('several readers see the same; each may type; only recent output is kept for new ones', async () => {
  const { g, tty } = await guest(5, 'web');
  const a = attach(tty);
  const b = attach(tty);
  await until(() => (daemon.consoles.find(5)?.nrReaders ?? 0) === 2);
  await g.print('login: ');
  await until(() => a.text() === 'login: ' && b.text() === 'login: ');
  a.socket.write('ro');
  await until(() => g.get('in_prod') === 2);
  b.socket.write('ot\r');
  await until(() => g.get('in_prod') === 5);
  expect(g.typed()).toBe('root\r');
  await g.print('z'.repeat(3 * HISTORY_BYTES));
  const c = attach(tty);
  await until(() => c.text().length >= HISTORY_BYTES);
  expect(c.text()).toBe('z'.repeat(HISTORY_BYTES));
});

test('a console-limit is the most that is kept for later readers', async () => {
  await xenstore.write('/local/domain/5/console/limit', 1000);
  const { g, tty } = await guest(5, 'web');
  await g.print('a'.repeat(3000) + 'b'.repeat(1000));
  await until(() => g.get('out_cons') === g.get('out_prod'));
  const reader = attach(tty);
  await until(() => reader.text().length > 0);
  expect(reader.text()).toBe('b'.repeat(1000));
});

test('much input goes in as the guest takes it', async () => {
  const { g, tty } = await guest(5, 'web');
  const reader = attach(tty);
  const sent = Array.from({ length: 40_000 }, (_, i) => `${i},`).join('');
  reader.socket.write(sent);
  let got = '';
  await until(() => (got += g.typed()).length >= sent.length);
  expect(got).toBe(sent);
});

test('a reader that does not read is detached with a message, others go on', async () => {
  const { g, tty } = await guest(5, 'web');
  const slow = attach(tty);
  slow.socket.pause();
  await until(() => (daemon.consoles.find(5)?.nrReaders ?? 0) === 1);
  await g.print('q'.repeat(READER_QUEUE_BYTES + 1024 * 1024));
  await until(() => (daemon.consoles.find(5)?.nrReaders ?? 1) === 0);
  slow.socket.resume();
  await slow.ended;
  expect(slow.text()).toMatch(/^q+\r\n\[xenconsoled: this reader was too slow and has been detached\]\r\n$/);
});

test('the end of a domain: the last output reaches log and reader, then the console goes', async () => {
  const { g, tty, log: logged } = await guest(5, 'web');
  const reader = attach(tty);
  await until(() => (daemon.consoles.find(5)?.nrReaders ?? 0) === 1);
  const listeners = hypervisor.deliver.bind(hypervisor);
  hypervisor.deliver = () => undefined;
  await g.print('reboot: Power down\n');
  hypervisor.deliver = listeners;
  await xenstore.release(5);
  await reader.ended;
  expect(reader.text()).toBe('reboot: Power down\n');
  expect(logged()).toBe('reboot: Power down\n');
  expect(daemon.consoles.find(5)).toBeUndefined();
  await until(() => !existsSync(tty));
});

test('a domain whose nodes go while its console is being connected does not get them back', async () => {
  const g = new FakeGuest(5, hypervisor);
  const bind = hypervisor.bindInterdomain.bind(hypervisor);
  hypervisor.bindInterdomain = async (domid) => {
    await xenstore.rm('/local/domain/5');
    return bind(domid);
  };
  await xenstore.mkdir('/local/domain/5');
  await xenstore.introduce(5, 1, 1);
  await xenstore.transaction(async (t) => {
    await t.write('/local/domain/5/console/port', 2);
    await t.write('/local/domain/5/console/ring-ref', 77);
  });
  await g.print('hello');
  await until(() => daemon.consoles.find(5) !== undefined && g.get('out_cons') === 5);
  expect(await xenstore.exists('/local/domain/5')).toBe(false);
});

test('wild indices move nothing and cost only that guest', async () => {
  const bad = await guest(5, 'bad');
  const good = await guest(6, 'good');
  bad.g.set('out_prod', 0x80000000);
  hypervisor.deliver(bad.g.port);
  await good.g.print('fine\n');
  await until(() => good.log() === 'fine\n');
  expect(bad.log()).toBe('');
});

test('a console of another type is left alone', async () => {
  new FakeGuest(8, hypervisor);
  await xenstore.write('/local/domain/8/console/type', 'ioemu');
  await xenstore.write('/local/domain/8/console/port', 2);
  await xenstore.write('/local/domain/8/console/ring-ref', 1);
  await xenstore.introduce(8, 1, 1);
  await guest(9, 'later');
  expect(daemon.consoles.find(8)).toBeUndefined();
});

test('the hypervisor log grows', async () => {
  const path = join(directory, 'log', 'hypervisor.log');
  expect(readFileSync(path, 'utf8')).toBe('Xen 4.17\n');
  dmesg += 'more\n';
  hypervisor.deliver(await hypervisor.bindVirq());
  await until(() => readFileSync(path, 'utf8') === 'Xen 4.17\nmore\n');
});

test('WebSockets: output and input; other sites and other domains are refused', async () => {
  const { g } = await guest(5, 'web');
  await g.print('hello');
  const url = `ws://127.0.0.1:${daemon.webSocketPort ?? 0}/console`;
  const socket = new WebSocket(`${url}/5`);
  let text = '';
  socket.on('message', (data: Buffer) => (text += data.toString()));
  await until(() => text === 'hello');
  socket.send('typed');
  await until(() => g.get('in_prod') === 5);
  expect(g.typed()).toBe('typed');
  socket.close();
  const unknown = new WebSocket(`${url}/99`);
  const code = await new Promise((done) => unknown.once('close', done));
  expect(code).toBe(4404);
  const foreign = new WebSocket(`${url}/5`, { origin: 'http://elsewhere.example' });
  const error = await new Promise<Error>((done) => foreign.once('error', done));
  expect(error.message).toContain('401');
});

describe('a session', () => {
  test('passes bytes both ways, survives the end of its input, ends with the domain', async () => {
    const { g, tty } = await guest(5, 'web');
    const input = new PassThrough();
    const output = new PassThrough();
    const session = runSession(tty, { input, output });
    input.end('uname\r');
    await until(() => g.get('in_prod') === 6);
    await g.print('Linux\n');
    await xenstore.release(5);
    expect(await session).toBe('domain-ended');
    expect(String(output.read())).toBe('Linux\n');
  });

  test('Ctrl-] leaves; a terminal is raw meanwhile and restored', async () => {
    const { g, tty } = await guest(5, 'web');
    const modes: boolean[] = [];
    const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: (raw: boolean) => modes.push(raw) });
    const session = runSession(tty, { input, output: new PassThrough() });
    await until(() => modes.length === 1);
    input.write('ab\x1dcd');
    expect(await session).toBe('escape');
    expect(modes).toEqual([true, false]);
    await until(() => g.get('in_prod') === 2);
    expect(g.typed()).toBe('ab');
  });

  test('no such domain, no console', async () => {
    await expect(findTty(xenstore, 99, 0)).rejects.toThrow(new ConsoleError('Domain 99 does not exist'));
    await xenstore.mkdir('/local/domain/98');
    await expect(findTty(xenstore, 98, 0, 50)).rejects.toThrow(/Could not read tty from store/);
  });
});
