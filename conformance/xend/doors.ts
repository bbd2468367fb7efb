/** Bad requests at the live host's doors: the right fault each time, bounded memory, and no effect on others meanwhile. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { decodeResponse, encodeCall, XmlRpcFault } from '@xenhost/xmlrpc-codec';
import { assert, type Report } from '@xenhost/testkit';
import type { World } from './world.ts';

const LIMIT_BYTES = 4 << 20;
const HALF_OPEN = 200;
const BIG_CLIENTS = 20;
/** What xend may hold for a moment: bodies of 64 MiB over all, as text and as bytes. */
const MEMORY_MIB = 400;
const LIST = encodeCall('xend.domains', [false]);

interface Reply {
  readonly status: number | undefined;
  readonly body: string;
}

export async function runDoors(world: World, report: Report): Promise<void> {
  const ports = [world.ports.xmlrpc, world.ports.xenApi];
  const post = (port: number, body: string, headers: Record<string, string> = {}): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const asking = request(
        { host: 'localhost', port, path: '/RPC2', method: 'POST', agent: false, headers },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
          response.on('error', reject).on('end', () => {
            resolve({ status: response.statusCode, body: text });
          });
        },
      );
      asking.on('error', reject).end(body);
    });
  const faulted = async (reply: Promise<Reply>, pattern: RegExp): Promise<void> => {
    const { status, body } = await reply;
    assert(status === 200, `status ${String(status)}`);
    try {
      decodeResponse(body);
    } catch (error) {
      assert(error instanceof XmlRpcFault && error.faultCode === 1 && pattern.test(error.faultString), String(error));
      return;
    }
    throw new Error('no fault');
  };
  const others = async (): Promise<void> => {
    assert((await world.names()).includes('Domain-0'), 'others are not answered');
  };
  const nested = '<value><array><data>'.repeat(100_000);
  const documents: readonly (readonly [string, string, RegExp])[] = [
    ['nothing', '', /Content-Length/],
    ['no XML', '{"jsonrpc":"2.0"}', /./],
    ['half a document', LIST.slice(0, -20), /./],
    ['10 MiB', LIST + ' '.repeat(10 << 20), new RegExp(String(LIMIT_BYTES))],
    ['entities that grow', `<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;&a;">]><methodCall>&b;</methodCall>`, /markup/],
    ['100,000 arrays in one another', `<methodCall><methodName>m</methodName><params><param>${nested}`, /deeper/],
    ['a control character', LIST.replace('xend.domains', 'xend.\x01'), /XML cannot carry/],
    ['a member twice', `<methodCall><methodName>m</methodName><params><param><value><struct>${'<member><name>a</name><value/></member>'.repeat(2)}</struct></value></param></params></methodCall>`, /twice/],
  ]; // prettier-ignore
  for (const [name, document, pattern] of documents) {
    await report.case(`${name}: fault 1 at both doors`, async () => {
      for (const port of ports) await faulted(post(port, document), pattern);
      await others();
    });
  }
  await report.case('chunks without a length are read', async () => {
    const { body } = await post(world.ports.xmlrpc, LIST, { 'transfer-encoding': 'chunked' });
    assert(JSON.stringify(decodeResponse(body)).includes('Domain-0'), body);
  });
  await report.case(`${BIG_CLIENTS} clients with 10 MiB each, within ${MEMORY_MIB} MiB`, async () => {
    const body = ' '.repeat(10 << 20);
    const before = residentMiB(world.xendPid());
    let most = before;
    const watching = setInterval(() => {
      most = Math.max(most, residentMiB(world.xendPid()));
    }, 20);
    await Promise.all([
      ...Array.from({ length: BIG_CLIENTS }, () =>
        faulted(post(world.ports.xmlrpc, body), /a request may have|too many/),
      ),
      others(),
    ]);
    clearInterval(watching);
    assert(most < MEMORY_MIB, `${Math.round(most)} MiB`);
    return `from ${Math.round(before)} to ${Math.round(most)} MiB at most`;
  });
  await report.case(`${HALF_OPEN} half-open connections, and ${HALF_OPEN} that send a byte a second`, async () => {
    const sockets: Socket[] = [];
    const head = 'POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n';
    for (let i = 0; i < 2 * HALF_OPEN; i++) {
      const socket = connect(i % 4 === 0 ? { path: world.socket } : { port: ports[i % 2] ?? 0, host: 'localhost' });
      socket.on('error', () => undefined);
      if (i >= HALF_OPEN) socket.write(i % 3 === 0 ? head : 'POST /RP');
      sockets.push(socket);
    }
    const dripping = setInterval(() => {
      for (const socket of sockets.slice(HALF_OPEN)) if (socket.writable) socket.write('x');
    }, 1000);
    const start = Date.now();
    let calls = 0;
    while (Date.now() - start < 3000) {
      await others();
      calls++;
    }
    clearInterval(dripping);
    for (const socket of sockets) socket.destroy();
    return `${calls} calls of others in 3 s`;
  });
  await report.case('a foreign session is told so', async () => {
    const { body } = await post(world.ports.xenApi, encodeCall('VM.get_all', ['not-mine']));
    const told = JSON.stringify(decodeResponse(body));
    assert(told === '{"Status":"Failure","ErrorDescription":["SESSION_INVALID","not-mine"]}', told);
  });
  await report.case('the HTTP server refuses the same', async () => {
    const { status, body } = await post(world.ports.http, ' '.repeat(10 << 20));
    assert(status === 500 && body.includes(String(LIMIT_BYTES)), `status ${String(status)}: ${body.slice(0, 100)}`);
    await others();
  });
}

export const residentMiB = (pid: number): number =>
  (Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]) * 4096) / 2 ** 20;
