import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { domid as domidOf } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import { localPrivcmd } from '@xenhost/privcmd';
import type { LocalPrivcmd } from '@xenhost/privcmd';
import { FakeBackend } from '@xenhost/privcmd/testing';
import { RfbClient, RfbEncoding } from '@xenhost/testkit';
import { XENFB_OUT_RING, XENKBD_IN_RING } from '@xenhost/xen-abi';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startXenstored, type Xenstored } from '@xenhost/xenstored';
import type { DeviceModelOptions } from './command-line.ts';
import { startDeviceModel, type DeviceModel } from './device-model.ts';
import { REFRESH_MS } from './limits.ts';
import { FakeFrontend, type FakeFrontendOptions } from './testing/fake-frontend.ts';

const log = createLogger('qemu-dm-test', { level: 'silent' });
const DOMID = 3;

let directory: string;
let daemon: Xenstored;
let xenstore: XenstoreClient;
let backend: FakeBackend;
let opener: { open(): LocalPrivcmd };
let model: DeviceModel | undefined;
let gone: number;
const sockets: Socket[] = [];

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 4000; !(await condition());) {
    if (Date.now() > end) throw new Error(`never: ${condition.toString()}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  daemon = await startXenstored({ socketPath: join(directory, 's') }, { log });
  xenstore = await XenstoreClient.connect({ path: join(directory, 's') });
  backend = new FakeBackend();
  opener = localPrivcmd({}, backend);
  model = undefined;
  gone = 0;
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await model?.stop();
  await xenstore.close();
  await daemon.stop();
  await rm(directory, { recursive: true });
});

const guest = (options: Partial<FakeFrontendOptions> = {}): FakeFrontend =>
  new FakeFrontend({ domid: DOMID, width: 128, height: 64, ...options }, { backend, xenstore });

const path = (): string => join(directory, 'vnc');

async function start(options: Partial<DeviceModelOptions> = {}): Promise<DeviceModel> {
  model = await startDeviceModel(
    {
      domid: DOMID,
      name: 'g',
      videoramMiB: 4,
      keymap: 'en-us',
      vnc: { address: { kind: 'unix', path: path() }, password: false, webSocket: undefined },
      ...options,
    },
    { privcmd: opener.open(), xenstore, log, onDomainGone: () => gone++ },
  );
  return model;
}

async function view(encodings: number[] = [RfbEncoding.zrle, RfbEncoding.desktopSize]): Promise<RfbClient> {
  const socket = connect(path());
  sockets.push(socket);
  await new Promise((done) => socket.once('connect', done));
  return RfbClient.connect(socket, { encodings });
}

/** A pattern of colours as 32-bit pixels. */
function paint(front: FakeFrontend, seed: number): Uint32Array {
  const pixels = new Uint32Array(front.framebuffer.buffer, 0, front.options.width * front.options.height);
  for (const i of pixels.keys()) pixels[i] = ((i * 2654435761 + seed) >>> 8) & 0xffffff;
  return pixels.slice();
}

const connected = (front: FakeFrontend): Promise<void> =>
  until(async () => (await front.state('vfb')) === '4' && (await front.state('vkbd')) === '4');

test.each([64, 32] as const)('a %i-bit guest: handshake, picture, keys', async (bits) => {
  const front = guest({ bits });
  await front.prepare();
  await start();
  expect(await front.state('vkbd')).toBe('2');
  expect(await xenstore.tryRead(`${front.backendPath('vkbd')}/feature-abs-pointer`)).toBe('1');
  expect(await xenstore.tryRead(`${front.backendPath('vfb')}/feature-resize`)).toBe('1');
  expect(await xenstore.tryRead(`${front.backendPath('vfb')}/videoram`)).toBe('4');
  expect(await xenstore.tryRead(`/local/domain/0/device-model/${DOMID}/state`)).toBe('running');
  await front.initialise();
  await connected(front);
  expect(await xenstore.tryRead(`${front.backendPath('vfb')}/request-update`)).toBe('1');
  const picture = paint(front, 7);
  front.draw();
  const client = await view();
  expect([client.name, client.width, client.height]).toEqual(['Xen-g', 128, 64]);
  await until(() => client.pixels.join() === picture.join());
  expect(front.periods().at(-1)).toBe(REFRESH_MS);
  await client.type('aB\n');
  await until(() => (front.kbdPage[XENKBD_IN_RING.prod] ?? 0) === 8);
  expect(front.input()).toEqual(['+30', '-30', '+42', '+48', '-48', '-42', '+28', '-28']);
  client.pointer(10, 20, 1);
  client.pointer(5000, 6000, 8);
  await until(() => (front.kbdPage[XENKBD_IN_RING.prod] ?? 0) === 12);
  expect(front.input()).toEqual(['@10,20', '+272', '@127,63,-1', '-272']);
  client.close();
  await until(() => front.periods().at(-1) === 0);
});

test('what changes is sent, and only that', async () => {
  const front = guest({ width: 640, height: 320 });
  await front.appear();
  await start();
  await connected(front);
  paint(front, 1);
  front.draw();
  const client = await view([RfbEncoding.raw]);
  await until(() => !client.isBlank);
  await until(() => client.updates > 0);
  const before = client.bytes;
  const pixels = new Uint32Array(front.framebuffer.buffer);
  pixels[640 * 100 + 70] = 0x123456;
  front.draw(100, 1);
  await until(() => client.pixels[640 * 100 + 70] === 0x123456);
  expect(client.bytes - before).toBe(64 * 16 * 4);
});

test('a guest that does not tell what it draws is looked at', async () => {
  const front = guest({ tells: false });
  await front.appear();
  await start();
  await connected(front);
  expect(await xenstore.exists(`${front.backendPath('vfb')}/request-update`)).toBe(false);
  const client = await view();
  for (const seed of [1, 2]) {
    const picture = paint(front, seed);
    front.show();
    await until(() => client.pixels.join() === picture.join());
  }
});

test.each([
  [8, 0b11100011, 0xff00ff],
  [16, 0xf81f, 0xff00ff],
  [24, 0xaa112233, 0x112233],
])('pixels of %i bits', async (depth, pixel, expected) => {
  const front = guest({ depth });
  const view32 = new DataView(front.framebuffer.buffer);
  if (depth === 8) view32.setUint8(0, pixel);
  else if (depth === 16) view32.setUint16(0, pixel, true);
  else view32.setUint32(0, pixel, true);
  front.show();
  await front.appear();
  await start();
  const client = await view();
  await until(() => client.pixels[0] === expected);
  expect(client.pixels[1]).toBe(0);
});

test('the guest resizes: clients follow, or see what fits', async () => {
  const front = guest({ length: 128 * 64 * 4 });
  await front.appear();
  await start();
  await connected(front);
  const picture = paint(front, 3);
  front.draw();
  const follower = await view();
  const other = await view([RfbEncoding.raw]);
  await until(() => follower.pixels.join() === picture.join() && other.pixels.join() === picture.join());
  front.resize({ width: 64, height: 32, stride: 64 * 4, depth: 32, offset: 0 });
  await until(() => follower.width === 64 && follower.pixels.join() === picture.slice(0, 64 * 32).join());
  expect(follower.height).toBe(32);
  await until(() => other.pixels[63] === picture[63] && other.pixels[64] === 0 && other.pixels[128] === picture[64]);
  expect([other.width, other.height]).toEqual([128, 64]);
  // Sizes that do not fit into what it has change nothing.
  front.resize({ width: 64, height: 32, stride: 0, depth: 32, offset: 0 });
  front.resize({ width: -1, height: 32, stride: 256, depth: 32, offset: 0 });
  front.resize({ width: 8, height: 8, stride: 256, depth: 32, offset: 1 << 30 });
  front.resize({ width: 32, height: 16, stride: 128, depth: 32, offset: 4 });
  await until(() => follower.width === 32 && follower.pixels[0] === picture[1]);
});

test('before the guest has a framebuffer there is a black screen of the usual size', async () => {
  const front = guest();
  await front.prepare();
  await start();
  const client = await view();
  await until(() => client.updates > 0);
  expect([client.width, client.height, client.isBlank]).toEqual([800, 600, true]);
  const picture = paint(front, 9);
  front.show();
  await front.initialise();
  await until(() => client.width === 128 && client.pixels.join() === picture.join());
});

test('another process takes up where the last one stopped', async () => {
  const front = guest();
  await front.appear();
  await start();
  await connected(front);
  paint(front, 1);
  front.draw();
  const first = await view();
  await first.type('a');
  await until(() => front.input().length === 2);
  await model?.stop();
  const picture = paint(front, 2);
  front.draw();
  await start();
  const client = await view();
  await until(() => client.pixels.join() === picture.join());
  await client.type('b');
  await until(() => (front.kbdPage[XENKBD_IN_RING.prod] ?? 0) === 4);
  expect(front.input()).toEqual(['+48', '-48']);
});

test('the frontend closes and comes again', async () => {
  const front = guest();
  await front.appear();
  await start();
  await connected(front);
  await front.setState('vfb', 5);
  await until(async () => (await front.state('vfb')) === '6');
  await front.setState('vfb', 6);
  await front.setState('vfb', 1);
  await until(async () => (await front.state('vfb')) === '2');
  await front.setState('vfb', 3);
  await connected(front);
});

test('a frontend that comes back with another channel, as after a suspend, is followed', async () => {
  const front = guest();
  await front.appear();
  await start();
  await connected(front);
  const client = await view();
  const port = backend.guestOffer(domidOf(DOMID));
  await xenstore.write(`${front.path}/device/vfb/0/event-channel`, port);
  await front.setState('vfb', 3);
  await until(() => backend.guests.get(DOMID)?.ports.get(port) !== 0);
  expect(backend.guests.get(DOMID)?.ports.get(front.fbPort)).toBe(0);
  const picture = paint(front, 4);
  front.draw();
  backend.guestSend(domidOf(DOMID), port);
  await until(() => client.pixels.join() === picture.join());
});

test('the toolstack takes the device away', async () => {
  const front = guest();
  await front.appear();
  await start();
  await connected(front);
  await xenstore.transaction(async (t) => {
    await t.write(`${front.backendPath('vfb')}/online`, 0);
    await t.write(`${front.backendPath('vfb')}/state`, 5);
  });
  await until(async () => (await front.state('vfb')) === '6');
  await xenstore.rm(front.backendPath('vfb'));
  await xenstore.release(DOMID);
  await until(() => gone === 1);
  expect(await xenstore.exists(front.backendPath('vfb'))).toBe(false);
});

test('a domain that is not there is an error', async () => {
  await expect(start()).rejects.toThrow('there is no domain 3');
});

describe('hostile guests', () => {
  test.each([
    ['no page', { 'page-ref': 999 }],
    ['words for numbers', { 'page-ref': 'x', 'event-channel': '-1' }],
    ['a port that nobody offers', { 'event-channel': 77 }],
  ])('%s', async (_, nodes) => {
    const front = guest();
    await front.appear(nodes);
    await start();
    await until(async () => (await front.state('vfb')) === '6' && (await front.state('vkbd')) === '4');
    const client = await view();
    await until(() => client.updates > 0);
  });

  test.each<[string, (front: FakeFrontend) => void]>([
    ['no depth', (front) => (front.fbPage[32] = 7)],
    ['no length', (front) => { front.setIndex(front.fbPage, 28, 0); }],
    ['negative sizes', (front) => { front.setIndex(front.fbPage, 16, 0xffffffff); }],
    ['rows longer than all', (front) => { front.setIndex(front.fbPage, 24, 0xffffffff); }],
    ['directories elsewhere', (front) => { front.setEntry(front.fbPage, 40, 2 ** 40); }],
  ])('a framebuffer with %s', async (_, spoil) => {
    const front = guest();
    spoil(front);
    await front.appear();
    await start();
    await until(async () => (await front.state('vfb')) === '6');
  }); // prettier-ignore

  test('frames that are not its own are black, wild indices lose nothing', async () => {
    const front = guest();
    await front.appear();
    backend.guests.get(DOMID)?.frames.delete(1001);
    const picture = paint(front, 5);
    front.show();
    await start();
    await connected(front);
    const client = await view();
    await until(() => client.pixels[0] === picture[0]);
    expect(client.pixels[1024]).toBe(0);
    front.setIndex(front.fbPage, XENFB_OUT_RING.prod, 0x80000000);
    front.kick();
    await until(() => new DataView(front.fbPage.buffer).getUint32(XENFB_OUT_RING.cons, true) === 0x80000000);
    front.setIndex(front.kbdPage, XENKBD_IN_RING.cons, 0x12345678);
    await client.type('hello');
    front.setIndex(front.kbdPage, XENKBD_IN_RING.cons, 0);
    const pixels = new Uint32Array(front.framebuffer.buffer);
    pixels[0] = 0xabcdef;
    front.draw();
    await until(() => client.pixels[0] === 0xabcdef);
  });
});
