/** Servers over all transports: where they listen, whom they let in, and what they answer to what is no request. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { decodeResponse, encodeCall, XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { Xend, type ServerSpec } from '../index.ts';
import { MAX_REQUEST_BYTES } from '../limits.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../testing/tls-files.ts';
import { xendFixture, xmlrpcOn } from '../testing/xend-fixture.ts';

const host = xendFixture();
const local = { host: '127.0.0.1', port: 0 };
let xend: Xend | undefined;

afterEach(async () => {
  await xend?.stop();
  xend = undefined;
});

async function start(...servers: readonly ServerSpec[]): Promise<Xend> {
  xend = new Xend({ servers, stateDirectory: host.directory, pollMs: 0 }, host.ports());
  await xend.start();
  return xend;
}

interface Reply {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

function post(options: RequestOptions, body: string | undefined, tls = false): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const asking = (tls ? httpsRequest : httpRequest)(
      { method: 'POST', path: '/RPC2', agent: false, rejectUnauthorized: false, ...options },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('error', reject).on('end', () => {
          resolve({ status: response.statusCode, type: response.headers['content-type'], body: text });
        });
      },
    );
    asking.on('error', reject).end(body);
  });
}

const domains = encodeCall('xend.domains', [0]);

it('serves XML-RPC on a port, and on several with TLS', async () => {
  const keyFile = join(host.directory, 'k.pem');
  const certFile = join(host.directory, 'c.pem');
  writeFileSync(keyFile, TEST_KEY);
  writeFileSync(certFile, TEST_CERTIFICATE);
  const tls = { keyFile, certFile };
  const plain = await start({ service: 'xmlrpc', key: 'k', address: local });
  expect(decodeResponse((await post({ port: plain.portOf('xmlrpc') }, domains)).body)).toEqual(['Domain-0']);
  await plain.stop();
  const secure = await start({ service: 'xmlrpc', key: 'k', address: local, tls });
  const port = secure.portOf('xmlrpc');
  expect(decodeResponse((await post({ port }, domains, true)).body)).toEqual(['Domain-0']);
  await expect(post({ port }, domains)).rejects.toThrow();
});

it('says which key asks for a server that cannot be opened', async () => {
  const address = { path: '/dev/null/x' };
  await expect(start({ service: 'sxp', key: 'xend-unix-server', address })).rejects.toThrow('xend-unix-server: ');
  const tls = { keyFile: '/none/k', certFile: '/none/c' };
  await expect(start({ service: 'xmlrpc', key: 'k', address: local, tls })).rejects.toThrow(
    'cannot read the TLS key /none/k',
  );
});

it('serves what another configuration asks for, without ending what stays', async () => {
  const [a, b, c] = ['a', 'b', 'c'].map((name): ServerSpec => xmlrpcOn(join(host.directory, name, 's')));
  const at = ({ address }: ServerSpec): RequestOptions => ({ socketPath: (address as { path: string }).path });
  const running = await start(a!, b!);
  const kept = await new Promise<Socket>((resolve) => {
    const socket = connect(join(host.directory, 'a', 's'), () => {
      resolve(socket);
    });
  });
  const ends: string[] = [];
  kept.once('close', () => ends.push('kept'));
  await running.reload([a!, c!]);
  for (const spec of [a!, c!]) expect(decodeResponse((await post(at(spec), domains)).body)).toEqual(['Domain-0']);
  await expect(post(at(b!), domains)).rejects.toThrow();
  // One that cannot be opened: all is as before.
  await expect(running.reload([a!, { ...b!, address: { path: '/dev/null/x' } }])).rejects.toThrow(b!.key);
  for (const spec of [a!, c!]) expect(decodeResponse((await post(at(spec), domains)).body)).toEqual(['Domain-0']);
  expect(ends).toEqual([]);
  kept.destroy();
});

it('leaves no socket open when one of several servers cannot be opened', async () => {
  const folder = join(host.directory, 'f');
  mkdirSync(folder);
  writeFileSync(join(folder, 'taken'), '');
  const bad: ServerSpec = { service: 'sxp', key: 'k', address: { path: join(folder, 'taken') } };
  await expect(start(xmlrpcOn(join(folder, 'good')), bad)).rejects.toThrow('is not a socket');
  expect(readdirSync(folder)).toEqual(['taken']);
});

it("reads the lines of Xen 4.4's ssh transport on a Unix socket, which have no carriage returns", async () => {
  const path = join(host.directory, 'a', 's');
  await start(xmlrpcOn(path));
  const head = `POST /RPC2 HTTP/1.1\nUser-Agent: Xen\nHost: x\nContent-Length: ${domains.length}\n\n`;
  const said = await new Promise<string>((resolve, reject) => {
    const socket = connect(path, () => socket.write(`${head}${domains}${head}${domains}`));
    let text = '';
    socket.on('error', reject).on('data', (data: Buffer) => {
      text += data.toString();
      if (text.split('</methodResponse>').length < 3) return;
      socket.destroy();
      resolve(text);
    });
    socket.on('close', () => {
      resolve(text);
    });
  });
  expect(said.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
  expect(said.match(/Domain-0/g)).toHaveLength(2);
});

it('closes the connection of a host that may not connect, without a reply', async () => {
  const refusing = await start(
    { service: 'xmlrpc', key: 'k', address: local, hosts: [/^10\./] },
    { service: 'relocation', key: 'k', address: local, hosts: [/^10\./] },
  );
  await expect(post({ port: refusing.portOf('xmlrpc') }, domains)).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect(await talk(refusing.portOf('relocation') ?? 0, 'receive\n')).toBe('');
});

it('lets hosts in that a pattern names', async () => {
  const open = await start({ service: 'xmlrpc', key: 'k', address: local, hosts: [/^no$/, /^127\.0\.0\.1$/] });
  expect((await post({ port: open.portOf('xmlrpc') }, domains)).status).toBe(200);
});

/** Everything that a server says until it closes, or falls silent after it has answered. */
function talk(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(text));
    let said = '';
    socket.on('data', (data: Buffer) => {
      said += data.toString();
      if (said.endsWith('\n')) socket.end();
    });
    socket
      .on('error', () => undefined)
      .on('close', () => {
        resolve(said);
      });
  });
}

