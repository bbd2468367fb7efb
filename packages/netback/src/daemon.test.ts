/** Handshakes with a real xenstored beside; the hypervisor is made up, and so are the guests. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { localPrivcmd } from '@xenhost/privcmd';
import { FakeBackend } from '@xenhost/privcmd/testing';
import { XenstoreClient, waitForNode } from '@xenhost/xenstore-client';
import { startNetback } from './index.ts';
import type { Netback } from './index.ts';
import { FakeFrontend } from './testing/fake-frontend.ts';
import { Flood } from './testing/flood.ts';
import { FEATURES } from './vif/xenbus.ts';

// Processes of other tests may leave little of the machine.
jest.setTimeout(60_000);

const MAC = '00:16:3e:00:00:0';
const PATIENCE = { timeoutMs: 50_000 };

let directory: string;
let xenstored: ChildProcess;
let store: XenstoreClient;
let backend: FakeBackend;
let privcmd: ReturnType<typeof localPrivcmd>;
let switches: Flood;
let netback: Netback;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  const main = resolve(__dirname, '../../xenstored/src/main.ts');
  xenstored = spawn(process.execPath, [main, '--no-hypervisor', '--socket', join(directory, 's')], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, XENHOST_READY_FILE: '' },
  });
  await new Promise((ready) => xenstored.stdout?.once('data', ready));
});

beforeEach(async () => {
  store = await XenstoreClient.connect({ path: join(directory, 's') });
  backend = new FakeBackend();
  privcmd = localPrivcmd({}, backend);
  switches = new Flood();
  netback = await start();
});

afterEach(async () => {
  await netback.stop();
  for (const path of ['0/backend/vif', '0/error', '1', '2', '3'].map((each) => `/local/domain/${each}`)) {
    if (await store.exists(path)) await store.rm(path);
  }
  await store.close();
});

afterAll(async () => {
  const ended = new Promise((done) => xenstored.once('exit', done));
  xenstored.kill();
  await ended;
  await rm(directory, { recursive: true });
});

const statistics = (): string => join(directory, 'net');

async function start(): Promise<Netback> {
  const xenstore = await XenstoreClient.connect({ path: join(directory, 's') });
  const running = await startNetback(
    { statisticsRoot: statistics(), metricsPath: join(directory, 'm') },
    { privcmd: privcmd.open(), xenstore, switches, log: createLogger('netback', { level: 'silent' }) },
  );
  return {
    ...running,
    stop: async () => {
      await running.stop();
      await xenstore.close();
    },
  };
}

const back = (domid: number): string => `/local/domain/0/backend/vif/${domid}/0`;
const front = (domid: number): string => `/local/domain/${domid}/device/vif/0`;

/** What xend writes. */
async function plug(domid: number, more: Readonly<Record<string, string>> = {}): Promise<void> {
  await store.transaction(async (t) => {
    const nodes = {
      bridge: 'xenbr0',
      mac: `${MAC}${domid}`,
      script: '/etc/xen/scripts/vif-bridge',
      handle: '0',
      ...more,
    };
    for (const [key, value] of Object.entries(nodes)) await t.write(`${back(domid)}/${key}`, value);
    await t.write(`${back(domid)}/frontend`, front(domid));
    await t.write(`${back(domid)}/online`, 1);
    await t.write(`${back(domid)}/state`, 1);
    await t.write(`${front(domid)}/state`, 1);
  });
}

const node = (path: string, value: string | undefined): Promise<unknown> =>
  waitForNode(store, path, (found) => (found === value ? true : undefined), PATIENCE);

/** A frontend that goes from Initialising to Connected. */
async function connect(domid: number, more: Readonly<Record<string, string>> = {}): Promise<FakeFrontend> {
  await node(`${back(domid)}/state`, '2');
  const guest = new FakeFrontend(backend, domid);
  await publish(domid, { ...guest.keys, ...more });
  return guest;
}

async function publish(domid: number, keys: Readonly<Record<string, string>>): Promise<void> {
  for (const [key, value] of Object.entries(keys)) await store.write(`${front(domid)}/${key}`, value);
  await store.write(`${front(domid)}/state`, 4);
}

