import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OPENMETRICS_TYPE, openMetrics, serveMetrics } from './metrics.ts';
import type { MetricFamily } from './metrics.ts';

const families: MetricFamily[] = [
  {
    name: 'xen_exits',
    type: 'counter',
    help: 'Exits "by" cause\\',
    samples: [{ labels: { pcpu: 0, cause: 'a"b\\c\nd' }, value: 12 }, { value: 0.5 }],
  },
  { name: 'xen_free_bytes', type: 'gauge', help: 'Free', samples: [] },
];
const text = `# TYPE xen_exits counter
# HELP xen_exits Exits \\"by\\" cause\\\\
xen_exits_total{pcpu="0",cause="a\\"b\\\\c\\nd"} 12
xen_exits_total 0.5
# TYPE xen_free_bytes gauge
# HELP xen_free_bytes Free
# EOF
`;

test('text of OpenMetrics', () => {
  expect(openMetrics(families)).toBe(text);
});

test('is served at /metrics, and a failure to collect is an answer too', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const socketPath = join(directory, 'm.sock');
  const failures: unknown[] = [];
  let broken = false;
  const listener = await serveMetrics(
    socketPath,
    () => {
      if (broken) throw new Error('no');
      return families;
    },
    (error) => failures.push(String(error)),
  );
  const ask = (method: string, path: string): Promise<readonly [number | undefined, string | undefined, string]> =>
    new Promise((resolve, reject) => {
      const asked = request({ socketPath, method, path, agent: false }, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => (body += part));
        response.on('end', () => {
          resolve([response.statusCode, response.headers['content-type'], body]);
        });
      });
      asked.on('error', reject);
      asked.end();
    });
  try {
    expect(await ask('GET', '/metrics')).toEqual([200, OPENMETRICS_TYPE, text]);
    expect(await ask('HEAD', '/metrics?x=1')).toEqual([200, OPENMETRICS_TYPE, '']);
    expect((await ask('GET', '/'))[0]).toBe(404);
    expect((await ask('POST', '/metrics'))[0]).toBe(405);
    broken = true;
    expect((await ask('GET', '/metrics'))[0]).toBe(500);
    expect(failures).toEqual(['Error: no']);
  } finally {
    await listener.close();
    rmSync(directory, { recursive: true, force: true });
  }
});