it('answers on the relocation port', async () => {
  const open = await start({ service: 'relocation', key: 'k', address: local });
  const port = open.portOf('relocation') ?? 0;
  expect(await talk(port, 'receive\n')).toMatch(
    /^\(ready receive\)\n\(err \(type XendError\) \(value "not a valid guest state file/,
  );
  expect(await talk(port, 'dance\n')).toBe("(err (type XendError) (value 'Invalid operation: dance'))\n");
  expect(await talk(port, 'help\n')).toBe('(help help quit receive sslreceive)\n');
  expect(await talk(port, 'quit\n')).toBe('');
  expect(await talk(port, 'x'.repeat(2000))).toBe('');
});

describe('the Xen-API', () => {
  const call = async (port: number | undefined, method: string, ...params: XmlRpcValue[]): Promise<XmlRpcValue> =>
    decodeResponse((await post({ port }, encodeCall(method, params))).body);

  it('answers with structs; legacy methods are refused there', async () => {
    const port = (await start({ service: 'xen-api', key: 'k', address: local, auth: 'none' })).portOf('xen-api');
    expect(await call(port, 'session.login_with_password', 'u', 'p')).toMatchObject({ Status: 'Success' });
    expect(await call(port, 'session.get_this_user', 'foreign', 'foreign')).toMatchObject({
      Status: 'Failure',
      ErrorDescription: ['SESSION_INVALID', 'foreign'],
    });
    expect(await call(port, 'xend.domains', 0)).toMatchObject({
      Status: 'Failure',
      ErrorDescription: ['INTERNAL_ERROR', expect.any(String)],
    });
    expect(await call(port, 'no.method')).toMatchObject({ ErrorDescription: ['MESSAGE_METHOD_UNKNOWN', 'no.method'] });
    const broken = await post({ port }, '<methodCall>');
    expect(() => decodeResponse(broken.body)).toThrow(XmlRpcFault);
  });

  it('lets nobody in who must be asked for a password that nobody can check', async () => {
    const port = (await start({ service: 'xen-api', key: 'k', address: local, auth: 'pam' })).portOf('xen-api');
    expect(await call(port, 'session.login_with_password', 'root', '')).toMatchObject({
      ErrorDescription: ['SESSION_AUTHENTICATION_FAILED'],
    });
  });
});

describe('what is no request', () => {
  const fault = async (reply: Promise<Reply>): Promise<string> => {
    const { status, type, body } = await reply;
    expect([status, type]).toEqual([200, 'text/xml']);
    try {
      decodeResponse(body);
    } catch (error) {
      return (error as XmlRpcFault).faultString;
    }
    throw new Error('no fault');
  };
  const raw = (port: number, head: string, body = ''): Promise<string> =>
    new Promise((resolve) => {
      const socket: Socket = connect(port, '127.0.0.1', () => socket.write(`${head}\r\n\r\n${body}`));
      let said = '';
      socket.on('data', (data: Buffer) => {
        said += data.toString();
        if (said.includes('</methodResponse>')) socket.destroy();
      });
      socket
        .on('error', () => undefined)
        .on('close', () => {
          resolve(said);
        });
    });

  it('a long body is read to its end and then refused, and the connection lives', async () => {
    const port = (await start({ service: 'xmlrpc', key: 'k', address: local })).portOf('xmlrpc');
    const long = ' '.repeat(MAX_REQUEST_BYTES + 1);
    expect(await fault(post({ port }, long))).toBe(`a request may have ${MAX_REQUEST_BYTES} bytes`);
    expect(await fault(post({ port }, 'x'.repeat(10 << 20)))).toBe(`a request may have ${MAX_REQUEST_BYTES} bytes`);
    const whole = domains.replace('</methodCall>', `${' '.repeat(MAX_REQUEST_BYTES - domains.length)}</methodCall>`);
    expect(decodeResponse((await post({ port }, whole)).body)).toEqual(['Domain-0']);
  });

  it('chunks are taken; a body of unknown length is asked for', async () => {
    const port = (await start({ service: 'xmlrpc', key: 'k', address: local })).portOf('xmlrpc') ?? 0;
    const chunk = `${domains.length.toString(16)}\r\n${domains}\r\n0\r\n\r\n`;
    const chunked = await raw(port, 'POST /RPC2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked', chunk);
    expect(decodeResponse(chunked.slice(chunked.indexOf('<?xml')))).toEqual(['Domain-0']);
    const none = await raw(port, 'POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml');
    expect(none).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(none).toContain('a request needs Content-Length and a body');
    const get = await post({ port, method: 'GET' }, undefined);
    expect([get.status, get.body]).toEqual([501, "Unsupported method ('GET'): XML-RPC is posted\n"]);
  });

  it.each([
    ['entities that grow', `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>${domains}`, 'malformed markup'],
    [
      'an entity from a file',
      '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><methodCall/>',
      'malformed markup',
    ],
    [
      'arrays without end',
      `<methodCall><methodName>xend.domains</methodName><params><param>${'<value><array><data>'.repeat(50_000)}`,
      'nested deeper',
    ],
    [
      'values without end',
      `<methodCall><methodName>xend.domains</methodName><params><param><value><array><data>${'<value/>'.repeat(200_001)}`,
      'more than 200000 values',
    ],
  ])('%s', async (_name, document, message) => {
    const port = (await start({ service: 'xmlrpc', key: 'k', address: local })).portOf('xmlrpc');
    expect(await fault(post({ port }, document))).toContain(message);
  });

  it('200 connections that say nothing, or little, keep nobody waiting', async () => {
    const port = (await start({ service: 'xmlrpc', key: 'k', address: local })).portOf('xmlrpc') ?? 0;
    const idle = Array.from({ length: 200 }, (_, i) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined);
      if (i % 2 === 0) socket.write('POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n<');
      return socket;
    });
    for (let i = 0; i < 5; i += 1) {
      expect(decodeResponse((await post({ port }, domains)).body)).toEqual(['Domain-0']);
    }
    for (const socket of idle) socket.destroy();
  });

  it('one connection carries many calls', async () => {
    const port = (await start({ service: 'xmlrpc', key: 'k', address: local })).portOf('xmlrpc') ?? 0;
    const head = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${domains.length}\r\n\r\n`;
    const answers = await new Promise<string>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(`${head}${domains}${head}${domains}`));
      let said = '';
      socket.on('data', (data: Buffer) => {
        said += data.toString();
        if (said.split('</methodResponse>').length > 2) socket.destroy();
      });
      socket.on('close', () => {
        resolve(said);
      });
    });
    expect(answers.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
  });
});
