/** Keys of xend-config.sxp that change what xend does, each by what it changes. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { openXendLog } from '../node/log.ts';
import { config, xendFixture } from '../testing/xend-fixture.ts';
import { parseConfig } from './config.ts';
import { DEFAULT_SETTINGS, idleKeys, settingsOf } from './settings.ts';

const places = { state: '/lib/xend', logFile: '/log/xend.log' };
const parse = (text: string) => parseConfig(text, 'c.sxp', places).config;

const host = xendFixture();
const { call, fault } = host;
/** xend takes the settings of this configuration over. */
const configure = async (text: string): Promise<void> => {
  host.settings = settingsOf(parse(text));
  await host.restart();
};

test('without a file they are those of Xen 4.4', () => {
  const { screen, ...settings } = settingsOf(parse(''));
  expect(settings).toEqual(DEFAULT_SETTINGS);
  expect(screen).toEqual({ listen: '127.0.0.1', password: '', keymap: '', tls: '' });
  expect(DEFAULT_SETTINGS).toMatchObject({ deviceCreateTimeoutMs: 100_000, deviceDestroyTimeoutMs: 100_000 });
});

test('screens', () => {
  const { screen } = settingsOf(
    parse("(vnc-listen 0.0.0.0) (vncpasswd secret) (keymap de) (vnc-tls 1) (vnc-x509-cert-dir /etc/c) (vnc-x509-verify 1)"),
  ); // prettier-ignore
  expect(screen).toEqual({ listen: '0.0.0.0', password: 'secret', keymap: 'de', tls: ',tls,x509verify=/etc/c' });
});

test('vif-script and console-limit', async () => {
  await configure('(vif-script vif-route) (console-limit 3)');
  const vif = (...more: XmlRpcValue[]): XmlRpcValue => ['device', ['vif', ...more]];
  await call('xend.domain.create', config('g', vif(), vif(['script', 'vif-nat'])));
  const script = (index: number) => host.store.tryRead(`/local/domain/0/backend/vif/1/${index}/script`);
  expect([await script(0), await script(1)]).toEqual(['/etc/xen/scripts/vif-route', '/etc/xen/scripts/vif-nat']);
  expect(await host.store.tryRead('/local/domain/1/console/limit')).toBe('3072');
});

test('device-create-timeout', async () => {
  await configure('(device-create-timeout 0)');
  await call('xend.domain.create', config('g'));
  const disk: XmlRpcValue = ['vbd', ['uname', 'file:/disk.img'], ['dev', 'xvda'], ['mode', 'w']];
  expect(await fault('xend.domain.device_create', 'g', disk)).toEqual([
    2,
    'Device 51712 (vbd) could not be connected. Hotplug scripts not working.',
  ]);
  expect(await host.tree('/local/domain/0/backend/vbd')).toEqual([]);
  expect(await call('xend.domain.getDeviceSxprs', 'g', 'vbd')).toEqual([]);
});

describe('device-destroy-timeout', () => {
  const disk = config('g', ['device', ['vbd', ['uname', 'file:/disk.img'], ['dev', 'xvda'], ['mode', 'w']]]);
  const backend = '/local/domain/0/backend/vbd/1/51712';
  const unplug = () => fault('xend.domain.destroyDevice', 'g', 'vbd', 'xvda', false, true);
  const devices = async () => ((await call('xend.domain.getDeviceSxprs', 'g', 'vbd')) as XmlRpcValue[]).length;

  beforeEach(async () => {
    await configure('(device-destroy-timeout 0)');
    await call('xend.domain.create', disk);
    await host.store.write(`${backend}/hotplug-status`, 'connected');
    await host.store.write(`${backend}/state`, '4');
  });

  test('a device that its guest uses stays, and goes when the guest lets go', async () => {
    expect(await unplug()).toEqual([2, 'Device xvda (vbd) could not be disconnected. ']);
    expect(await host.store.tryRead(`${backend}/state`)).toBe('5');
    expect(await devices()).toBe(1);
    await host.store.write(`${backend}/state`, '6');
    for (let turn = 0; turn < 1000 && (await devices()) > 0; turn += 1);
    expect([await devices(), await host.store.exists(backend)]).toEqual([0, false]);
    expect(await unplug()).toEqual([2, 'Device xvda not connected']);
  });

  test('another xend follows it too', async () => {
    await unplug();
    await host.restart();
    expect(await devices()).toBe(1);
    await host.store.write(`${backend}/state`, '6');
    for (let turn = 0; turn < 1000 && (await devices()) > 0; turn += 1);
    expect([await devices(), await host.store.exists(backend)]).toEqual([0, false]);
  });

  test('force takes it away, and the end of the domain does', async () => {
    await unplug();
    expect(await fault('xend.domain.destroyDevice', 'g', 'vbd', 'xvda', true, true)).toEqual([0, 'no fault']);
    expect(await host.store.exists(backend)).toBe(false);
  });
});

