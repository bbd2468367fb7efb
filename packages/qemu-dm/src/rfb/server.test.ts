import { connect, type Socket } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { RfbClient, RfbEncoding, type RfbClientOptions } from '@xenhost/testkit';
import fc from 'fast-check';
import { createWebSocketStream, WebSocket } from 'ws';
import { MAX_CLIENTS, MAX_QUEUED_BYTES } from '../limits.ts';
import { Screen } from '../screen.ts';
import { listenVnc, type VncAddress, type VncListener, type WebSocketPort } from './listen.ts';
import { RfbServer } from './server.ts';

const log = createLogger('rfb-test', { level: 'silent' });

let directory: string;
let screen: Screen;
let server: RfbServer;
let listener: VncListener;
let input: string[];
const sockets: Socket[] = [];

async function until(condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 4000; !condition();) {
    if (Date.now() > end) throw new Error(`never: ${condition.toString()}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

async function listen(password?: string, address?: VncAddress, webSocket?: WebSocketPort): Promise<void> {
  server = new RfbServer(
    { name: 'desk', password },
    {
      screen,
      log,
      input: {
        keycode: (keysym, scancode) => scancode ?? (keysym < 256 ? keysym : undefined),
        key: (keycode, pressed) => input.push(`${pressed ? '+' : '-'}${keycode}`),
        pointer: ({ x, y, buttons, wheel }) => input.push(`@${x},${y} ${buttons.map(Number).join('')} ${wheel}`),
      },
    },
  );
  listener = await listenVnc({ address: address ?? { kind: 'unix', path: join(directory, 's') }, webSocket }, server);
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xh-'));
  screen = new Screen({ width: 100, height: 40 });
  input = [];
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
  await listener.close();
  await rm(directory, { recursive: true });
});

async function open(): Promise<Socket> {
  const socket = connect(join(directory, 's'));
  socket.on('error', () => undefined);
  sockets.push(socket);
  await new Promise((done) => socket.once('connect', done));
  return socket;
}

const client = async (options: RfbClientOptions = {}): Promise<RfbClient> => RfbClient.connect(await open(), options);

/** Everything that a connection that sends these bytes gets until it ends. */
async function talk(...pieces: readonly (string | Uint8Array)[]): Promise<string> {
  const socket = await open();
  let answer = '';
  socket.on('data', (bytes) => (answer += bytes.toString('latin1')));
  for (const piece of pieces) socket.write(piece);
  await new Promise((done) => socket.once('close', done));
  return answer;
}

function draw(pixels: Uint32Array): void {
  const { width, height } = screen;
  for (let y = 0; y < height; y++) screen.storeRow(y, pixels.subarray(y * width, (y + 1) * width));
  screen.publish();
  screen.ready();
}

const picture = (colour: (x: number, y: number) => number): Uint32Array =>
  Uint32Array.from({ length: screen.width * screen.height }, (_, i) =>
    colour(i % screen.width, Math.floor(i / screen.width)),
  );

test.each(['003.003', '003.007', '003.008'] as const)('version %s, with a password and without', async (version) => {
  await listen();
  const open1 = await client({ version });
  expect([open1.name, open1.width, open1.height]).toEqual(['desk', 100, 40]);
  await listener.close();
  await listen('secret');
  const open2 = await client({ version, password: 'secret' });
  expect(open2.name).toBe('desk');
  await expect(client({ version, password: 'secreT' })).rejects.toThrow(
    version === '003.008' ? 'authentication failed' : 'refused',
  );
});

test('where a password is asked for and there is none, nobody gets in', async () => {
  await listen('');
  await expect(client({ password: '' })).rejects.toThrow('authentication failed');
});

test.each(['raw', 'hextile', 'zrle'] as const)('%s: any picture arrives as it is', async (name) => {
  await listen();
  const seen = await client({ encodings: [RfbEncoding[name]] });
  const colours = fc.oneof(fc.constant(1), fc.constant(2), fc.integer({ min: 3, max: 20 }), fc.constant(100_000));
  await fc.assert(
    fc.asyncProperty(colours, fc.integer({ min: 1, max: 40 }), fc.nat(), async (count, grain, seed) => {
      const pixels = picture((x, y) => {
        const cell = Math.floor(x / grain) * 7919 + Math.floor(y / grain) * 104_729 + seed;
        return ((cell % count) * 0x9e3779b1) & 0xffffff;
      });
      draw(pixels);
      await until(() => seen.pixels.join() === pixels.join());
    }),
    { numRuns: 30 },
  );
});

test.each<[string, string, (pixel: number) => number]>([
  ['16 bits', '10 10 00 01 001f 003f 001f 0b 05 00 000000', (p) => ((p >> 8) & 0xf800) | ((p >> 5) & 0x07e0) | ((p & 255) >> 3)],
  ['8 bits', '08 08 00 01 0007 0007 0003 05 02 00 000000', (p) => ((p >> 16) & 0xe0) | ((p >> 11) & 0x1c) | ((p & 255) >> 6)],
])('raw pixels of %s', async (_, format, expected) => {
  await listen();
  draw(picture(() => 0xff00ff));
  const socket = await open();
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk) => (bytes = Buffer.concat([bytes, chunk])));
  socket.write('RFB 003.003\n\x01');
  socket.write(Buffer.from(`00 000000 ${format}`.replaceAll(' ', ''), 'hex'));
  socket.write(Buffer.from('03000000000000010001', 'hex'));
  const size = format.startsWith('10') ? 2 : 1;
  await until(() => bytes.length === 12 + 4 + 24 + 4 + 4 + 12 + 64 * 16 * size);
  expect(bytes.readUIntLE(bytes.length - size, size)).toBe(expected(0xff00ff));
}); // prettier-ignore

test('clients of a colour map get one', async () => {
  await listen();
  const socket = await open();
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk) => (bytes = Buffer.concat([bytes, chunk])));
  socket.write('RFB 003.003\n\x01');
  socket.write(Buffer.from('00000000 08080000000000000000000000000000'.replaceAll(' ', ''), 'hex'));
  await until(() => bytes.length === 12 + 4 + 24 + 4 + 6 + 256 * 6);
  expect(bytes.subarray(-6).toString('hex')).toBe('ffffffffffff');
});

test('a client that wants the screen for itself ends the others', async () => {
  await listen();
  const first = await client();
  const second = await client();
  const third = await client({ shared: false });
  expect(await first.ended).toBeInstanceOf(Error);
  expect(await second.ended).toBeInstanceOf(Error);
  draw(picture((x) => x));
  await until(() => !third.isBlank);
  expect(server.nrClients).toBe(1);
});

test('keys and buttons that a client held are let go when it vanishes', async () => {
  await listen();
  const typing = await client();
  typing.key(65, true);
  typing.key(66, true);
  typing.key(0xffff, true);
  typing.key(66, false);
  typing.key(67, false);
  typing.pointer(3, 4, 4);
  await until(() => input.length === 4);
  typing.close();
  await until(() => input.length === 6);
  expect(input).toEqual(['+65', '+66', '-66', '@3,4 001 0', '-65', '@3,4 000 0']);
});

test('scancodes are confirmed and used', async () => {
  await listen();
  const socket = await open();
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk) => (bytes = Buffer.concat([bytes, chunk])));
  socket.write('RFB 003.003\n\x01');
  socket.write(
    Buffer.from('02000001fffffefe 03010000000000640028 ff000001000000610000001e'.replaceAll(' ', ''), 'hex'),
  );
  await until(() => input.length === 1 && bytes.includes(Buffer.from('fffffefe', 'hex')));
  expect(input).toEqual(['+30']);
});

describe('hostile clients', () => {
  test.each<[string, readonly (string | Uint8Array)[], RegExp]>([
    ['another protocol', ['GET / HTTP/1.1\r\n\r\n'], /^RFB 003\.008\n$/],
    ['version 2', ['RFB 002.002\n'], /^RFB 003\.008\n$/],
    ['a security type that was not offered', ['RFB 003.008\n', Uint8Array.of(2)], /security type 2 was not offered$/],
    ['an unknown message', ['RFB 003.003\n', Uint8Array.of(1, 99)], /desk$/],
    ['a pixel format that cannot be', ['RFB 003.003\n', Uint8Array.of(1, 0, 0, 0, 0, 24), Buffer.alloc(15)], /desk$/],
    ['a huge clipboard', ['RFB 003.003\n', Uint8Array.of(1, 6, 0, 0, 0, 255, 255, 255, 255)], /desk$/],
  ])('%s: it alone is ended', async (_, pieces, answer) => {
    await listen();
    const other = await client();
    expect(await talk(...pieces)).toMatch(answer);
    draw(picture((x) => x));
    await until(() => !other.isBlank);
  });

  test('whatever comes, the server lives', async () => {
    await listen();
    const other = await client();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }), async (pieces) => {
        const socket = await open();
        socket.write('RFB 003.003\n\x01');
        for (const piece of pieces) socket.write(piece);
        socket.end();
        await new Promise((done) => socket.resume().once('close', done));
      }),
      { numRuns: 100 },
    );
    draw(picture((x) => x));
    await until(() => !other.isBlank && server.nrClients === 1);
  });

  test('many connections that say nothing keep nobody out, and are few', async () => {
    await listen();
    const other = await client();
    await Promise.all(Array.from({ length: 100 }, () => open()));
    await until(() => server.nrClients === MAX_CLIENTS);
    const late = await client();
    draw(picture((x) => x));
    await until(() => !other.isBlank && !late.isBlank);
    expect(server.nrClients).toBeLessThanOrEqual(MAX_CLIENTS);
  });

  test('a client that asks and does not read costs one update', async () => {
    screen = new Screen({ width: 400, height: 300 });
    await listen();
    const other = await client();
    let queued = 0;
    const accept = server.accept.bind(server);
    server.accept = (stream, peer) => {
      accept(stream, peer);
      const write = stream.write.bind(stream) as (bytes: Uint8Array) => boolean;
      stream.write = ((bytes: Uint8Array) => {
        const result = write(bytes);
        queued = Math.max(queued, stream.writableLength);
        return result;
      }) as typeof stream.write;
    };
    const slow = await open();
    slow.pause();
    slow.write('RFB 003.003\n\x01');
    for (let i = 0; i < 4; i++) {
      slow.write(Buffer.from('0300000000000190012c', 'hex'));
      const pixels = new Uint32Array(400 * 300).fill(i + 1);
      draw(pixels);
      await until(() => other.pixels.at(-1) === pixels.at(-1));
    }
    expect(queued).toBeGreaterThan(0);
    expect(queued).toBeLessThan(400 * 300 * 4 + 2 * MAX_QUEUED_BYTES);
  });
});

describe('where it listens', () => {
  test('the first display that is free, and a WebSocket beside it', async () => {
    const address: VncAddress = { kind: 'tcp', host: '127.0.0.1', display: 4200, unused: true };
    await listen(undefined, address, 'display');
    const taken = listener;
    const first = taken.port ?? 0;
    expect(first).toBeGreaterThanOrEqual(5900 + 4200);
    expect(taken.webSocketPort).toBe(first - 200);
    await expect(
      listenVnc({ address: { ...address, display: first - 5900, unused: false }, webSocket: undefined }, server),
    ).rejects.toMatchObject({ code: 'EADDRINUSE' });
    const second = await listenVnc({ address, webSocket: undefined }, server);
    expect(second.port).toBeGreaterThan(first);
    await second.close();
    const socket = new WebSocket(`ws://127.0.0.1:${first - 200}/`, 'binary');
    const stream = createWebSocketStream(socket);
    const seen = await RfbClient.connect(stream, { encodings: [RfbEncoding.zrle] });
    draw(picture((x) => x));
    await until(() => !seen.isBlank);
    seen.close();
    const foreign = new WebSocket(`ws://127.0.0.1:${first - 200}/`, {
      headers: { origin: 'http://elsewhere.example' },
    });
    await new Promise((done) => foreign.once('error', done));
  });
});
