/** Python's xmlrpc.client drives a whole life cycle, over the Unix socket and over TCP. */
import { fileURLToPath } from 'node:url';
import { assert, type Report } from '@xenhost/testkit';
import type { World } from './world.ts';

const SCRIPT = fileURLToPath(new URL('life_cycle.py', import.meta.url));

export async function runPython(world: World, report: Report): Promise<void> {
  const addresses = [
    ['Unix socket', world.socket],
    ['TCP', `http://localhost:${world.ports.xmlrpc}`],
  ] as const;
  for (const [name, address] of addresses) {
    await report.case(`xmlrpc.client over ${name}`, async () => {
      const { code, stdout, stderr } = await world.host.run('python3', SCRIPT, address, world.kernel, 'py');
      const steps = stdout.split('\n').filter((line) => line.startsWith('ok '));
      assert(code === 0, `after ${steps.at(-1) ?? 'nothing'}: ${stderr}`);
      return `${steps.length} steps`;
    });
  }
}