async function until<T>(ask: () => T | undefined): Promise<T> {
  for (;;) {
    const answer = ask();
    if (answer !== undefined) return answer;
    await new Promise((turn) => setImmediate(turn));
  }
}

const some = <T>(list: readonly T[]): readonly T[] | undefined => (list.length > 0 ? list : undefined);
const packet = (length: number): { readonly parts: readonly { readonly data: Uint8Array }[] } => ({
  parts: [{ data: Uint8Array.from({ length }, (_, i) => i) }],
});

test('two guests shake hands as Linux does, and what one sends the other gets', async () => {
  await plug(1);
  await plug(2);
  await node(`${back(1)}/hotplug-status`, 'connected');
  const [one, two] = [await connect(1), await connect(2)];
  for (const [key, value] of Object.entries(FEATURES)) expect(await store.tryRead(`${back(1)}/${key}`)).toBe(value);
  await node(`${back(1)}/state`, '4');
  await node(`${back(2)}/state`, '4');
  expect([...switches.ports.keys()]).toEqual(['vif1.0', 'vif2.0']);
  expect(switches.ports.get('vif1.0')?.options).toMatchObject({ bridge: 'xenbr0', mac: `${MAC}1` });
  two.offer(8);
  one.send(packet(100));
  const got = await until(() => some(two.received()));
  expect(got.map(({ bytes }) => bytes.length)).toEqual([100]);
});

test('a frontend may close and come back, with other rings', async () => {
  await plug(1);
  await connect(1);
  await node(`${back(1)}/state`, '4');
  for (const state of ['5', '6']) {
    await store.write(`${front(1)}/state`, state);
    await node(`${back(1)}/state`, state);
  }
  expect(backend.boundPorts).toBe(0);
  expect(await store.tryRead(`${back(1)}/hotplug-status`)).toBe('connected');
  await store.write(`${front(1)}/state`, 1);
  const again = await connect(1);
  await node(`${back(1)}/state`, '4');
  again.send(packet(60));
  expect(await until(() => some(again.answers()))).toEqual([[0, 0]]);
});

test('a vif that the toolstack takes away lets go of everything', async () => {
  await plug(1);
  await connect(1);
  await node(`${back(1)}/state`, '4');
  await store.write(`${back(1)}/online`, 0);
  await store.write(`${back(1)}/state`, 5);
  await node(`${back(1)}/hotplug-status`, undefined);
  await node(`${back(1)}/state`, '6');
  expect(backend.boundPorts).toBe(0);
  expect(switches.ports.size).toBe(0);
  await store.rm('/local/domain/0/backend/vif/1');
  await until(() => ([...netback.vifs.devices].length === 0 ? true : undefined));
  expect(await store.exists(back(1))).toBe(false);
});

test.each([
  [{ script: '/etc/xen/scripts/vif-route' }, 'script /etc/xen/scripts/vif-route cannot be run'],
  [{ script: 'vif-bridge netdev=eth1' }, 'netdev=eth1 has no effect'],
  [{ mac: '' }, 'MAC address "" is not one'],
  [{ mac: '01:00:00:00:00:01' }, "is a group's"],
  [{ vifname: 'a name with blanks' }, "cannot be an interface's name"],
])('%p is refused with its name', async (keys, reason) => {
  await plug(1, keys);
  await node(`${back(1)}/hotplug-status`, 'error');
  expect(await store.tryRead(`${back(1)}/hotplug-error`)).toContain(reason);
  await store.write(`${back(1)}/online`, 0);
  await node(`${back(1)}/hotplug-status`, undefined);
  await node(`${back(1)}/state`, '6');
});

test("the script's words, the name, the addresses and the rate are the port's", async () => {
  await plug(1, { script: 'vif-bridge bridge=ignored ip=10.0.0.9', vifname: 'web0', rate: '5000,50000' });
  await node(`${back(1)}/hotplug-status`, 'connected');
  expect(switches.ports.get('web0')?.options).toMatchObject({ bridge: 'xenbr0', filter: { ips: ['10.0.0.9'] } });
});

