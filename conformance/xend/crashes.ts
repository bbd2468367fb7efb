/**
 * kill -9 of xend while it makes, shuts down, ends, stores or forgets a domain with a disk and a network interface, or plugs and
 * unplugs one, at many moments of each, on a hypervisor, a xenstored, a xenconsoled and backends that live on. The next xend must
 * find every domain that is there and leave nothing of any other: no domain that nobody knows, no device path, no backend, no
 * file.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { hostPaths, runDirectoryEnv } from '@xenhost/daemon-kit';
import { consoleShell } from '@xenhost/guest-kernels';
import { openXenctrl, type Xenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { RpcConnection, run, type Report } from '@xenhost/testkit';
import { program } from '@xenhost/xenhost';
import { XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { World } from './world.ts';

/** Moments after the request, ms: dense where most of the work is; a xend that has just started takes its time. */
const MOMENTS_MS = [0, 1, 2, 4, 7, 11, 17, 26, 40, 60, 90, 140];
const NAME = 'crash';
const MEMORY_MIB = 128;
const DISK_BYTES = 1 << 20;
const READY_TIMEOUT_MS = 30_000;

/** Daemons without a supervisor: this run decides who dies and when. */
class Daemons {
  readonly directory = mkdtempSync(join(tmpdir(), 'xh-'));
  readonly env: NodeJS.ProcessEnv = { ...process.env, ...runDirectoryEnv(this.directory), XENHOST_LOG_LEVEL: 'error' };
  readonly paths = hostPaths(this.env);
  readonly kernel = join(this.directory, 'kernel.elf');
  readonly disks = ['a.img', 'b.img'].map((name) => join(this.directory, name));
  readonly #running = new Map<string, ChildProcess>();

