/** The HTTP server as libvirt's old driver and browsers use it. */
import { request } from 'node:http';
import { join } from 'node:path';
import { childOf, childValue, parseSxp, printSxp, type Sxp } from '@xenhost/sxp';
import { methods, type Xend } from '../index.ts';
import { Xend as XendClass } from '../xend.ts';
import { config, xendFixture } from '../testing/xend-fixture.ts';
import { DOMAIN_OPERATIONS } from './sxp-operations.ts';

const host = xendFixture();
let xend: Xend;
let path = '';

beforeEach(async () => {
  path = join(host.directory, 'http', 's');
  const servers = [{ service: 'sxp', key: 'xend-unix-server', address: { path } }] as const;
  xend = new XendClass({ servers, stateDirectory: host.directory, pollMs: 0 }, host.ports());
  await xend.start();
});
afterEach(() => xend.stop());

interface Reply {
  readonly status: number | undefined;
  readonly message: string | undefined;
  readonly type: string | undefined;
  readonly location: string | undefined;
  readonly length: string | undefined;
  readonly body: string;
}

const SXP = { accept: 'application/sxp', 'user-agent': 'libvirt', host: 'h:8000' };
const BROWSER = { accept: 'text/html', 'user-agent': 'Mozilla', host: 'h:8000' };

function ask(method: string, url: string, body?: string, headers: Record<string, string> = SXP): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    const options = {
      socketPath: path,
      method,
      path: url,
      headers: body === undefined ? headers : { ...form, ...headers },
    };
    const asking = request(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        const { location, 'content-type': type, 'content-length': length } = response.headers;
        resolve({ status: response.statusCode, message: response.statusMessage, type, location, length, body: text });
      });
    });
    asking.on('error', reject).end(body);
  });
}

const get = (url: string, headers = SXP): Promise<Reply> => ask('GET', url, undefined, headers);
const post = (url: string, fields: Record<string, string>, headers = SXP): Promise<Reply> =>
  ask('POST', url, new URLSearchParams(fields).toString(), headers);
const sxp = async (reply: Promise<Reply>): Promise<Sxp> => {
  const { status, type, body, length } = await reply;
  expect([status, type]).toEqual([200, 'application/sxp']);
  expect(length).toBe(String(Buffer.byteLength(body)));
  return parseSxp(body);
};
const guest = printSxp(config('g') as Sxp);
const create = (): Promise<Reply> => post('/xend/domain', { op: 'create', config: guest });

it('shows the tree', async () => {
  expect((await get('/')).body).toBe('(ls xend)');
  expect((await get('/xend')).body).toBe('(ls node domain vnet)');
  expect((await get('/xend/')).body).toBe('(ls node domain vnet)');
  expect((await get('/xend/vnet')).body).toBe('()');
  expect((await get('/xend/domain')).body).toBe('(Domain-0)');
  const node = await sxp(get('/xend/node/'));
  expect([(node as Sxp[])[0], childValue(node, 'total_memory')]).toEqual(['node', '256']);
  host.xc.dmesg = 'hello\n';
  const dmesg = await get('/xend/node/dmesg');
  expect([dmesg.type, dmesg.body]).toEqual(['text/plain', 'hello\n']);
  expect((await post('/xend/node/dmesg', { op: 'clear' })).body).toBe('0');
  expect((await get('/xend/node/dmesg')).body).toBe('');
  expect((await get('/xend/node/log')).body).toContain('Opening HTTP server on ');
  expect((await post('/xend/node', { op: 'reboot' })).body).toBe('0');
});

it('creates, runs and ends a domain', async () => {
  const made = await create();
  expect([made.status, made.location]).toEqual([201, 'http://h:8000/xend/domain/g']);
  expect(childValue(parseSxp(made.body), 'name')).toBe('g');
  expect(childValue(await sxp(get('/xend/domain/g?detail=1')), 'state')).toBe('--p---');
  expect((await post('/xend/domain/g', { op: 'unpause' })).status).toBe(200);
  expect(((await sxp(get('/xend/domain?detail=1'))) as Sxp[]).map((one) => childValue(one, 'name'))).toEqual(['Domain-0', 'g']);
  expect((await get('/xend/domain?state=paused')).body).toBe('()');
  expect(childOf(await sxp(get('/xend/domain/g?op=vcpuinfo')), 'vcpu')).toBeDefined();
  const renamed = await post('/xend/domain/g', { op: 'rename', name: 'h' });
  expect([renamed.status, renamed.location, renamed.body]).toEqual([202, 'http://h:8000/xend/domain/g/..', '']);
  expect((await post('/xend/domain/h', { op: 'mem_target_set', target: '32' })).status).toBe(200);
  expect((await post('/xend/domain/h', { op: 'pincpu', vcpu: '0', cpumap: '0' })).body).toBe('0');
  expect((await post('/xend/domain/h', { op: 'devices', type: 'vif' })).body).toBe('()');
  const shutdown = await post('/xend/domain/h', { op: 'shutdown', reason: 'poweroff' });
  expect(shutdown.status).toBe(202);
  expect((await post('/xend/domain/h', { op: 'destroy' })).status).toBe(202);
  expect((await get('/xend/domain')).body).toBe('(Domain-0)');
}); // prettier-ignore

