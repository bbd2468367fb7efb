import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { domid, Errno } from '@xenhost/base';
import fc from 'fast-check';
import type { MemoryOp } from './port.ts';
import { toWireU64 } from './protocol/convert.ts';
import { encodeFrame } from './protocol/frames.ts';
import { RequestCodec } from './protocol/schema.ts';
import { connectPrivcmd } from './remote.ts';
import { servePrivcmd } from './serve.ts';
import type { PrivcmdLimits, PrivcmdServer, PrivcmdServerEvent } from './server.ts';
import { FakeBackend } from './testing/fake.ts';

const limits: Partial<PrivcmdLimits> = {
  maxConnections: 3,
  maxPayloadBytes: 64 * 1024,
  maxSendBacklogBytes: 128 * 1024,
  maxBoundPorts: 2,
  maxMemoryOps: 16,
};

let backend: FakeBackend;
let server: PrivcmdServer;
let dir: string;
let log: PrivcmdServerEvent[];

beforeEach(async () => {
  backend = new FakeBackend();
  log = [];
  dir = mkdtempSync(join(tmpdir(), 'xh-'));
  server = await servePrivcmd({ path: join(dir, 'p.sock'), limits, log: (event) => log.push(event) }, backend);
});
afterEach(async () => {
  await server.close();
  rmSync(dir, { recursive: true });
});

const rawConnect = (): Promise<Socket> =>
  new Promise((resolve) => {
    const socket = connect(server.path, () => {
      resolve(socket);
    });
    socket.on('error', () => undefined);
  });

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.resume();
    socket.once('close', () => {
      resolve();
    });
  });

