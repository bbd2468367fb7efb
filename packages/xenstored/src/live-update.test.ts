import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { childrenOf } from '@xenhost/daemon-kit';
import { FakePages } from '@xenhost/privcmd/testing';
import { servePrivcmd } from '@xenhost/privcmd';
import type { PrivcmdServer } from '@xenhost/privcmd';
import { XsOp, encodeXsPacket } from '@xenhost/xs-wire';
import { FakeGuest } from './testing/fake-guest.ts';
import { PageBackend } from './testing/page-backend.ts';
import { RawClient } from './testing/raw-client.ts';

const main = join(__dirname, 'main.ts');
jest.setTimeout(60_000);

let directory: string;
let path: string;
let pages: FakePages;
let hypervisor: PrivcmdServer;
let daemon: ChildProcess;
let clients: RawClient[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  path = join(directory, 's');
  pages = new FakePages();
  clients = [];
  const privcmd = join(directory, 'p');
  hypervisor = await servePrivcmd({ path: privcmd }, new PageBackend(pages));
  daemon = spawn(process.execPath, [main, '--socket', path, '--privcmd', privcmd], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, XENHOST_LOG_LEVEL: 'silent' },
  });
  const out = daemon.stdout;
  if (!out) throw new Error('no output');
  await new Promise((resolve) => createInterface({ input: out }).once('line', resolve));
});

afterEach(async () => {
  for (const { socket } of clients) socket.destroy();
  if (daemon.exitCode === null && daemon.signalCode === null) {
    const gone = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill('SIGKILL');
    await gone;
  }
  await hypervisor.close();
  await rm(directory, { recursive: true });
});

async function open(): Promise<RawClient> {
  const client = await RawClient.open(path);
  clients.push(client);
  return client;
}

async function guest(tool: RawClient, domid: number): Promise<FakeGuest> {
  const it = new FakeGuest(domid, pages);
  expect(await tool.ask(XsOp.MKDIR, `/local/domain/${domid}|`)).toBe('OK|');
  expect(await tool.ask(XsOp.SET_PERMS, `/local/domain/${domid}|n${domid}|`)).toBe('OK|');
  expect(await tool.ask(XsOp.INTRODUCE, `${domid}|1|7|`)).toBe('OK|');
  return it;
}

/** Texts of what the guest has got, when there are so many. */
async function takes(it: FakeGuest, count: number): Promise<string[]> {
  const texts: string[] = [];
  while (texts.length < count) {
    texts.push(...it.texts());
    await new Promise(setImmediate);
  }
  return texts;
}

async function update(tool: RawClient, file = main): Promise<string> {
  const set = await tool.ask(XsOp.CONTROL, `live-update|-f|${file}|`);
  return set === 'OK|' ? tool.ask(XsOp.CONTROL, 'live-update|-s|-t|30|') : set;
}

const serving = (): readonly number[] => childrenOf(daemon.pid ?? 0);

test('nobody notices: connections, watches, a transaction, half a request, unread replies, a guest; twice', async () => {
  const tool = await open();
  const other = await open();
  const half = await open();
  const slow = await open();
  const it = await guest(tool, 5);
  expect(await tool.ask(XsOp.WRITE, '/a|1')).toBe('OK|');
  expect(await other.ask(XsOp.WATCH, '/w|tok|')).toBe('OK|');
  expect(await other.text()).toBe('! /w|tok|');
  it.send(XsOp.WATCH, 1, 'control|g|');
  expect(await takes(it, 2)).toEqual(['OK|', '! control|g|']);
  const big = 'b'.repeat(4000);
  expect(await tool.ask(XsOp.WRITE, `/big|${big}`)).toBe('OK|');
  slow.socket.pause();
  const reads = 400;
  for (let i = 0; i < reads; i++) slow.send(XsOp.READ, '/big|');
  let children: readonly number[] = [];

  for (const round of [1, 2]) {
    const id = (await other.ask(XsOp.TRANSACTION_START, '|')).slice(0, -1);
    expect(await other.ask(XsOp.WRITE, `/t${round}|in`, Number(id))).toBe('OK|');
    const request = encodeXsPacket(XsOp.READ, 77, 0, '/a\0');
    half.socket.write(request.subarray(0, 9));
    const ringRequest = encodeXsPacket(XsOp.WRITE, 78, 0, `data/x\0${round}${'r'.repeat(1500)}`);
    it.put(ringRequest.subarray(0, 900));
    it.notify();
    const newcomer = open();

    expect(await update(tool)).toBe('OK|');
    const now = serving();
    expect(now).not.toEqual(children);
    children = now;

    expect(await other.ask(XsOp.READ, `/t${round}|`)).toBe('ENOENT|');
    expect(await other.ask(XsOp.TRANSACTION_END, 'T|', Number(id))).toBe('OK|');
    expect(await tool.ask(XsOp.READ, `/t${round}|`)).toBe('in');
    half.socket.write(request.subarray(9));
    expect(await half.text()).toBe('1');
    expect(await tool.ask(XsOp.WRITE, '/w/x|')).toBe('OK|');
    expect(await other.text()).toBe('! /w/x|tok|');
    it.put(ringRequest.subarray(900));
    it.notify();
    expect(await takes(it, 1)).toEqual(['OK|']);
    expect(await tool.ask(XsOp.READ, '/local/domain/5/data/x|')).toBe(`${round}${'r'.repeat(1500)}`);
    expect(await tool.ask(XsOp.WRITE, '/local/domain/5/control/shutdown|halt')).toBe('OK|');
    expect(await takes(it, 1)).toEqual(['! control/shutdown|g|']);
    expect(await (await newcomer).ask(XsOp.READ, '/a|')).toBe('1');
    expect(await (await open()).ask(XsOp.READ, '/a|')).toBe('1');
    expect(await tool.ask(XsOp.CONTROL, 'check|')).toBe('OK|');
  }

  slow.socket.resume();
  for (let i = 0; i < reads; i++) expect(await slow.text()).toBe(big);
  expect(daemon.exitCode).toBeNull();
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  daemon.kill('SIGTERM');
  expect(await ended).toBe(0);
  expect(existsSync(path)).toBe(false);
});

