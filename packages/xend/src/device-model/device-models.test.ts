import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import type { DomainInfo } from '@xenhost/libxenctrl';
import { atomText, type Sxp } from '@xenhost/sxp';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startXenstored, type Xenstored } from '@xenhost/xenstored';
import { parseVmConfig } from '../config/parse.ts';
import { waitForDevices } from '../device/controller.ts';
import { Vm, type Live } from '../domain/vm.ts';
import { DEVICE_MODEL_RESTARTS } from '../limits.ts';
import { memoryLog } from '../node/log.ts';
import type { DeviceModelLauncher, DeviceModelStart } from '../ports.ts';
import { defaultScreenSettings, framebufferOf, planDeviceModel, type ScreenSettings } from './arguments.ts';
import { DeviceModels } from './device-models.ts';
import { processLauncher } from './launcher.ts';

const DOMID = 5;
const BACKEND = `/local/domain/0/backend/vfb/${DOMID}/0`;
const FRONTEND = `/local/domain/${DOMID}/device/vfb/0`;

const vmWith = (...vfb: readonly [string, string][]): Vm =>
  new Vm(
    parseVmConfig([
      'vm',
      ['name', 'g'],
      ['uuid', '11111111-2222-4333-8444-555555555555'],
      ['memory', 64],
      ['image', ['linux', ['kernel', '/boot/vmlinuz']]],
      ...(vfb.length === 0 ? [] : [['device', ['vfb', ...vfb]] as Sxp]),
    ]),
  );

const live: Live = { domid: DOMID, info: {} as DomainInfo, startTimeS: 0, exitHandled: false };

describe('the command line', () => {
  const args = (settings: Partial<ScreenSettings>, ...vfb: readonly [string, string][]): string => {
    const { config } = vmWith(...vfb);
    const device = framebufferOf(config);
    if (!device) throw new Error('no vfb');
    const plan = planDeviceModel({ config, domid: DOMID }, device, { ...defaultScreenSettings, ...settings });
    return plan.args.join(' ');
  };

  test.each<[string, Partial<ScreenSettings>, readonly [string, string][]]>([
    ['-nographic', {}, [['sdl', '0']]],
    ['-vnc 127.0.0.1:0 -vncunused', {}, [['vnc', '1']]],
    ['-vnc 0.0.0.0:3', {}, [['vnc', '1'], ['vnclisten', '0.0.0.0'], ['vncdisplay', '3'], ['vncunused', '0']]],
    ['-vnc ::1:0,password -vncunused', { listen: '::1', password: 'x' }, [['vnc', '1']]],
    ['-k de -vnc 127.0.0.1:0,password -vncunused', { keymap: 'fr' }, [['vnc', '1'], ['keymap', 'de'], ['vncpasswd', 'y']]],
    ['-k fr -vnc 127.0.0.1:0,tls,x509=/c -vncunused', { keymap: 'fr', tls: ',tls,x509=/c' }, [['vnc', '1']]],
    ['-sdl', {}, [['sdl', '1']]],
  ])('%s', (expected, settings, vfb) => {
    expect(args(settings, ...vfb)).toBe(`-d 5 -domain-name g -videoram 4 ${expected} -M xenpv`);
  }); // prettier-ignore
});

