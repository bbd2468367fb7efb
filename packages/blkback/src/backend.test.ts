/** Devices as xend, frontends and a restart of the daemon see them: a real xenstored, a made-up hypervisor, real image files. */
import { readFileSync, readdirSync, truncateSync, writeFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { localPrivcmd } from '@xenhost/privcmd';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { FakeBackend } from '@xenhost/privcmd/testing';
import { BLKIF_OP, BLKIF_RSP, XenbusState } from '@xenhost/xen-abi';
import { waitForNode, waitForState } from '@xenhost/xenstore-client';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import { startBlkback } from './daemon.ts';
import type { Blkback } from './daemon.ts';
import { FakeFrontend } from './testing/fake-frontend.ts';
import { until } from './testing/ring-scene.ts';
import { startStore } from './testing/store.ts';
import type { TestStore } from './testing/store.ts';

const DEVICE = 51712;
const { Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState;

let store: TestStore;
let client: XenstoreClient;
let hypervisor: FakeBackend;
let daemon: Blkback | undefined;
let daemonStore: XenstoreClient;
let open: () => PrivcmdPort;
let nextDomid = 1;

beforeAll(async () => {
  store = await startStore();
  client = await store.connect();
  hypervisor = new FakeBackend();
  const hub = localPrivcmd({}, hypervisor);
  open = () => hub.open();
  await start();
});
afterAll(async () => {
  await daemon?.stop();
  await daemonStore.close();
  await client.close();
  await store.stop();
});

async function start(): Promise<void> {
  daemonStore = await store.connect();
  daemon = await startBlkback(
    { statisticsRoot: join(store.directory, 'sys'), metricsPath: join(store.directory, 'm'), persistentGrants: false },
    { privcmd: open(), xenstore: daemonStore, log: createLogger('blkback', { level: 'silent' }) },
  );
}

function image(name: string, bytes = 1 << 20): string {
  const path = join(store.directory, name);
  writeFileSync(path, '');
  truncateSync(path, bytes);
  return path;
}

interface DiskOptions {
  readonly params: string;
  readonly type?: string;
  readonly mode?: string;
  readonly deviceClass?: string;
  readonly deviceType?: string;
}

/** What xend writes for a disk of a new domain, and the domain's frontend. */
class Disk {
  readonly domid = nextDomid++;
  readonly back: string;
  readonly front: string;
  frontend: FakeFrontend;

  constructor({ deviceClass = 'vbd' }: Pick<DiskOptions, 'deviceClass'>) {
    this.back = `/local/domain/0/backend/${deviceClass}/${this.domid}/${DEVICE}`;
    this.front = `/local/domain/${this.domid}/device/vbd/${DEVICE}`;
    this.frontend = new FakeFrontend(hypervisor, this.domid);
  }

  static async make(options: DiskOptions): Promise<Disk> {
    const disk = new Disk(options);
    await disk.write(options);
    return disk;
  }

  async write({ params, type = 'file', mode = 'w', deviceType = 'disk' }: DiskOptions): Promise<void> {
    await client.transaction(async (t) => {
      const back = { type, params, mode, frontend: this.front, 'frontend-id': this.domid, state: 1, online: 1 };
      const front = { 'device-type': deviceType, backend: this.back, 'backend-id': 0, state: 1 };
      for (const [key, value] of Object.entries(back)) await t.write(`${this.back}/${key}`, value);
      for (const [key, value] of Object.entries(front)) await t.write(`${this.front}/${key}`, value);
      await t.write(`/local/domain/${this.domid}/vm`, `/vm/machine-${this.domid}`);
    });
  }

  read(key: string): Promise<string | undefined> {
    return client.tryRead(`${this.back}/${key}`);
  }

  backendIs(state: (typeof XenbusState)[keyof typeof XenbusState]): Promise<unknown> {
    return waitForState(client, `${this.back}/state`, [state], { timeoutMs: 20_000 });
  }

  is(key: string, value: string | undefined): Promise<unknown> {
    const wanted = (found: string | undefined) => (found === value ? true : undefined);
    return waitForNode(client, `${this.back}/${key}`, wanted, { timeoutMs: 20_000 });
  }

  set(key: string, value: string | number): Promise<void> {
    return client.write(`${this.front}/${key}`, value);
  }

  /** What blkfront writes when the backend waits, or Mini-OS at once. */
  async announce(state: number = Initialised, more: Readonly<Record<string, string | number>> = {}): Promise<void> {
    const { ringRefs, port, width } = this.frontend;
    const refs = ringRefs.length === 1 ? { 'ring-ref': ringRefs[0] ?? 0 } : Object.fromEntries(ringRefs.map((gref, i) => [`ring-ref${i}`, gref])); // prettier-ignore
    const order = ringRefs.length === 1 ? {} : { 'ring-page-order': Math.log2(ringRefs.length) };
    const nodes = { ...refs, ...order, 'event-channel': port, protocol: `x86_${width}-abi`, ...more, state };
    await client.transaction(async (t) => {
      for (const [key, value] of Object.entries(nodes)) await t.write(`${this.front}/${key}`, value);
    });
  }

  async connect(): Promise<void> {
    await this.backendIs(InitWait);
    await this.announce();
    await this.backendIs(Connected);
    await this.set('state', Connected);
  }

  /** Writes a page with one request, or reads it. */
  async ask(operation: number, page: number, value = 0): Promise<{ readonly status: number; readonly value: number }> {
    const { gref, bytes } = this.frontend.page(new Uint8Array(4096).fill(value));
    const segments = [{ gref, first: 0, last: 7 }];
    this.frontend.send({ operation, id: 1n, sector: BigInt(page * 8), segments });
    let status: number | undefined;
    await until(() => (status = this.frontend.responses()[0]?.status) !== undefined);
    return { status: status ?? 0, value: bytes[100] ?? 0 };
  }

  async remove(): Promise<void> {
    await client.transaction(async (t) => {
      await t.rm(`/local/domain/0/backend/${this.back.split('/')[5] ?? ''}/${this.domid}`);
      await t.rm(`/local/domain/${this.domid}`);
    });
  }
}

const WRITTEN = { status: BLKIF_RSP.OKAY, value: 7 };
const serves = async (disk: Disk): Promise<void> => {
  expect(await disk.ask(BLKIF_OP.WRITE, 3, 7)).toMatchObject({ status: BLKIF_RSP.OKAY });
  expect(await disk.ask(BLKIF_OP.READ, 3)).toEqual(WRITTEN);
};
const gone = (disk: Disk): Promise<void> =>
  until(() => !daemon?.backend.devices.some(({ options }) => options.path === disk.back));

test('Linux: the backend waits with its features, the frontend follows, both connect; data is in the image', async () => {
  const path = image('linux');
  const disk = await Disk.make({ params: path });
  await disk.is('hotplug-status', 'connected');
  await disk.backendIs(InitWait);
  const features = Object.fromEntries(
    await Promise.all((await client.directory(disk.back)).map(async (key) => [key, await disk.read(key)] as const)),
  );
  expect(features).toMatchObject({
    ...{ 'feature-max-indirect-segments': '256', 'feature-flush-cache': '1', 'feature-barrier': '1' },
    ...{ 'max-ring-page-order': '4', 'multi-queue-max-queues': '4', 'feature-persistent': '0' },
    ...{ 'feature-discard': '1', 'discard-secure': '0', sectors: '2048', 'sector-size': '512', info: '0', mode: 'w' },
    ...{ 'physical-sector-size': '4096', 'physical-device-path': path },
  });
  await disk.connect();
  await serves(disk);
  expect(readFileSync(path)[3 * 4096]).toBe(7);
  await disk.remove();
  await gone(disk);
});

test.each([
  ['Mini-OS: connected at once, before the backend looked', Connected],
  ['a frontend that waits for nothing', Initialised],
])('%s', async (_, state) => {
  const disk = new Disk({});
  await disk.announce(state);
  const params = image('early');
  await client.transaction(async (t) => {
    const back = { type: 'file', params, mode: 'w', frontend: disk.front, state: 1, online: 1 };
    for (const [key, value] of Object.entries(back)) await t.write(`${disk.back}/${key}`, value);
  });
  await disk.backendIs(Connected);
  await serves(disk);
  await disk.remove();
  await gone(disk);
});

test('a ring of four pages and a 32-bit layout', async () => {
  const disk = await Disk.make({ params: image('pages') });
  disk.frontend = new FakeFrontend(hypervisor, disk.domid, { pages: 4, width: 32 });
  await disk.connect();
  await serves(disk);
  await disk.remove();
  await gone(disk);
});

test('two queues', async () => {
  const disk = await Disk.make({ params: image('queues') });
  await disk.backendIs(InitWait);
  const second = new FakeFrontend(hypervisor, disk.domid);
  const queue = (n: number, { ringRefs, port }: FakeFrontend) => ({
    ...{ [`queue-${n}/ring-ref`]: ringRefs[0] ?? 0, [`queue-${n}/event-channel`]: port },
  });
  for (const [key, value] of Object.entries({ ...queue(0, disk.frontend), ...queue(1, second) })) {
    await disk.set(key, value);
  }
  await disk.set('multi-queue-num-queues', 2);
  await disk.set('state', Initialised);
  await disk.backendIs(Connected);
  await serves(disk);
  disk.frontend = second;
  await serves(disk);
  await disk.remove();
  await gone(disk);
});

test('block-detach: the frontend closes, the backend lets go and says so', async () => {
  const path = image('detach');
  const disk = await Disk.make({ params: path });
  await disk.connect();
  await client.write(`${disk.back}/online`, 0);
  await client.write(`${disk.back}/state`, Closing);
  // What is still to be done is done before the frontend closes.
  await serves(disk);
  await disk.set('state', Closing);
  await disk.set('state', Closed);
  await disk.backendIs(Closed);
  await disk.is('hotplug-status', undefined);
  const other = await Disk.make({ params: path });
  await other.is('hotplug-status', 'connected');
  await disk.remove();
  await other.remove();
  await gone(other);
});

test('a device that no frontend ever took up, and one whose domain is gone, close at once', async () => {
  const unused = await Disk.make({ params: image('unused') });
  await unused.backendIs(InitWait);
  await client.write(`${unused.back}/online`, 0);
  await client.write(`${unused.back}/state`, Closing);
  await unused.backendIs(Closed);
  const dead = await Disk.make({ params: image('dead') });
  await dead.connect();
  await client.write(`${dead.back}/online`, 0);
  await client.write(`${dead.back}/state`, Closing);
  await client.rm(`/local/domain/${dead.domid}`);
  await dead.backendIs(Closed);
  expect(await dead.read('hotplug-status')).toBeUndefined();
  await client.rm(`/local/domain/0/backend/vbd/${dead.domid}`);
  await unused.remove();
  await gone(unused);
});

test('a frontend that closes and comes again (kexec) gets another connection', async () => {
  const disk = await Disk.make({ params: image('kexec') });
  await disk.connect();
  await serves(disk);
  await disk.set('state', Closing);
  await disk.backendIs(Closing);
  await disk.set('state', Closed);
  await disk.backendIs(Closed);
  await disk.set('state', Initialising);
  disk.frontend = new FakeFrontend(hypervisor, disk.domid, { position: 5 });
  await disk.connect();
  await serves(disk);
  // And one that says nothing and has another ring all at once.
  disk.frontend = new FakeFrontend(hypervisor, disk.domid);
  await disk.announce(Initialised);
  await until(() => disk.frontend.notified());
  await serves(disk);
  await disk.remove();
  await gone(disk);
});

test('what is refused says why, and is tried again when it has changed', async () => {
  const path = image('shared');
  const first = await Disk.make({ params: path });
  await first.is('hotplug-status', 'connected');
  const second = await Disk.make({ params: path });
  await second.is('hotplug-status', 'busy');
  expect(await second.read('hotplug-error')).toBe(
    `File ${path} is mounted in a guest domain,\nand so cannot be mounted now.`,
  );
  expect(await second.read('state')).toBe('1');
  const absent = await Disk.make({ params: `${path}.none` });
  await absent.is('hotplug-status', 'error');
  expect(await absent.read('hotplug-error')).toBe(`${path}.none does not exist.`);
  await client.write(`${absent.back}/online`, 0);
  await client.write(`${absent.back}/state`, Closing);
  await absent.backendIs(Closed);
  // The same number again, for another file, while the daemon may not have seen the first go.
  await client.rm(absent.back);
  await absent.write({ params: image('there') });
  await absent.is('hotplug-status', 'connected');
  for (const disk of [first, second, absent]) await disk.remove();
  await gone(absent);
});

test.each([
  ['a ring that is not granted', { 'ring-ref': 4000 }, /^mapping ring-ref 4000$/],
  ['a channel that is not there', { 'event-channel': 0 }, /^reading event-channel$/],
  ['a protocol nobody knows', { protocol: 'ia64-abi' }, /^unknown fe protocol ia64-abi$/],
  ['too large a ring', { 'ring-page-order': 5 }, /^requested ring page order 5/],
  ['too many queues', { 'multi-queue-num-queues': 5 }, /^guest requested 5 queues/],
  ['numbers that are none', { 'ring-ref': '0x12' }, /^reading ring-ref$/],
])('%s is refused with a reason, and a frontend that comes again is served', async (_, wrong, reason) => {
  const disk = await Disk.make({ params: image('wrong') });
  await disk.backendIs(InitWait);
  await disk.announce(Initialised, wrong);
  await disk.backendIs(Closing);
  const error = `/local/domain/0/error/backend/vbd/${disk.domid}/${DEVICE}/error`;
  await waitForNode(client, error, (text) => text, { timeoutMs: 20_000 });
  expect(await client.tryRead(error)).toMatch(reason);
  await disk.set('state', Closed);
  await disk.backendIs(Closed);
  await disk.set('state', Initialising);
  await disk.backendIs(InitWait);
  for (const key of Object.keys(wrong)) await client.rm(`${disk.front}/${key}`);
  await disk.announce();
  await disk.backendIs(Connected);
  await serves(disk);
  await disk.remove();
  await gone(disk);
  expect(await client.exists(error)).toBe(false);
});

test('a frontend that breaks the protocol is closed with a reason; others go on', async () => {
  const [bad, good] = [await Disk.make({ params: image('bad') }), await Disk.make({ params: image('good') })];
  await bad.connect();
  await good.connect();
  bad.frontend.ring.setIndex('req_prod', 1000);
  bad.frontend.notify();
  await bad.backendIs(Closing);
  const error = `/local/domain/0/error/backend/vbd/${bad.domid}/${DEVICE}/error`;
  expect(await waitForNode(client, error, (text) => text, { timeoutMs: 20_000 })).toBe(
    'frontend broke the protocol: its producer index went from 0 to 1000',
  );
  await serves(good);
  for (const disk of [bad, good]) await disk.remove();
  await gone(good);
});

test('cdrom: the medium is taken out and another put in, while the guest has it open', async () => {
  const [one, two] = [image('one.iso', 8192), image('two.iso', 4 << 20)];
  const disk = await Disk.make({ params: one, mode: 'r', deviceType: 'cdrom' });
  await disk.connect();
  expect([await disk.read('info'), await disk.read('sectors')]).toEqual(['7', '16']);
  expect(await disk.ask(BLKIF_OP.READ, 1)).toMatchObject({ status: BLKIF_RSP.OKAY });
  await client.write(`${disk.back}/params`, '');
  await disk.is('sectors', '0');
  expect(await disk.ask(BLKIF_OP.READ, 1)).toMatchObject({ status: BLKIF_RSP.ERROR });
  await client.write(`${disk.back}/params`, `${two}.none`);
  await disk.is('hotplug-error', `${two}.none does not exist.`);
  await client.write(`${disk.back}/params`, two);
  await disk.is('sectors', '8192');
  await disk.is('hotplug-error', undefined);
  expect(await disk.ask(BLKIF_OP.READ, 1000)).toMatchObject({ status: BLKIF_RSP.OKAY });
  expect(await disk.ask(BLKIF_OP.WRITE, 1)).toMatchObject({ status: BLKIF_RSP.ERROR });
  await disk.remove();
  await gone(disk);
});

test('an empty drive is connected too', async () => {
  const disk = await Disk.make({ params: '', type: '', mode: 'r', deviceType: 'cdrom' });
  await disk.connect();
  expect(await disk.read('sectors')).toBe('0');
  await disk.remove();
  await gone(disk);
});

test('a file that grows is a disk that grows', async () => {
  const path = image('grows');
  const disk = await Disk.make({ params: path });
  await disk.connect();
  truncateSync(path, 4 << 20);
  await disk.is('sectors', '8192');
  expect(await disk.ask(BLKIF_OP.WRITE, 1000)).toMatchObject({ status: BLKIF_RSP.OKAY });
  await disk.remove();
  await gone(disk);
});

test.each(['tap', 'tap2'])('a disk of class %s', async (deviceClass) => {
  const disk = await Disk.make({ deviceClass, type: deviceClass, params: `aio:${image('tapped')}` });
  await disk.connect();
  await serves(disk);
  await disk.remove();
  await gone(disk);
});

test('a restarted daemon serves on, from where the ring stands; xenstore stays as it was', async () => {
  const disk = await Disk.make({ params: image('restart') });
  await disk.connect();
  await serves(disk);
  const states: string[] = [];
  const watching = new AbortController();
  const watch = client.watch(`${disk.back}/state`, { signal: watching.signal });
  const followed = (async () => {
    for await (const { path } of watch) states.push((await client.tryRead(path)) ?? '');
  })();
  await daemon?.stop();
  await daemonStore.close();
  disk.frontend.notified();
  const answered = disk.ask(BLKIF_OP.READ, 3);
  await start();
  expect(await answered).toEqual(WRITTEN);
  await serves(disk);
  watching.abort();
  await followed;
  expect(new Set(states)).toEqual(new Set(['4']));
  await disk.remove();
  await gone(disk);
});

test('statistics stand in files while the device is there', async () => {
  const disk = await Disk.make({ params: image('counted') });
  await disk.connect();
  await serves(disk);
  const folder = join(store.directory, 'sys', `vbd-${disk.domid}-${DEVICE}`, 'statistics');
  const number = (key: string) => (existsSync(join(folder, key)) ? readFileSync(join(folder, key), 'utf8') : '');
  await until(() => number('wr_req') === '1\n' && number('wr_sect') === '8\n');
  expect(
    readdirSync(folder)
      .filter((name) => !name.endsWith('.new'))
      .sort(),
  ).toEqual(
    ['ds_req', 'f_req', 'oo_req', 'rd_req', 'rd_sect', 'wr_req', 'wr_sect'], // prettier-ignore
  );
  await disk.remove();
  await until(() => !existsSync(folder));
});