/** Keeps 16 requests in flight until stopped; tells how many were answered, and fails for a reply out of order. */
async function keepBusy(client: RawClient, path_: string, stop: { readonly now: boolean }): Promise<number> {
  const IN_FLIGHT = 16;
  let sent = 0;
  let answered = 0;
  const send = (): void => {
    if (sent % 2 === 0) client.send(XsOp.WRITE, `${path_}|${sent}`);
    else client.send(XsOp.READ, `${path_}|`);
    sent++;
  };
  for (let i = 0; i < IN_FLIGHT; i++) send();
  while (answered < sent) {
    const text = await client.text();
    if (text !== (answered % 2 === 0 ? 'OK|' : String(answered - 1))) throw new Error(`reply ${answered}: ${text}`);
    answered++;
    if (!stop.now) send();
  }
  return answered;
}

test('clients that never pause are answered in order through three updates', async () => {
  const tool = await open();
  const stop = { now: false };
  const busy = [];
  for (let i = 0; i < 8; i++) busy.push(keepBusy(await open(), `/busy/${i}`, stop));
  for (let i = 0; i < 3; i++) expect(await update(tool)).toBe('OK|');
  stop.now = true;
  for (const count of await Promise.all(busy)) expect(count).toBeGreaterThan(100);
  expect(await tool.ask(XsOp.CONTROL, 'check|')).toBe('OK|');
});

test.each([
  ['that is not there', '/no/such/file', 'File not accessible.|'],
  ['that cannot be executed', join(__dirname, '..', 'package.json'), 'File not executable.|'],
  ['that ends', '/bin/true', 'the new daemon ended with exit code 0|'],
])('a program %s does not take over, and all go on', async (_name, file, answer) => {
  const tool = await open();
  const it = await guest(tool, 5);
  expect(await update(tool, file)).toBe(answer);
  it.send(XsOp.GET_DOMAIN_PATH, 1, '5|');
  expect(await takes(it, 1)).toEqual(['/local/domain/5|']);
  expect(await (await open()).ask(XsOp.GET_DOMAIN_PATH, '5|')).toBe('/local/domain/5|');
});

test('killed after a live update, the daemon ends, and the next one knows all', async () => {
  const tool = await open();
  await guest(tool, 5);
  expect(await update(tool)).toBe('OK|');
  expect(await tool.ask(XsOp.WRITE, '/after|update')).toBe('OK|');
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  process.kill(Number(serving()[0]), 'SIGKILL');
  expect(await ended).toBe(1);
  daemon = spawn(process.execPath, [main, '--socket', path, '--privcmd', join(directory, 'p')], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, XENHOST_LOG_LEVEL: 'silent' },
  });
  const out = daemon.stdout;
  if (!out) throw new Error('no output');
  await new Promise((resolve) => createInterface({ input: out }).once('line', resolve));
  const again = await open();
  expect(await again.ask(XsOp.READ, '/after|')).toBe('update');
  expect(await again.ask(XsOp.IS_DOMAIN_INTRODUCED, '5|')).toBe('T|');
});