describe('their lives', () => {
  let directory: string;
  let daemon: Xenstored;
  let store: XenstoreClient;
  let clock: FakeClock;
  let models: DeviceModels;
  let started: DeviceModelStart[];
  let alive: Set<number>;
  let ended: string[];
  const log = memoryLog();

  const launcher: DeviceModelLauncher = {
    start: (start) => {
      started.push(start);
      alive.add(1000 + started.length);
      return 1000 + started.length;
    },
    isAlive: (pid, domid) => domid === DOMID && alive.has(pid),
    end: (pid, signal) => {
      ended.push(`${pid} ${signal}`);
      alive.delete(pid);
    },
    lastWords: () => 'its last words',
  };

  async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
    for (const end = Date.now() + 4000; !(await condition());) {
      if (Date.now() > end) throw new Error(`never: ${condition.toString()}`);
      await new Promise((done) => setTimeout(done, 2));
    }
  }

  const newModels = (): DeviceModels =>
    new DeviceModels({ store, log, clock, deviceModels: launcher, sleep: () => Promise.resolve() });
  const die = (code: number | null): void => {
    alive.delete(1000 + started.length);
    started.at(-1)?.onExit(code);
  };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'xh-'));
    const path = join(directory, 's');
    daemon = await startXenstored({ socketPath: path }, { log: createLogger('t', { level: 'silent' }) });
    store = await XenstoreClient.connect({ path });
    await store.introduce(DOMID, 1, 1);
    await store.write(`${BACKEND}/state`, 1);
    clock = new FakeClock();
    started = [];
    alive = new Set();
    ended = [];
    models = newModels();
  });
  afterEach(async () => {
    models.close();
    await store.close();
    await daemon.stop();
    rmSync(directory, { recursive: true });
  });

  test('none without a framebuffer', async () => {
    await models.start(vmWith(), live);
    expect(started).toEqual([]);
    await models.stop(DOMID);
  });

  test('started, found by its place, ended', async () => {
    const vm = vmWith(['vnc', '1'], ['vncpasswd', 'geheim']);
    await models.start(vm, live);
    await models.start(vm, live);
    expect(started).toMatchObject([{ name: 'g', fresh: true }]);
    expect(await store.tryRead(`/local/domain/${DOMID}/image/device-model-pid`)).toBe('1001');
    expect(await store.tryRead(`${vm.vmPath}/vncpasswd`)).toBe('geheim');
    await store.write(`/local/domain/${DOMID}/console/vnc-port`, 5903);
    const location = () => atomText(framebufferOf(vm.config)?.options.get('location'));
    await until(() => location() === '127.0.0.1:5903');
    await until(async () => (await store.tryRead(`${BACKEND}/location`)) === '127.0.0.1:5903');
    await models.stop(DOMID);
    await until(() => ended.length > 0);
    expect(ended).toEqual(['1001 SIGHUP']);
    expect(await store.exists(`/local/domain/0/device-model/${DOMID}`)).toBe(false);
  });

  test('one that dies is started again, but not for ever', async () => {
    await models.start(vmWith(['vnc', '1']), live);
    for (let i = 1; i <= DEVICE_MODEL_RESTARTS; i += 1) {
      die(null);
      await until(() => started.length === i + 1);
    }
    expect(started.at(-1)?.fresh).toBe(false);
    die(1);
    await until(async () => (await store.tryRead(`${BACKEND}/hotplug-status`)) === 'error');
    expect(started).toHaveLength(DEVICE_MODEL_RESTARTS + 1);
    expect(log.read()).toContain('ended with status 1, and is not started again: its last words');
  });

  test('after a minute it may die again', async () => {
    await models.start(vmWith(['vnc', '1']), live);
    for (let i = 1; i <= DEVICE_MODEL_RESTARTS * 2; i += 1) {
      clock.advance(20_000_000_000n);
      die(null);
      await until(() => started.length === i + 1);
    }
  });

  test('one that is not to be had is told to whoever waits for the devices', async () => {
    const vm = vmWith(['vnc', '1'], ['keymap', 'tlh']);
    for (const [key, value] of [['backend', BACKEND], ['frontend', FRONTEND]] as const) {
      await store.write(`${vm.vmPath}/device/vfb/0/${key}`, value);
    }
    await models.start(vm, live);
    const waiting = waitForDevices(vm, store, 4000);
    die(2);
    await expect(waiting).rejects.toThrow('Device 0 (vfb) could not be connected. its last words');
    expect(started).toHaveLength(1);
  }); // prettier-ignore

  test('the guest is not started before its device model is there', async () => {
    const vm = vmWith(['vnc', '1']);
    for (const [key, value] of [['backend', BACKEND], ['frontend', FRONTEND]] as const) {
      await store.write(`${vm.vmPath}/device/vfb/0/${key}`, value);
    }
    await models.start(vm, live);
    let done = false;
    const waiting = waitForDevices(vm, store, 4000).then(() => (done = true));
    await store.write(`${BACKEND}/feature-resize`, 1);
    expect(done).toBe(false);
    await store.write(`${BACKEND}/state`, 2);
    await waiting;
  }); // prettier-ignore

  test('its end with the domain is no news', async () => {
    await models.start(vmWith(['vnc', '1']), live);
    await store.release(DOMID);
    die(0);
    await store.exists('/');
    expect(started).toHaveLength(1);
    await models.stop(DOMID);
    expect(ended).toEqual([]);
  });

  test('another xend finds it, and notices its end', async () => {
    const vm = vmWith(['vnc', '1']);
    await models.start(vm, live);
    models.close();
    models = newModels();
    await models.adopt(vm, live);
    expect(started).toHaveLength(1);
    alive.clear();
    await until(() => started.length === 2);
    models.close();
    alive.clear();
    models = newModels();
    await models.adopt(vm, live);
    expect(started).toHaveLength(3);
  });
});

describe('processes', () => {
  let directory: string;
  beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'xh-'))));
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  const launcher = (script: string): DeviceModelLauncher => {
    const file = join(directory, 'qemu-dm.sh');
    writeFileSync(file, script);
    return processLauncher({
      command: ['/bin/sh', file],
      logDirectory: join(directory, 'log'),
      nrOldLogs: 2,
      env: { PATH: process.env['PATH'], WORD: 'hello' },
    });
  };

  const run = (dm: DeviceModelLauncher, fresh: boolean): Promise<number | null> =>
    new Promise((onExit) => dm.start({ name: 'g', args: ['-d', '7'], fresh, onExit }));

  test('they write a log each, of which some are kept', async () => {
    const dm = launcher('echo $WORD $$; echo \'{"msg":"cannot start","err":{"message":"no port"}}\' >&2; exit 3');
    for (const fresh of [true, true, true, true, false]) expect(await run(dm, fresh)).toBe(3);
    const log = (end: string): string => readFileSync(join(directory, 'log', `qemu-dm-g.log${end}`), 'utf8');
    expect(log('').match(/hello/g)).toHaveLength(2);
    expect([log('.1'), log('.2')].map((text) => text.match(/hello/g)?.length)).toEqual([1, 1]);
    expect(() => log('.3')).toThrow();
    expect(dm.lastWords('g')).toBe('cannot start: no port');
  });

  test('they are known by their number and their domain', async () => {
    const dm = launcher('while :; do sleep 1; done');
    const exit = Promise.withResolvers<number | null>();
    const pid = dm.start({ name: 'g', args: ['-d', '7'], fresh: true, onExit: exit.resolve });
    for (const end = Date.now() + 4000; !dm.isAlive(pid, 7);) {
      if (Date.now() > end) throw new Error('never alive');
      await new Promise((done) => setTimeout(done, 5));
    }
    expect([dm.isAlive(pid, 8), dm.isAlive(process.pid, 7)]).toEqual([false, false]);
    dm.end(pid, 'SIGKILL');
    expect(await exit.promise).toBeNull();
    expect(dm.isAlive(pid, 7)).toBe(false);
    dm.end(pid, 'SIGHUP');
  });
});