it('keeps a managed domain', async () => {
  expect((await post('/xend/domain', { op: 'new', config: guest })).status).toBe(200);
  expect((await get('/xend/domain?state=halted')).body).toBe('(g)');
  expect((await post('/xend/domain/g', { op: 'start', paused: '1' })).status).toBe(202);
  expect((await post('/xend/domain/g', { op: 'delete' })).body).toBe("(xend.err 'Domain is not halted.')");
});

it('says what went wrong', async () => {
  const failures: [Promise<Reply>, number, string][] = [
    [get('/xend/domain/none'), 404, 'none'],
    [get('/xend/nothing'), 404, 'Not found: nothing'],
    [get('/xend/domain/a/b'), 404, 'Not found: b'],
    [get('/xend/domain/%2e%2e%2f%2e%2e'), 404, '../..'],
    [get('/xend/%zz'), 404, 'Not found: /xend/%zz'],
    [get('/xend/vnet/1'), 404, 'No such vnet 1'],
    [get('/other'), 404, 'Not found: other'],
    [post('/xend/domain/Domain-0', {}), 406, ''],
    [post('/xend/domain/Domain-0', { op: 'dance' }), 501, 'Operation not implemented: dance'],
    [post('/xend/domain/none', { op: 'dance' }), 404, 'none'],
    [post('/xend/domain', { op: 'dance' }), 501, 'Operation not implemented: dance'],
    [post('/xend/domain', { op: 'create' }), 500, "(xend.err 'Invalid configuration expected one expression, found 0 (line 1)')"],
    [post('/xend/domain', { op: 'create', config: '(vm (name' }), 500, "(xend.err 'Invalid configuration unexpected EOF (line 1)')"],
    [post('/xend/domain', { op: 'create', config: '(vm (name x))' }), 500, '(xend.err \'Error creating domain: '],
    [post('/xend/domain/Domain-0', { op: 'rename' }), 500, "(xend.err 'Missing parameter: name')"],
    [post('/xend/domain/Domain-0', { op: 'set_vcpus', vcpus: 'x' }), 500, "(xend.err 'vcpus: an integer is required')"],
    [post('/xend/domain/Domain-0', { op: 'vif_limit_set' }), 500, "(xend.err 'vif_limit_set is not supported')"],
    [post('/xend/vnet', { op: 'create', config: '(vnet)' }), 500, "(xend.err 'this host has no vnet module')"],
    [ask('PUT', '/xend', 'x'), 501, 'Request method not supported (PUT)'],
    [post('/xend/domain/Domain-0', { op: 'destroy' }), 500, '(xend.err \'Cannot destroy privileged domain '],
  ]; // prettier-ignore
  for (const [reply, status, text] of failures) {
    const { status: got, body } = await reply;
    expect([got, body.slice(0, Math.max(text.length, 1))]).toEqual([status, text]);
  }
});

it('answers browsers with pages, and escapes what comes from elsewhere', async () => {
  await create();
  await post('/xend/domain/g', { op: 'unpause' });
  const page = await get('/xend/domain/g', BROWSER);
  expect([page.type, page.body.slice(0, 19)]).toEqual(['text/html', '<html><head></head>']);
  expect(page.body).toContain('<a href="/xend/domain/">domain</a>/');
  expect((await get('/xend/domain', BROWSER)).body).toContain('<a href="http://h:8000/xend/domain/g">g</a>');
  expect((await get('/xend/node', BROWSER)).body).toContain('total_memory: 256');
  const bad = await post('/xend/domain', { op: 'create', config: '(vm (name <script>))' }, BROWSER);
  expect([bad.status, bad.body]).not.toContain('<script>');
  expect((await get('/xend/%3Cscript%3E', BROWSER)).type).toBe('text/plain');
  expect((await ask('HEAD', '/xend')).body).toBe('');
});

it('reads forms with files in them', async () => {
  const part = (name: string, more: string, value: string) =>
    `--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`;
  const body = `${part('op', '', 'create')}${part('config', '; filename="g.sxp"', guest)}--b--\r\n`;
  const headers = { ...BROWSER, 'content-type': 'multipart/form-data; boundary=b' };
  expect((await ask('POST', '/xend/domain', body, headers)).status).toBe(201);
  const broken = await ask('POST', '/xend/domain', 'x', { ...SXP, 'content-type': 'multipart/form-data; boundary=b' });
  expect([broken.status, broken.body]).toEqual([500, "(xend.err 'the form cannot be read')"]);
});

it('has operations only for methods that Xen 4.4 had', () => {
  const unknown = [...DOMAIN_OPERATIONS.values()].filter(({ method }) => !methods.has(`xend.domain.${method}`));
  // The last of them never was more than a name; the others come with the legacy methods that they stand for.
  expect(unknown.map(({ method }) => method)).toContain('vif_limit_set');
});