test.each([
  [{ 'request-rx-copy': '0' }, 'page flipping'],
  [{ 'tx-ring-ref': '-1' }, 'not a number'],
  [{ 'rx-ring-ref': '55' }, 'grant 55 cannot be mapped'],
  [{ 'event-channel': '77' }, 'event channel 77 cannot be bound'],
  [{ 'multi-queue-num-queues': '99' }, '1 to 4 queues'],
])('a frontend that says %p is closed, and Domain-0 is told why', async (keys, reason) => {
  await plug(1);
  await connect(1, keys);
  await node(`${back(1)}/state`, '5');
  expect(await store.readString('/local/domain/0/error/backend/vif/1/0/error')).toContain(reason);
  await store.write(`${front(1)}/state`, 6);
  await node(`${back(1)}/state`, '6');
  expect(await store.exists('/local/domain/0/error/backend/vif/1/0')).toBe(false);
});

test('a malicious frontend loses its vif; others go on', async () => {
  await Promise.all([1, 2, 3].map((domid) => plug(domid)));
  const [bad, one, two] = [await connect(1), await connect(2), await connect(3)];
  for (const domid of [1, 2, 3]) await node(`${back(domid)}/state`, '4');
  bad.tx.set('req_prod', 5000);
  bad.notify();
  await waitForNode(
    store,
    '/local/domain/0/error/backend/vif/1/0/error',
    (text) => (text?.includes('impossible number of requests') ? true : undefined),
    PATIENCE,
  );
  two.offer(8);
  one.send(packet(64));
  expect(await until(() => some(two.received()))).toHaveLength(1);
});

test('two queues serve one vif; each flow stays in its queue', async () => {
  await plug(1);
  await node(`${back(1)}/state`, '2');
  const queues = [0, 1].map((queue) => new FakeFrontend(backend, 1, queue));
  const keys: Record<string, string> = { 'multi-queue-num-queues': '2', 'request-rx-copy': '1', 'feature-sg': '1' };
  for (const [queue, { queueKeys }] of queues.entries()) {
    for (const [key, value] of Object.entries(queueKeys)) keys[`queue-${queue}/${key}`] = value;
  }
  await publish(1, keys);
  await node(`${back(1)}/state`, '4');
  for (const queue of queues) {
    queue.offer(64);
    queue.send(packet(64));
    expect(await until(() => some(queue.answers()))).toHaveLength(1);
  }
  const receiver = switches.ports.get('vif1.0')?.receiver;
  for (let i = 0; i < 32; i += 1) {
    const bytes = new Uint8Array(60).fill(i % 8);
    expect(receiver?.({ bytes, checksum: 'complete' })).toBe(true);
  }
  const got: number[][] = [[], []];
  await until(() => {
    for (const [i, queue] of queues.entries()) got[i]?.push(...queue.received().map(({ bytes }) => bytes[0] ?? 0));
    return got.flat().length === 32 ? true : undefined;
  });
  expect(got.map((each) => new Set(each).size).reduce((sum, size) => sum + size)).toBe(8);
  expect(got.every((each) => each.length > 0)).toBe(true);
});

test('the next daemon goes on with rings in use and with the numbers', async () => {
  await plug(1);
  const guest = await connect(1);
  await node(`${back(1)}/state`, '4');
  guest.send(packet(60));
  await until(() => some(guest.answers()));
  await netback.stop();
  expect(await readdir(statistics())).toEqual(['vif1.0']);
  guest.send(packet(61));
  netback = await start();
  expect(await until(() => some(guest.answers()))).toHaveLength(1);
  expect(await store.tryRead(`${back(1)}/state`)).toBe('4');
  await netback.stop();
  const read = (name: string): Promise<string> => readFile(join(statistics(), 'vif1.0/statistics', name), 'utf8');
  expect([await read('rx_packets'), await read('rx_bytes'), await read('tx_packets')]).toEqual(['2\n', '121\n', '0\n']);
  netback = await start();
});
