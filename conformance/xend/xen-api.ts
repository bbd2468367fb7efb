/** npm's xen-api, downloaded at run time and no dependency: connects, lists, makes, starts and stops a VM, follows events. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert, type Report } from '@xenhost/testkit';
import type { World } from './world.ts';

const VERSION = '4.7.6';
const SESSION = fileURLToPath(new URL('xen-api-session.ts', import.meta.url));

/** Of Xen 4.4's classes, those that every host has objects of. */
const TYPES = ['PBD', 'SR', 'VM', 'VM_metrics', 'cpu_pool', 'host', 'host_cpu', 'host_metrics', 'network', 'pool'];

/** The package's folder; npm is asked once. */
async function xenApiPackage(world: World): Promise<string> {
  const cache = join('.cache', `xen-api-${VERSION}`);
  const folder = join(cache, 'node_modules', 'xen-api');
  if (existsSync(join(folder, 'index.mjs'))) return folder;
  mkdirSync(cache, { recursive: true });
  writeFileSync(join(cache, 'package.json'), '{"private":true}\n');
  const options = ['install', '--silent', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', cache];
  const { code, stderr } = await world.host.run('npm', ...options, `xen-api@${VERSION}`);
  assert(code === 0, `npm cannot install xen-api ${VERSION}: ${stderr}`);
  return folder;
}

export async function runXenApi(world: World, report: Report): Promise<void> {
  let folder = '';
  if (!(await report.case('npm brings xen-api', async () => void (folder = await xenApiPackage(world))))) return;
  const url = `http://localhost:${world.ports.xenApi}`;
  const { code, stdout, stderr } = await world.host.run(process.execPath, SESSION, folder, url, world.kernel);
  const steps = new Map(
    stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as { step: string; detail: unknown })
      .map(({ step, detail }) => [step, detail]),
  );
  const expected: readonly (readonly [string, (detail: unknown) => boolean])[] = [
    ['connect', (pool) => typeof pool === 'string' && pool !== ''],
    ['objects', (types) => Array.isArray(types) && TYPES.every((type) => types.includes(type))],
    ['create', (ref) => typeof ref === 'string' && /^[0-9a-f-]{36}$/.test(ref)],
    ['start', (state) => state === 'Running'],
    ['pause', (state) => state === 'Running'],
    ['stop', (state) => state === 'Halted'],
    ['destroy', (failure) => failure === 'HANDLE_INVALID'],
  ];
  for (const [step, right] of expected) {
    await report.case(`xen-api: ${step}`, () => {
      assert(steps.has(step), `did not come so far (exit code ${String(code)}): ${stderr}`);
      assert(right(steps.get(step)), `got ${JSON.stringify(steps.get(step))}`);
    });
  }
}
