/** `xenhost metrics`: what the daemons of this run directory count, as one scrape: their families side by side. */
import { request } from 'node:http';
import { hostPaths, metricsBeside, type HostPaths } from '@xenhost/daemon-kit';
import { hostEnv } from '../host.ts';
import { runDirectory, type Values } from './options.ts';

const HTTP_OK = 200;
const EOF = '# EOF';

/** The daemons that count, and where they tell. */
const sockets = (paths: HostPaths): readonly (readonly [name: string, path: string])[] => [
  ['hypervisor', paths.hypervisorMetrics],
  ['xenstored', metricsBeside(paths.xenstored)],
  ['blkback', paths.blkbackMetrics],
  ['netback', paths.netbackMetrics],
];

export async function metrics(values: Values): Promise<number> {
  const asked = sockets(hostPaths(hostEnv(runDirectory(values))));
  const answers = await Promise.allSettled(asked.map(([name, path]) => get(name, path)));
  const texts: string[] = [];
  for (const [index, answer] of answers.entries()) {
    if (answer.status === 'fulfilled') texts.push(answer.value);
    // Without a hypervisor there is no host.
    else if (index === 0) throw answer.reason;
    else process.stderr.write(`xenhost metrics: ${(answer.reason as Error).message}\n`);
  }
  const up = answers.map(
    ({ status }, i) => `xenhost_daemon_up{daemon="${asked[i]?.[0] ?? ''}"} ${Number(status === 'fulfilled')}`,
  );
  const own = ['# TYPE xenhost_daemon_up gauge', '# HELP xenhost_daemon_up Whether the daemon has answered.', ...up];
  process.stdout.write(mergeMetrics([...texts, own.join('\n')]));
  return 0;
}

/** Several OpenMetrics texts as one: a family that more than one of them has is told once, with the samples of all. */
export function mergeMetrics(texts: readonly string[]): string {
  const families = new Map<string, string[]>();
  for (const text of texts) {
    let family = '';
    for (const line of text.split('\n')) {
      if (line === '' || line === EOF) continue;
      const [, descriptor, name] = /^# (TYPE|HELP|UNIT) (\S+)/.exec(line) ?? [];
      if (name !== undefined) family = name;
      const lines = families.get(family) ?? [];
      families.set(family, lines);
      const isTold = descriptor !== undefined && lines.some((told) => told.startsWith(`# ${descriptor} `));
      if (!isTold) lines.push(line);
    }
  }
  return `${[...[...families.values()].flat(), EOF].join('\n')}\n`;
}

function get(name: string, socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path: '/metrics' }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === HTTP_OK) resolve(text);
        else reject(new Error(`${name} answers ${response.statusCode ?? 'nothing'}: ${text.trim()}`));
      });
    });
    asked.on('error', (error) => {
      reject(new Error(`no ${name} answers at ${socketPath}: ${error.message}`, { cause: error }));
    });
    asked.end();
  });
}