describe('Domain-0', () => {
  test('dom0-min-mem', async () => {
    const dom0 = host.xc.domains.get(0)!;
    dom0.pages = (64 << 20) / 4096;
    await configure('(dom0-min-mem 48)');
    expect(await fault('xend.domain.setMemoryTarget', 0, 40)).toEqual([2, 'memory_dynamic_max too small']);
    expect(await fault('xend.domain.setMemoryTarget', 0, 50)).toEqual([0, 'no fault']);
  });

  test('enable-dom0-ballooning, which follows dom0-min-mem', async () => {
    const big: XmlRpcValue = [
      'vm',
      ['name', 'big'],
      ['memory', 4096],
      ['image', ['linux', ['kernel', '/boot/vmlinuz']]],
    ];
    expect(await fault('xend.domain.create', big)).toEqual([2, expect.stringMatching(/^Not enough free memory and enable-dom0-ballooning is False, so I cannot release any more\. {2}I need 4195328 KiB but only have \d+\.$/)]); // prettier-ignore
    await configure('(dom0-min-mem 16)');
    expect(await fault('xend.domain.create', big)).toEqual([2, expect.stringMatching(/^I need 4195328 KiB, but dom0_min_mem is 16384 and shrinking to 16384 KiB would leave only \d+ KiB free\.$/)]); // prettier-ignore
  });

  test('dom0-cpus', async () => {
    Object.assign(host.xc.domains.get(0)!, { maxVcpus: 2 });
    await configure('(dom0-cpus 1)');
    expect(await host.store.tryRead('/local/domain/0/cpu/0/availability')).toBe('online');
    expect(await host.store.tryRead('/local/domain/0/cpu/1/availability')).toBe('offline');
  });
});

test('keys that have nothing to do here are told', () => {
  const defaults = parse('');
  expect(idleKeys(defaults, defaults)).toEqual([]);
  expect(idleKeys(parse('(network-script network-bridge) (xend-udev-event-server yes)'), defaults)).toEqual([
    'network-script network-bridge is not run: the bridges are those of netback (docs/NETWORK.md)',
    'xend-udev-event-server true has nothing to tell: no devices of this host are given to guests',
  ]);
});

test('loglevel', () => {
  expect(() => parse('(loglevel LOUD)')).toThrow("c.sxp: line 1: invalid xend config loglevel: Unknown level: 'LOUD'");
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  try {
    const file = join(directory, 'xend.log');
    const log = openXendLog(file, parse('(loglevel WARNING)').loglevel);
    log.info('a', 'not this');
    log.warn('a', 'this');
    log.reopen(join(directory, 'other.log'), 'ERROR');
    log.warn('a', 'nor this');
    log.error('a', 'and this');
    expect(readFileSync(file, 'utf8')).toMatch(/^\[.*\] WARNING \(a\) this\n$/);
    expect(log.read()).toMatch(/^\[.*\] ERROR \(a\) and this\n$/);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('folders of the state may be elsewhere', async () => {
  const elsewhere = join(host.directory, 'elsewhere');
  host.folders = { domains: `${elsewhere}/d`, state: `${elsewhere}/s`, storage: `${elsewhere}/i` };
  await host.restart();
  await call('xend.domain.new', config('kept', ['uuid', '11111111-2222-4333-8444-555555555555']));
  expect(readFileSync(`${elsewhere}/d/11111111-2222-4333-8444-555555555555/config.sxp`, 'utf8')).toContain('kept');
  await host.restart();
  expect(await host.names()).toContain('kept');
});
