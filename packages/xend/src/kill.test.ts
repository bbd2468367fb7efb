/** kill -9 at each step of what changes a machine's life, then another xend: nothing is left half done. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import type { Sxp } from '@xenhost/sxp';
import { FakeXenctrl } from '@xenhost/testkit';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startXenstored, type Xenstored } from '@xenhost/xenstored';
import { parseVmConfig } from './config/parse.ts';
import { addDevice, destroyDevice } from './domain/device-operations.ts';
import { DomainManager } from './domain/manager.ts';
import type { Vm } from './domain/vm.ts';
import { memoryLog, type XendPorts } from './index.ts';
import { openManagedStore, type ManagedStore } from './store/managed.ts';
import { playBackends, type PlayedBackends } from './testing/backends.ts';
import { Mortal } from './testing/mortal.ts';
import { config } from './testing/xend-fixture.ts';

const UUID = '11111111-2222-4333-8444-555555555555';
const VIF: Sxp = ['vif', ['mac', '00:16:3e:01:02:03'], ['uuid', '21111111-2222-4333-8444-555555555555']];
const VBD: Sxp = [
  'vbd',
  ['uname', 'file:/disk.img'],
  ['dev', 'xvda'],
  ['uuid', '31111111-2222-4333-8444-555555555555'],
];
/** More steps than any of these has. */
const MAX_STEPS = 400;

let directory: string;
let daemon: Xenstored;
let store: XenstoreClient;
let xc: FakeXenctrl;
let backends: PlayedBackends;
const clock = new FakeClock();

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xk-'));
  daemon = await startXenstored({ socketPath: join(directory, 's') }, { log: createLogger('t', { level: 'silent' }) });
  store = await XenstoreClient.connect({ path: join(directory, 's') });
  xc = new FakeXenctrl({ totalMiB: 256 });
  backends = playBackends(store);
});
afterEach(async () => {
  await backends.stop();
  await store.close();
  await daemon.stop();
  rmSync(directory, { recursive: true, force: true });
});

const ports = (): XendPorts => ({
  xc, store, clock,
  build: xc.build,
  log: memoryLog(),
  host: { system: 'Linux', host: 'tester', release: '6.1', version: '#1', machine: 'x86_64' },
  readFile: () => Promise.resolve(Buffer.from('kernel')),
  sleep: () => Promise.resolve(),
}); // prettier-ignore
const managedStore = (): ManagedStore => openManagedStore(join(directory, 'lib'), memoryLog());

async function startManager(
  given: XendPorts = ports(),
  managed: ManagedStore = managedStore(),
): Promise<DomainManager> {
  const manager = new DomainManager(given, managed);
  await manager.start();
  await manager.settle();
  return manager;
}

async function tree(path = '/'): Promise<string[]> {
  const lines: string[] = [];
  for (const name of await store.tryDirectory(path)) {
    const child = `${path === '/' ? '' : path}/${name}`;
    // Folders of classes of devices stay.
    const isFolder = /^\/local\/domain\/0\/backend(\/[a-z0-9]+)?$/.test(child);
    if (!isFolder) lines.push(`${child} = ${(await store.tryRead(child)) ?? ''}`);
    lines.push(...(await tree(child)));
  }
  return lines;
}

const files = (): string[] => !existsSync(join(directory, 'lib')) ? [] : readdirSync(join(directory, 'lib'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name)); // prettier-ignore

interface Scenario {
  /** What was there before. */
  readonly prepare?: (manager: DomainManager) => Promise<unknown>;
  /** What xend is killed in. */
  readonly act: (manager: DomainManager) => Promise<unknown>;
  /** What must hold with the next xend. */
  readonly holds?: (manager: DomainManager, step: string) => Promise<void> | void;
}

const theVm = (manager: DomainManager): Vm => {
  const vm = manager.find('g');
  if (!vm) throw new Error('g is not there');
  return vm;
};

const wanted = (...more: Sxp[]) => parseVmConfig(config('g', ['uuid', UUID], ['device', VIF], ['device', VBD], ...(more as [])) as Sxp); // prettier-ignore

