/** `xenhost metrics`: what the hypervisor of this run directory counts, as it tells a scraper. */
import { request } from 'node:http';
import { hostPaths } from '@xenhost/daemon-kit';
import { hostEnv } from '../host.ts';
import { runDirectory, type Values } from './options.ts';

const HTTP_OK = 200;

export async function metrics(values: Values): Promise<number> {
  const { hypervisorMetrics } = hostPaths(hostEnv(runDirectory(values)));
  process.stdout.write(await get(hypervisorMetrics));
  return 0;
}

function get(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path: '/metrics' }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === HTTP_OK) resolve(text);
        else reject(new Error(`the hypervisor answers ${response.statusCode ?? 'nothing'}: ${text.trim()}`));
      });
    });
    asked.on('error', (error) => {
      reject(new Error(`no hypervisor answers at ${socketPath}: ${error.message}`, { cause: error }));
    });
    asked.end();
  });
}