const settle = (ms = 20): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('a privcmd server', () => {
  test('64-bit arguments and results pass unchanged', async () => {
    backend.handlers.set(50, ({ args }) => args.reduce((a, b) => a ^ b, 0n));
    const port = await connectPrivcmd(server.path);
    const max = (1n << 64n) - 1n;
    expect(await port.hypercall({ op: 50, args: [max, 1n << 40n] })).toBe(BigInt.asIntN(64, max ^ (1n << 40n)));
    expect(backend.calls[0]?.args.slice(0, 2)).toEqual([max, 1n << 40n]);
    await port.close();
  });

  test('a continuation is repeated with its arguments, and others are served in between', async () => {
    backend.handlers.set(50, ({ args }) => {
      args[0] = (args[0] ?? 0n) + 1n;
      return args[0] === 200n ? 7 : 'continue';
    });
    const [a, b] = [await connectPrivcmd(server.path), await connectPrivcmd(server.path)];
    const order: string[] = [];
    await Promise.all([
      a.hypercall({ op: 50, args: [0n] }).then((value) => order.push(`long ${value}`)),
      b.hypercall({ op: 17, args: [0n] }).then(() => order.push('short')),
    ]);
    expect(order).toEqual(['short', 'long 7']);
    await a.close();
    await b.close();
  });

  test('a backend that throws costs its caller EIO, nobody else anything', async () => {
    backend.handlers.set(50, () => {
      throw new Error('bug');
    });
    const port = await connectPrivcmd(server.path);
    expect(await port.hypercall({ op: 50, args: [] })).toBe(BigInt(-Errno.EIO));
    expect(await port.hypercall({ op: 17, args: [0n] })).toBeGreaterThan(0n);
    expect(log).toMatchObject([{ kind: 'backendError', request: 'hypercall' }]);
    await port.close();
  });

  test.each([
    ['a payload shorter than said', { id: 1, memory: columns([1, 1, 1, 0, 5]) }, 3],
    ['a payload nobody asked for', { id: 1, notify: { port: 1 } }, 3],
    ['columns of different lengths', { id: 1, memory: { ...columns([0, 1, 1, 0, 5]), offset: [] } }, 0],
    ['too many steps', { id: 1, memory: columns(...Array.from({ length: 17 }, () => [0, 1, 1, 0, 5])) }, 0],
    [
      'an answer over the limit',
      { id: 1, memory: columns(...Array.from({ length: 16 }, () => [0, 1, 1, 0, 5000])) },
      0,
    ],
    ['a push without its rest', { id: 1, memory: columns([6, 1, 1, 0, 0]) }, 0],
    ['a copy with half a target', { id: 1, memory: { ...columns([8, 1, 1, 0, 4]), more: [0, 1] } }, 0],
    ['a rest that no step needs', { id: 1, memory: { ...columns([0, 1, 1, 0, 4]), more: [1] } }, 0],
    ['event reads that write', { id: 1, eventReads: { port: 1, memory: columns([1, 1, 1, 0, 0]) } }, 0],
    ['an unknown step', { id: 1, memory: columns([9, 0, 0, 0, 0]) }, 0],
    ['a segment at 0', { id: 1, hypercall: { op: 17, args: [], arena: [segment(0n, 4)] } }, 0],
    [
      'too many segments',
      {
        id: 1,
        hypercall: { op: 17, args: [], arena: Array.from({ length: 257 }, (_, i) => segment(BigInt(i + 1), 1)) },
      },
      0,
    ],
    [
      'too many arguments',
      { id: 1, hypercall: { op: 17, args: Array.from({ length: 7 }, () => toWireU64(1n)), arena: [] } },
      0,
    ],
    ['nothing at all', { id: 1 }, 0],
  ])('%s is answered with an error and the connection goes on', async (_, request, payload) => {
    const socket = await rawConnect();
    let received = 0;
    socket.on('data', () => received++);
    for (const part of encodeFrame(RequestCodec.encode(request), [new Uint8Array(payload)])) socket.write(part);
    for (let i = 0; i < 500 && received === 0; i++) await settle(1);
    expect([received, socket.destroyed, backend.calls, log]).toEqual([1, false, [], []]);
    socket.destroy();
  });

  test('bytes that are no frames end the connection, not the server', async () => {
    const socket = await rawConnect();
    socket.write(new Uint8Array(64).fill(0xff));
    await closed(socket);
    expect(log).toMatchObject([{ kind: 'protocolError' }]);
    const port = await connectPrivcmd(server.path);
    expect(await port.hypercall({ op: 17, args: [0n] })).toBeGreaterThan(0n);
    await port.close();
  });

  test('headers of any bytes never reach a bug', async () => {
    const port = await connectPrivcmd(server.path);
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        fc.uint8Array({ maxLength: 20 }),
        async (header, payload) => {
          const socket = await rawConnect();
          for (const part of encodeFrame(header, [payload])) socket.write(part);
          socket.end();
          await closed(socket);
          expect(log.filter((event) => event.kind === 'backendError')).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
    expect(await port.hypercall({ op: 17, args: [0n] })).toBeGreaterThan(0n);
    await port.close();
  });

  test('a client that asks and does not read stops being served, and goes on when it reads', async () => {
    const guest = backend.addGuest(domid(1));
    guest.frames.set(1, new Uint8Array(4096));
    const socket = await rawConnect();
    socket.pause();
    const request = RequestCodec.encode({
      id: 1,
      memory: columns(...Array.from({ length: 16 }, () => [0, 1, 1, 0, 4096])),
    });
    const answer = 16 * 4096;
    const requests = 200;
    let served = 0;
    const real = backend.memory.bind(backend);
    backend.memory = (connection, ops) => {
      served++;
      return real(connection, ops);
    };
    for (let i = 0; i < requests; i++) for (const part of encodeFrame(request)) socket.write(part);
    await settle(100);
    expect(served).toBeLessThan(requests / 2);
    let received = 0;
    socket.on('data', (chunk) => {
      received += chunk.length;
    });
    socket.resume();
    for (let i = 0; i < 2000 && received < requests * answer; i++) await settle(1);
    expect(served).toBe(requests);
    socket.destroy();
  });

  test('events of a port that nobody reads are coalesced', async () => {
    backend.addGuest(domid(1));
    const port = await connectPrivcmd(server.path);
    const events: number[] = [];
    port.onEvent((p) => events.push(p));
    const offered = backend.guestOffer(domid(1));
    await port.bindInterdomain(domid(1), offered);
    await settle();
    events.length = 0;
    for (let i = 0; i < 1000; i++) backend.guestSend(domid(1), offered);
    await settle();
    expect(events.length).toBe(1);
    await port.close();
  });

  test('bound ports and connections have limits', async () => {
    backend.addGuest(domid(1));
    const port = await connectPrivcmd(server.path);
    await port.bindUnbound(domid(1));
    await port.bindUnbound(domid(1));
    await expect(port.bindUnbound(domid(1))).rejects.toMatchObject({ code: 'ENOSPC' });
    await rawConnect();
    await rawConnect();
    await closed(await rawConnect());
    expect(log).toMatchObject([{ kind: 'refused' }]);
    expect(server.connections).toBe(3);
    await port.close();
  });

  test('a broken link rejects what waits and tells why', async () => {
    const port = await connectPrivcmd(server.path);
    backend.handlers.set(50, () => 'continue');
    const told: (Error | undefined)[] = [];
    port.onClose((error) => told.push(error));
    const waiting = port.hypercall({ op: 50, args: [] });
    waiting.catch(() => undefined);
    await settle();
    await server.close();
    await expect(waiting).rejects.toMatchObject({ code: 'ENOTCONN' });
    expect(told).toMatchObject([{ code: 'ENOTCONN' }]);
    server = await servePrivcmd({ path: join(dir, 'p.sock') }, new FakeBackend());
  });

  test('a long batch is split by the client to fit', async () => {
    const guest = backend.addGuest(domid(1));
    guest.frames.set(1, new Uint8Array(4096).fill(3));
    const port = await connectPrivcmd(server.path, { limits });
    const op: MemoryOp = { kind: 'read', page: { space: 'foreign', domid: domid(1), gfn: 1 }, offset: 0, length: 4096 };
    const results = await port.memory(Array.from({ length: 50 }, () => op));
    expect(results.every(({ status, data }) => status === 0 && data?.[4095] === 3)).toBe(true);
    await port.close();
  });

  test('nobody listens: ECONNREFUSED at once, or after waiting', async () => {
    const path = join(dir, 'none.sock');
    await expect(connectPrivcmd(path)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    const waiting = connectPrivcmd(path, { waitMs: 5000 });
    const late = await servePrivcmd({ path }, new FakeBackend());
    await (await waiting).close();
    await late.close();
  });
});

function columns(...ops: number[][]) {
  const column = (i: number): number[] => ops.map((op) => op[i] ?? 0);
  return { kind: column(0), domid: column(1), frame: column(2), offset: column(3), length: column(4), more: [] };
}

function segment(address: bigint, length: number) {
  return { address: toWireU64(address), length, stored: false, output: true };
}