/** Devices as they are connected, in both directions and by both names, are those of the configuration. */
async function devicesAgree(manager: DomainManager): Promise<void> {
  const vm = manager.find('g');
  if (!vm?.live) return;
  const links = (await tree(`${vm.vmPath}/device`)).filter(
    (line) => / = /.test(line) && /\/(backend|frontend) = /.test(line),
  );
  const ends = links.map((line) => line.split(' = ')[1] ?? '');
  for (const end of ends) expect([end, await store.exists(`${end}/state`)]).toEqual([end, true]);
  const backends = (await tree('/local/domain/0/backend')).filter((line) => /\/state = /.test(line));
  const frontends = (await tree(`/local/domain/${vm.live.domid}/device`)).filter((line) => /\/state = /.test(line));
  const count = vm.config.devices.length;
  expect([ends.length, backends.length, frontends.length]).toEqual([2 * count, count, count]);
}

const guest: Scenario['prepare'] = async (manager) => {
  const vm = await manager.create(wanted());
  await xc.domainUnpause(vm.live?.domid ?? 0);
};
const guestEnds = (reason: number): Scenario['act'] => async (manager) => {
  clock.advance(61_000_000_000n);
  xc.shutDown(theVm(manager).live?.domid ?? 0, reason);
  await manager.refresh();
  await manager.settle();
}; // prettier-ignore
const managed: Scenario['prepare'] = (manager) => manager.define(wanted());

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  create: { act: (manager) => manager.create(wanted()) },
  destroy: { prepare: guest, act: (manager) => manager.destroy(theVm(manager)) },
  'a poweroff': { prepare: guest, act: guestEnds(0), holds: (manager) => expect(manager.find('g')).toBeUndefined() },
  'a reboot': { prepare: guest, act: guestEnds(1) },
  'a crash that renames': {
    prepare: async (manager) => {
      const vm = await manager.create(wanted(['on_crash', 'rename-restart']));
      await xc.domainUnpause(vm.live?.domid ?? 0);
    },
    act: guestEnds(3),
  },
  'a plug': {
    prepare: (manager) => manager.create(parseVmConfig(config('g', ['uuid', UUID], ['device', VBD] as never) as Sxp)),
    act: (manager) => addDevice(manager, theVm(manager), ['vkbd']),
  },
  'an unplug': { prepare: guest, act: (manager) => destroyDevice(manager, theVm(manager), 'vif', '0', true) },
  'a rename': {
    prepare: guest,
    act: (manager) => manager.rename(theVm(manager), 'h').then(() => manager.rename(theVmNamed(manager, 'h'), 'g')),
  },
  new: { act: managed },
  'a start': { prepare: managed, act: (manager) => manager.startStored(theVm(manager)) },
  'a poweroff of a managed machine': {
    prepare: async (manager) => {
      await manager.startStored(await manager.define(wanted()));
    },
    act: guestEnds(0),
    holds: (manager) => expect(manager.find('g')?.state).toBe('halted'),
  },
  delete: { prepare: managed, act: (manager) => manager.undefine(theVm(manager)) },
};

function theVmNamed(manager: DomainManager, name: string): Vm {
  const vm = manager.find(name);
  if (!vm) throw new Error(`${name} is not there`);
  return vm;
}

describe('xend killed at each step of', () => {
  it.each(Object.entries(SCENARIOS))(
    '%s',
    async (_, { prepare, act, holds }) => {
      await startManager();
      const nothing = await tree();
      let killed = 0;
      for (let step = 1; step < MAX_STEPS; step += 1) {
        const mortal = new Mortal();
        const connection = await XenstoreClient.connect({ path: join(directory, 's') });
        const victim = await startManager(mortal.ports(ports(), connection), mortal.managed(managedStore()));
        await prepare?.(victim);
        mortal.arm(step);
        const died = await Promise.race([mortal.death, act(victim).then(() => undefined)]);
        await connection.close();
        killed += Number(died !== undefined);
        const next = await startManager();
        const at = `step ${step}: ${died ?? 'done'}`;
        await devicesAgree(next);
        await holds?.(next, at);
        // Whatever there is can be ended and deleted, and then nothing is left.
        for (const vm of next.all()) {
          if (vm.live?.domid === 0) continue;
          if (vm.live) await next.destroy(vm);
          if (vm.managed) await next.undefine(vm);
        }
        await next.settle();
        expect([at, [...xc.domains.keys()], await tree(), files()]).toEqual([at, [0], nothing, []]);
        if (died === undefined) break;
      }
      expect(killed).toBeGreaterThan(0);
      expect(killed).toBeLessThan(MAX_STEPS - 1);
    },
    120_000,
  );
});
