import { Duplex } from 'node:stream';
import { ProtocolError } from '../errors.ts';
import { HttpConnection } from './http.ts';

/** A server that answers each request with the next text, in pieces of `piece` bytes, and ends after the last where told. */
function scene(answers: readonly string[], { piece = 4096, end = false, max = 100 } = {}) {
  const dialled: Duplex[] = [];
  const received: string[] = [];
  let next = 0;
  const abort = new AbortController();
  const connection = new HttpConnection({ host: 'xend', maxBodyBytes: max, signal: abort.signal }, () => {
    const stream: Duplex = new Duplex({
      read: () => undefined,
      write: (bytes: Buffer, _encoding, done) => {
        received.push(bytes.toString('latin1'));
        const answer = Buffer.from(answers[next++] ?? '', 'latin1');
        for (let at = 0; at < answer.length; at += piece) stream.push(answer.subarray(at, at + piece));
        if (end) stream.push(null);
        done();
      },
    });
    dialled.push(stream);
    return stream;
  });
  return { connection, dialled, received, abort };
}

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';

describe('HTTP of xm', () => {
  it.each([
    ['a length', OK, true],
    ['fields of any case and spacing', 'HTTP/1.1 200 OK\r\ncontent-LENGTH:   5  \r\nX: y:z\r\n\r\nhello', true],
    ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n', true],
    [
      'fields behind chunks',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n',
      true,
    ],
    ['an answer after 100', `HTTP/1.1 100 Continue\r\n\r\n${OK}`, true],
    ['no reason', 'HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello', true],
    ['a server that closes', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello', false],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello', false],
    ['HTTP/1.0 that keeps', 'HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello', true],
  ])('reads %s, however it is cut', async (_name, answer, kept) => {
    for (const piece of [1, 2, 3, 7, 4096]) {
      const { connection, dialled, received } = scene([answer, answer], { piece });
      for (let call = 0; call < 2; call++) {
        expect(await connection.post('/RPC2', 'ü')).toMatchObject({ status: 200, body: 'hello' });
      }
      expect(dialled).toHaveLength(kept ? 1 : 2);
      expect(received[1]).toMatch(/^POST \/RPC2 HTTP\/1\.1\r\nHost: xend\r\n[^]*\r\nContent-Length: 2\r\n\r\n/);
    }
  });

  it('reads up to the end of the connection', async () => {
    const { connection } = scene(['HTTP/1.1 500 No way\r\n\r\nhello'], { end: true, piece: 1 });
    expect(await connection.post('/', '')).toEqual({ status: 500, reason: 'No way', body: 'hello' });
  });

  it.each([
    ['what is no status line', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['another protocol version', 'HTTP/2 200 OK\r\n\r\n'],
    ['a length past the bound', 'HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n'],
    ['a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'],
    ['chunks past the bound', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n${'x'.repeat(255)}`],
    ['a chunk without a size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
    ['an endless body', `HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(101)}`],
    ['an endless head', `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(70_000)}`],
  ])('refuses %s', async (_name, answer) => {
    const { connection, dialled } = scene([answer]);
    await expect(connection.post('/', '')).rejects.toThrow(ProtocolError);
    expect(dialled[0]?.destroyed).toBe(true);
  });

  it('a body at the bound is taken', async () => {
    const { connection } = scene([`HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n${'x'.repeat(100)}`]);
    expect((await connection.post('/', '')).body).toHaveLength(100);
  });

  it('an answer that is cut short is an error, and the next call opens another connection', async () => {
    const { connection, dialled } = scene([OK.slice(0, -1), OK], { end: true });
    await expect(connection.post('/', '')).rejects.toThrow('ended before the answer');
    expect((await connection.post('/', '')).body).toBe('hello');
    expect(dialled).toHaveLength(2);
  });

  it('a kept connection that has ended is not used again', async () => {
    const { connection, dialled } = scene([OK, OK]);
    await connection.post('/', '');
    dialled[0]?.destroy(new Error('reset'));
    await new Promise(setImmediate);
    await connection.post('/', '');
    expect(dialled).toHaveLength(2);
  });

  it('ends at once when it is interrupted', async () => {
    const { connection, dialled, abort } = scene([]);
    const call = connection.post('/', '');
    abort.abort();
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    expect(dialled[0]?.destroyed).toBe(true);
    await expect(connection.post('/', '')).rejects.toMatchObject({ name: 'AbortError' });
  });
});