  async start(name: string, ...more: readonly string[]): Promise<void> {
    const { command, args } = program(name);
    const child = spawn(command, [...args, ...more], { env: this.env, stdio: ['ignore', 'pipe', 'inherit'] });
    this.#running.set(name, child);
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => {
        reject(new Error(`${name} was not ready after ${READY_TIMEOUT_MS} ms`));
      }, READY_TIMEOUT_MS);
      child.once('exit', (code) => {
        reject(new Error(`${name} ended with ${String(code)}`));
      });
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (!line.startsWith('{"ready"')) return;
        clearTimeout(late);
        resolve();
      });
    });
  }

  async end(name: string, signal: NodeJS.Signals): Promise<void> {
    const child = this.#running.get(name);
    this.#running.delete(name);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  async stop(): Promise<void> {
    for (const name of [...this.#running.keys()].reverse()) await this.end(name, 'SIGTERM');
    rmSync(this.directory, { recursive: true, force: true });
  }
}

interface Step {
  readonly name: string;
  /** Brings the domain to where the step begins. */
  readonly prepare: readonly Call[];
  readonly call: Call;
}
type Call = (rpc: RpcConnection, config: XmlRpcValue, disks: readonly string[]) => Promise<XmlRpcValue>;

const create: Call = (rpc, config) => rpc.call('xend.domain.create', config);
const unpause: Call = (rpc) => rpc.call('xend.domain.unpause', NAME);
const store: Call = (rpc, config) => rpc.call('xend.domain.new', config);
const start: Call = (rpc) => rpc.call('xend.domain.start', NAME, false);
const destroy: Call = (rpc) => rpc.call('xend.domain.destroy', NAME);
const plug =
  (device: (disks: readonly string[]) => XmlRpcValue): Call =>
  (rpc, _, disks) =>
    rpc.call('xend.domain.device_create', NAME, device(disks));
const unplug =
  (kind: string, device: string): Call =>
  (rpc) =>
    rpc.call('xend.domain.destroyDevice', NAME, kind, device, false, true);
const disk = (file: string, name: string): XmlRpcValue => [
  'vbd',
  ['uname', `file:${file}`],
  ['dev', name],
  ['mode', 'w'],
];
const STEPS: readonly Step[] = [
  { name: 'create', prepare: [], call: create },
  { name: 'shutdown', prepare: [create, unpause], call: (rpc) => rpc.call('xend.domain.shutdown', NAME, 'poweroff') },
  { name: 'destroy', prepare: [create, unpause], call: destroy },
  { name: 'plug of a disk', prepare: [create, unpause], call: plug(([, second = '']) => disk(second, 'xvdb')) },
  { name: 'unplug of a disk', prepare: [create, unpause], call: unplug('vbd', 'xvda') },
  { name: 'plug of a vif', prepare: [create, unpause], call: plug(() => ['vif', ['bridge', 'xenbr0']]) },
  { name: 'unplug of a vif', prepare: [create, unpause], call: unplug('vif', '0') },
  { name: 'new', prepare: [], call: store },
  { name: 'start', prepare: [store], call: start },
  { name: 'delete', prepare: [store], call: (rpc) => rpc.call('xend.domain.delete', NAME) },
];

export async function runCrashes(_world: World, report: Report): Promise<void> {
  const daemons = new Daemons();
  try {
    writeFileSync(daemons.kernel, consoleShell());
    for (const file of daemons.disks) writeFileSync(file, Buffer.alloc(DISK_BYTES));
    writeFileSync(daemons.paths.networkConfig, '(bridge xenbr0)\n');
    await daemons.start('hypervisor', '--memory', String(MEMORY_MIB), '--pcpus', '1');
    await daemons.start('xenstored');
    await daemons.start('xenconsoled');
    await daemons.start('blkback');
    await daemons.start('netback');
    await daemons.start('xend');
    const xc = openXenctrl(await connectPrivcmd(daemons.paths.privcmd));
    for (const step of STEPS) {
      await report.case(`kill -9 during ${step.name}, ${MOMENTS_MS.length} moments`, async () => {
        let done = 0;
        for (const ms of MOMENTS_MS) done += Number(await killDuring(daemons, xc, step, ms));
        return `answered before the kill: ${done}`;
      });
    }
    await xc.close();
  } finally {
    await daemons.stop();
  }
}

/** Resolves to whether xend answered before it died. */
async function killDuring(daemons: Daemons, xc: Xenctrl, step: Step, afterMs: number): Promise<boolean> {
  const config: XmlRpcValue = [
    'vm', ['name', NAME], ['memory', 8], ['on_crash', 'destroy'], ['image', ['linux', ['kernel', daemons.kernel], ['args', '']]],
    ['device', ['vkbd']], ['device', disk(daemons.disks[0] ?? '', 'xvda')], ['device', ['vif', ['bridge', 'xenbr0']]],
  ]; // prettier-ignore
  const where = { path: daemons.paths.xendXmlrpc };
  const before = await RpcConnection.open(where);
  for (const call of step.prepare) await call(before, config, daemons.disks);
  const answer = step.call(before, config, daemons.disks).then(
    () => true,
    (error: unknown) => error instanceof XmlRpcFault,
  );
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  await daemons.end('xend', 'SIGKILL');
  const answered = await answer;
  before.close();
  await daemons.start('xend');
  const rpc = await RpcConnection.open(where);
  const when = `after ${afterMs} ms`;
  await settled(() => leftovers(daemons, xc, rpc), when);
  // Whatever is there can be ended, and its name and UUID are free again.
  for (const name of await names(rpc)) {
    if (name === 'Domain-0') continue;
    await rpc.call('xend.domain.destroy', name).catch(ignoreFaults);
    await rpc.call('xend.domain.delete', name).catch(ignoreFaults);
  }
  await settled(async () => {
    const left = (await names(rpc)).filter((name) => name !== 'Domain-0');
    return [...left, ...(await leftovers(daemons, xc, rpc))];
  }, `${when}, cleared`);
  rpc.close();
  return answered;
}

const ignoreFaults = (error: unknown): void => {
  if (!(error instanceof XmlRpcFault)) throw error;
};

const names = async (rpc: RpcConnection): Promise<readonly string[]> =>
  (await rpc.call('xend.domains_with_state', false, 'all', false)) as readonly string[];

const SETTLE_MS = 15_000;

/** Work that goes on behind the answers may take a moment; then nothing may be left. */
async function settled(look: () => Promise<readonly string[]>, when: string): Promise<void> {
  for (const deadline = Date.now() + SETTLE_MS; ;) {
    const left = await look();
    if (left.length === 0) return;
    if (Date.now() > deadline) throw new Error(`${when} there is left: ${left.join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** What belongs to no domain that xend tells of. */
async function leftovers(daemons: Daemons, xc: Xenctrl, rpc: RpcConnection): Promise<string[]> {
  const known = new Map<number, string>();
  const stored = new Set<string>();
  for (const sxp of (await rpc.call('xend.domains_with_state', true, 'all', false)) as readonly XmlRpcValue[]) {
    const fields = new Map(
      (sxp as readonly (readonly [string, XmlRpcValue])[]).slice(1).map(([key, value]) => [key, value]),
    );
    const uuid = fields.get('uuid');
    const domid = fields.get('domid');
    if (typeof uuid !== 'string') continue;
    if (typeof domid === 'number') known.set(domid, uuid);
    stored.add(uuid);
  }
  const left: string[] = [];
  for (const { domid } of await xc.domainGetinfolist(0)) if (!known.has(domid)) left.push(`domain ${domid}`);
  const list = async (path: string): Promise<readonly string[]> => {
    const env = { ...daemons.env, XENSTORED_PATH: daemons.paths.xenstored };
    const { code, stdout } = await run('xenstore-list', [path], env);
    return code === 0 ? stdout.split('\n').filter((line) => line !== '') : [];
  };
  for (const name of await list('/local/domain')) if (!known.has(Number(name))) left.push(`/local/domain/${name}`);
  const uuids = new Set(known.values());
  for (const uuid of await list('/vm')) if (!uuids.has(uuid)) left.push(`/vm/${uuid}`);
  for (const kind of await list('/local/domain/0/backend')) {
    for (const domid of await list(`/local/domain/0/backend/${kind}`)) {
      if (!known.has(Number(domid))) left.push(`/local/domain/0/backend/${kind}/${domid}`);
    }
  }
  // What the backends keep of devices goes with them.
  const devices = join(daemons.paths.sysfs, 'bus', 'xen-backend', 'devices');
  const counted = [...filesOf(devices), ...filesOf(join(daemons.paths.sysfs, 'class', 'net'))];
  for (const name of counted) {
    const domid = /^(?:vbd-|vif)(\d+)[-.]/.exec(name)?.[1];
    if (domid !== undefined && !known.has(Number(domid))) left.push(name);
  }
  const folder = join(daemons.paths.xendState, 'domains');
  for (const name of filesOf(folder)) {
    const files = filesOf(join(folder, name));
    if (!stored.has(name) || files.some((file) => !/^(config\.sxp|checkpoint\.chk)$/.test(file)))
      left.push(`${name}: ${files.join(' ')}`);
  }
  for (const file of filesOf(join(daemons.paths.xendState, 'running'))) {
    if (!uuids.has(file.replace(/\.sxp$/, ''))) left.push(`running/${file}`);
  }
  for (const file of filesOf(daemons.paths.consoles)) {
    const domid = /^(\d+)\.sock$/.exec(file)?.[1];
    if (domid !== undefined && !known.has(Number(domid))) left.push(file);
  }
  return left;
}

function filesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
