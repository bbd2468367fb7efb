import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { playBackends } from './testing/backends.ts';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, tree } = host;

describe('devices', () => {
  const vif: XmlRpcValue = ['vif', ['bridge', 'xenbr0'], ['mac', '00:16:3e:01:02:03'], ['rate', '10Mb/s@20ms']];
  const vbd: XmlRpcValue = ['vbd', ['uname', 'file:/disk.img'], ['dev', 'xvda'], ['mode', 'w']];
  const make = (...devices: XmlRpcValue[]) =>
    call('xend.domain.create', config('g', ...devices.map((device): XmlRpcValue => ['device', device])));

  it('stand in xenstore as backends and frontends expect', async () => {
    await make(vif, vbd);
    const nodes = async (path: string) =>
      (await tree(path)).map((line) => line.slice(path.length + 1)).filter((line) => !line.startsWith('uuid')).sort(); // prettier-ignore
    expect(await nodes('/local/domain/0/backend/vif/1/0')).toEqual([
      'bridge = xenbr0',
      'domain = g',
      'frontend = /local/domain/1/device/vif/0',
      'frontend-id = 1',
      'handle = 0',
      'mac = 00:16:3e:01:02:03',
      'online = 1',
      'rate = 25000,20000',
      'script = /etc/xen/scripts/vif-bridge',
      'state = 1',
    ]);
    expect(await nodes('/local/domain/1/device/vif/0')).toEqual([
      'backend = /local/domain/0/backend/vif/1/0',
      'backend-id = 0',
      'handle = 0',
      'mac = 00:16:3e:01:02:03',
      'protocol = x86_64-abi',
      'state = 1',
    ]);
    expect(await nodes('/local/domain/0/backend/vbd/1/51712')).toEqual([
      'bootable = 1',
      'dev = xvda',
      'domain = g',
      'frontend = /local/domain/1/device/vbd/51712',
      'frontend-id = 1',
      'mode = w',
      'online = 1',
      'params = /disk.img',
      'state = 1',
      'type = file',
    ]);
    expect(await nodes('/local/domain/1/device/vbd/51712')).toEqual([
      'backend = /local/domain/0/backend/vbd/1/51712',
      'backend-id = 0',
      'device-type = disk',
      'protocol = x86_64-abi',
      'state = 1',
      'virtual-device = 51712',
    ]);
    expect(await host.store.getPerms('/local/domain/0/backend/vbd/1/51712')).toEqual([
      { domid: 0, access: 'none' },
      { domid: 1, access: 'read' },
    ]);
    expect(await host.store.getPerms('/local/domain/1/device/vbd/51712')).toEqual([
      { domid: 1, access: 'none' },
      { domid: 0, access: 'read' },
    ]);
    expect(await call('xend.domain.getDeviceSxprs', 'g', 'vbd')).toEqual([
      [
        51712,
        [
          ['backend', '/local/domain/0/backend/vbd/1/51712'],
          ['backend-id', '0'],
          ['device-type', 'disk'],
          ['protocol', 'x86_64-abi'],
          ['state', '1'],
          ['virtual-device', '51712'],
        ],
      ],
    ]);
    expect(await call('xend.domain.getBlockDeviceClass', 'g', 'xvda')).toBe('vbd');
  });

  it('are shown of a running machine as they stand in xenstore', async () => {
    const made = (await make(vif, vbd, ['vkbd'])) as readonly (readonly [string, readonly XmlRpcValue[]])[];
    const withoutUuid = made.flatMap(([key, device]) =>
      key === 'device' ? [device.filter((pair) => (pair as readonly XmlRpcValue[])[0] !== 'uuid')] : [],
    );
    expect(withoutUuid).toEqual([
      ['vif', ['bridge', 'xenbr0'], ['script', '/etc/xen/scripts/vif-bridge'], ['rate', '25000,20000'], ['mac', '00:16:3e:01:02:03'], ['backend', 0]],
      ['vkbd', ['backend', 0]],
      ['console', ['protocol', 'vt100'], ['location', 2]],
      ['vbd', ['protocol', 'x86_64-abi'], ['bootable', 1], ['dev', 'xvda:disk'], ['uname', 'file:/disk.img'], ['mode', 'w'], ['backend', 0], ['VDI', '']],
    ]); // prettier-ignore
  });

  it.each([
    ['error', 'no such bridge', 'Device 0 (vif) could not be connected. no such bridge'],
    ['error', undefined, 'Device 0 (vif) could not be connected. Backend device not found.'],
    ['busy', undefined, 'Device 0 (vif) could not be connected.\nBusy.'],
    ['connected', undefined, undefined],
  ])('waiting for a backend that says %s (%s)', async (status, error, expected) => {
    await make(vif);
    const waiting = fault('xend.domain.waitForDevices', 'g');
    if (error !== undefined) await host.store.write('/local/domain/0/backend/vif/1/0/hotplug-error', error);
    await host.store.write('/local/domain/0/backend/vif/1/0/hotplug-status', status);
    expect(await waiting).toEqual(expected === undefined ? [0, 'no fault'] : [2, expected]);
  });

  it('come and go', async () => {
    await make();
    const adding = call('xend.domain.device_create', 'g', vbd);
    for (let i = 0; i < 100 && !(await host.store.exists('/local/domain/0/backend/vbd/1/51712')); i += 1);
    await host.store.write('/local/domain/0/backend/vbd/1/51712/hotplug-status', 'connected');
    expect(await adding).toEqual(['vbd', ['dom', 1, 'id', 51712]]);
    expect(await fault('xend.domain.device_create', 'g', vbd)).toEqual([2, 'The device "xvda" is already defined']);
    const leaving = call('xend.domain.destroyDevice', 'g', 'vbd', 'xvda', false, true);
    for (let i = 0; i < 100 && (await host.store.tryRead('/local/domain/0/backend/vbd/1/51712/state')) !== '5'; i += 1);
    expect(await host.store.readString('/local/domain/0/backend/vbd/1/51712/online')).toBe('0');
    await host.store.write('/local/domain/0/backend/vbd/1/51712/state', '6');
    await leaving;
    expect(await call('xend.domain.getDeviceSxprs', 'g', 'vbd')).toEqual([]);
    expect(await fault('xend.domain.destroyDevice', 'g', 'vbd', 'xvda', false, true)).toEqual([
      2,
      'Device xvda not connected',
    ]);
  });

  it('a USB controller is told with its version and its ports', async () => {
    await make();
    const ports = ['port', ...Array.from({ length: 11 }, (_, i) => [String(i + 1), ''])];
    await call('xend.domain.device_create', 'g', ['vusb', ['usb-ver', '1'], ['num-ports', '11'], ports]);
    expect(await call('xend.domain.getDeviceSxprs', 'g', 'vusb')).toEqual([
      [0, [['backend-id', '0'], ['state', '1'], ['backend', '/local/domain/0/backend/vusb/1/0'], ['usb-ver', '1'], ['num-ports', '11'], ports]],
    ]); // prettier-ignore
  });

  it('a plug that waits for its backend keeps nobody from ending the domain', async () => {
    await make();
    const adding = fault('xend.domain.device_create', 'g', vbd);
    for (let i = 0; i < 100 && !(await host.store.exists('/local/domain/0/backend/vbd/1/51712')); i += 1);
    expect(await fault('xend.domain.destroy', 'g')).toEqual([0, 'no fault']);
    expect(await adding).toEqual([2, 'Device 51712 (vbd) could not be connected. Device not found.']);
    await host.xend.manager.settle();
    expect(await host.tree('/local/domain/0/backend/vbd')).toEqual([]);
    expect((await host.tree('/vm')).filter((line) => line.includes('device'))).toEqual([]);
  });

  it('many are plugged and unplugged at once, and nothing is left', async () => {
    const backends = playBackends(host.store);
    try {
      await make();
      const names = Array.from({ length: 12 }, (_, i) => `xvd${String.fromCharCode(98 + i)}`);
      const disk = (name: string): XmlRpcValue => ['vbd', ['uname', `file:/${name}`], ['dev', name], ['mode', 'w']];
      const plugged = await Promise.all([
        ...names.map((name) => fault('xend.domain.device_create', 'g', disk(name))),
        ...names.map(() => fault('xend.domain.device_create', 'g', ['vif', ['bridge', 'xenbr0']])),
      ]);
      expect(plugged).toEqual(plugged.map(() => [0, 'no fault']));
      expect(await call('xend.domain.getDeviceSxprs', 'g', 'vbd')).toHaveLength(12);
      const unplugged = await Promise.all([
        ...names.map((name) => fault('xend.domain.destroyDevice', 'g', 'vbd', name, false, true)),
        ...names.map((_, i) => fault('xend.domain.destroyDevice', 'g', 'vif', String(i), false, true)),
      ]);
      expect(unplugged).toEqual(unplugged.map(() => [0, 'no fault']));
      for (const path of ['/local/domain/0/backend/vbd', '/local/domain/0/backend/vif', '/local/domain/1/device']) {
        expect((await host.tree(path)).filter((line) => /\/\d+\/\w/.test(line.slice(path.length)))).toEqual([]);
      }
      expect(host.xend.manager.find('g')?.config.devices).toEqual([]);
    } finally {
      await backends.stop();
    }
  });
});
