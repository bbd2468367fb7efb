import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { XsOp } from '@xenhost/xs-wire';
import { startXenstored } from '../daemon.ts';
import type { Xenstored } from '../daemon.ts';
import { RawClient } from '../testing/raw-client.ts';

const log = createLogger('xenstored-test', { level: 'silent' });
let directory: string;
let daemon: Xenstored;
let client: RawClient;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const at = (name: string): string => join(directory, name);
  const journal = { directory, incarnation: 'this', sync: false };
  daemon = await startXenstored(
    { socketPath: at('s'), metricsPath: at('m'), accessLogPath: at('access'), journal },
    { log },
  );
  client = await RawClient.open(at('s'));
});

afterEach(async () => {
  client.socket.destroy();
  await daemon.stop();
  rmSync(directory, { recursive: true });
});

const get = (): Promise<string> =>
  new Promise((resolve, reject) => {
    const asked = request({ socketPath: join(directory, 'm'), path: '/metrics' }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('end', () => {
        resolve(text);
      });
    });
    asked.on('error', reject);
    asked.end();
  });

test('operations, errors, clients, quotas and the journal are told', async () => {
  for (let i = 0; i < 3; i++) await client.ask(XsOp.WRITE, `/a/${i}|v`);
  await client.ask(XsOp.READ, '/none|');
  await client.ask(99, '');
  const text = await get();
  for (const line of [
    'xenstored_requests_total{operation="write"} 3',
    'xenstored_requests_total{operation="read"} 1',
    'xenstored_requests_total{operation="unknown"} 1',
    'xenstored_errors_total{error="ENOENT"} 1',
    'xenstored_errors_total{error="ENOSYS"} 1',
    'xenstored_clients{transport="socket"} 1',
    'xenstored_quota{quota="nodes"} 1000',
    'xenstored_journal_writes_total 3',
  ]) {
    expect(text.split('\n')).toContain(line);
  }
  expect(text).toMatch(/^xenstored_domain_nodes\{domid="0"\} \d+$/m);
  expect(text.endsWith('# EOF\n')).toBe(true);
});

test('the access log has a line for each request and reply, while it is on', async () => {
  await client.ask(XsOp.WRITE, '/before|v');
  expect(await client.ask(XsOp.CONTROL, 'log|on|')).toBe('OK|');
  await client.ask(XsOp.WRITE, '/a|one\ntwo\x1b[1m');
  await client.ask(XsOp.READ, '/none|');
  expect(await client.ask(XsOp.CONTROL, 'log|off|')).toBe('OK|');
  await client.ask(XsOp.WRITE, '/after|v');
  await new Promise(setImmediate);
  const path = join(directory, 'access');
  const lines = readFileSync(path, 'utf8').split('\n');
  const without = lines.map((line) => line.replace(/^\S+Z d0 \d+ /, ''));
  expect(without).toContain('IN WRITE tx 0 /a one two [1m');
  expect(without).toContain('OUT WRITE tx 0 OK');
  expect(without).toContain('OUT READ tx 0 ENOENT');
  expect(lines.join()).not.toMatch(/before|after/);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(await client.ask(XsOp.CONTROL, `memreport|${join(directory, 'report')}|`)).toBe('OK|');
  expect(readFileSync(join(directory, 'report'), 'utf8')).toContain('nodes');
  expect(await client.ask(XsOp.CONTROL, `memreport|${directory}/no/such/folder|`)).toBe('EINVAL|');
  expect(await client.ask(XsOp.CONTROL, `logfile|${join(directory, 'other')}|`)).toBe('OK|');
  await client.ask(XsOp.READ, '/elsewhere|');
  await new Promise(setImmediate);
  expect(readFileSync(join(directory, 'other'), 'utf8')).toContain('/elsewhere');
});
