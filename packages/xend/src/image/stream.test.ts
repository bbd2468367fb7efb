/** Bytes and lines off a socket, and pages that are put aside. */
import { mkdtempSync, rmSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SocketReader, StreamSource } from './stream.ts';

let folder = '';
let server: Server;
let sender: Socket;
let receiver: Socket;
let reader: SocketReader;
let spool: FileHandle;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'xh-'));
  spool = await open(join(folder, 'spool'), 'wx+');
  receiver = await new Promise<Socket>((resolve) => {
    server = createServer({ allowHalfOpen: true }, resolve).listen(0, '127.0.0.1', () => {
      sender = connect((server.address() as AddressInfo).port, '127.0.0.1');
      sender.on('error', () => undefined);
    });
  });
  receiver.on('error', () => undefined);
  reader = new SocketReader(receiver);
});

afterEach(async () => {
  sender.destroy();
  receiver.destroy();
  server.close();
  await spool.close();
  rmSync(folder, { recursive: true });
});

test('lines and bytes come as they are asked for, however they were sent', async () => {
  for (const part of ['on', 'e\ntw', 'o\nabc', 'def\n\nrest']) {
    sender.write(part);
    await new Promise((resolve) => setImmediate(resolve));
  }
  sender.end();
  expect([await reader.line(10), await reader.line(10)]).toEqual(['one', 'two']);
  expect((await reader.bytes(6)).toString()).toBe('abcdef');
  expect([await reader.line(10), await reader.line(10), await reader.line(10), await reader.line(10)]).toEqual([
    '',
    '',
    'rest',
    undefined,
  ]);
  await expect(reader.bytes(1)).rejects.toThrow('the connection ended too soon');
});

test('a line has an end, and so has what is read and forgotten', async () => {
  sender.write('x'.repeat(1 << 16));
  await expect(reader.line(100)).rejects.toThrow('a line without end');
  sender.resetAndDestroy();
  await reader.discard(Number.MAX_SAFE_INTEGER);
  await expect(reader.line(100)).rejects.toMatchObject({ code: 'ECONNRESET' });
});

test('what is not asked for stays with the sender', async () => {
  const bytes = 64 << 20;
  sender.write(Buffer.alloc(bytes));
  await reader.bytes(1);
  for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(receiver.bytesRead).toBeLessThan(bytes / 4);
});

test('pages are put aside up to the limit, and found again', async () => {
  const source = new StreamSource(reader, spool);
  source.limit = 8192;
  sender.write(Buffer.concat([Buffer.alloc(4096, 1), Buffer.from('ab'), Buffer.alloc(4096, 2), Buffer.alloc(4096, 3)]));
  const first = await source.pagesLater(4096);
  expect((await source.bytes(2)).toString()).toBe('ab');
  const second = await source.pagesLater(4096);
  expect(await source.pagesAt(second, 4096)).toEqual(Buffer.alloc(4096, 2));
  expect(await source.pagesAt(first, 4096)).toEqual(Buffer.alloc(4096, 1));
  await expect(source.pagesLater(1)).rejects.toThrow('more memory than');
  await expect(source.pagesAt(8192, 1)).rejects.toThrow('are gone');
});
