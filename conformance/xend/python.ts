/** Python's xmlrpc.client drives a whole life cycle, over the Unix socket and over TCP, and reads all records of the Xen-API. */
import { fileURLToPath } from 'node:url';
import { assert, type Report } from '@xenhost/testkit';
import type { World } from './world.ts';

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

export async function runPython(world: World, report: Report): Promise<void> {
  const addresses = [
    ['Unix socket', world.socket],
    ['TCP', `http://localhost:${world.ports.xmlrpc}`],
  ] as const;
  const steps = async (file: string, ...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await world.host.run('python3', script(file), ...args);
    const done = stdout.split('\n').filter((line) => line.startsWith('ok '));
    assert(code === 0, `after ${done.at(-1) ?? 'nothing'}: ${stderr}`);
    return `${done.length} steps`;
  };
  for (const [name, address] of addresses) {
    await report.case(`xmlrpc.client over ${name}`, () => steps('life_cycle.py', address, world.kernel, 'py'));
  }
  const api = `http://localhost:${world.ports.xenApi}`;
  await report.case('records of the Xen-API with built-in types', () => steps('records.py', api));
}
