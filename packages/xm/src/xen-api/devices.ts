/** Disks and network interfaces by way of the Xen-API, in the shapes of the legacy methods (Xen 4.4 `main.py`). */
import type { Sxp } from '@xenhost/sxp';
import { isMac, noSuchDevice } from '../commands/words.ts';
import { InvalidArgument, OptionError } from '../errors.ts';
import type { XenApi } from './session.ts';
import { pythonPairs } from './python-pairs.ts';
import { isStruct, textOf } from './values.ts';

export const vifsOf =
  (api: XenApi) =>
  async (dom: string): Promise<readonly Sxp[]> => {
    const devices: Sxp[] = [];
    for (const [index, ref] of (await api.list('VM.get_VIFs', await api.vm(dom))).entries()) {
      const properties = await api.record('VIF.get_runtime_properties', ref);
      devices.push([index, pythonPairs({ ...properties, mac: await api.text('VIF.get_MAC', ref) })]);
    }
    return devices;
  };

export const vbdsOf =
  (api: XenApi) =>
  async (dom: string): Promise<readonly Sxp[]> => {
    const devices: Sxp[] = [];
    for (const ref of await api.list('VM.get_VBDs', await api.vm(dom))) {
      const properties = await api.record('VBD.get_runtime_properties', ref);
      const number = textOf(properties['virtual-device']) || (await api.text('VBD.get_device', ref));
      devices.push([number, pythonPairs(properties)]);
    }
    return devices;
  };

/** SCSI devices by their host adapter, as `getDeviceSxprs` has them: those of one adapter share its other properties. */
export const dscsisOf =
  (api: XenApi) =>
  async (dom: string): Promise<readonly Sxp[]> => {
    const adapters = new Map<number, { readonly devs: Sxp[]; readonly others: readonly Sxp[] }>();
    for (const ref of await api.list('VM.get_DSCSIs', await api.vm(dom))) {
      const { dev = null, ...others } = await api.record('DSCSI.get_runtime_properties', ref);
      if (!isStruct(dev)) continue;
      const devid = Number(textOf(dev['devid']));
      const adapter = adapters.get(devid) ?? { devs: [], others: pythonPairs(others) };
      adapter.devs.push(['dev', ...pythonPairs(dev)]);
      adapters.set(devid, adapter);
    }
    return [...adapters].map(([devid, { devs, others }]): Sxp => [devid, [['devs', devs], ...others]]);
  };

const SECTOR_BYTES = 512;

/** A disk: a VDI for what is behind it, and the VBD. */
export async function createVbd(api: XenApi, dom: string, words: readonly string[]): Promise<void> {
  const [uname = '', device = '', mode = ''] = words;
  const vdi = await api.text('VDI.create', {
    name_label: `vdi-${device}`,
    name_description: '',
    SR: await localSr(api),
    virtual_size: 0,
    sector_size: SECTOR_BYTES,
    type: 'system',
    sharable: false,
    read_only: mode !== 'w',
    other_config: { location: uname },
  });
  await api.call('VBD.create', {
    VM: await api.vm(dom),
    VDI: vdi,
    device,
    bootable: true,
    mode: mode === 'w' ? 'RW' : 'RO',
    type: 'Disk',
    qos_algorithm_type: '',
    qos_algorithm_params: {},
  });
}

/** The repository of files of this host. */
export async function localSr(api: XenApi): Promise<string> {
  for (const ref of await api.list('SR.get_all')) if ((await api.text('SR.get_type', ref)) === 'local') return ref;
  throw new OptionError('There is no local storage repository', { after: '' });
}

export async function destroyVbd(api: XenApi, dom: string, device: string): Promise<void> {
  for (const ref of await api.list('VM.get_VBDs', await api.vm(dom))) {
    if ((await api.text('VBD.get_device', ref)) !== device) continue;
    const vdi = await api.text('VBD.get_VDI', ref);
    await api.call('VBD.destroy', ref);
    if ((await api.list('VDI.get_VBDs', vdi)).length === 0) await api.call('VDI.destroy', vdi);
    return;
  }
  throw noSuchDevice(device, dom);
}

export async function createVif(api: XenApi, vm: string, pairs: readonly (readonly [string, string])[]): Promise<void> {
  const given = new Map(pairs);
  const other = ['ip', 'script', 'backend', 'accel'].flatMap((key) => {
    const value = given.get(key);
    return value === undefined ? [] : [[key, value] as const];
  });
  const rate = given.get('rate');
  await api.call('VIF.create', {
    device: given.get('vifname') ?? 'eth0',
    network: await networkOf(api, given.get('bridge')),
    VM: vm,
    MAC: given.get('mac') ?? '',
    MTU: '',
    qos_algorithm_type: '',
    qos_algorithm_params: rate === undefined ? {} : { rate },
    other_config: Object.fromEntries(other),
  });
}

/** The network of that name, else the first. Throws what `missing` makes of the name. */
export async function networkOf(
  api: XenApi,
  bridge: string | undefined,
  missing: (name: string) => Error = () => new InvalidArgument(),
): Promise<string> {
  const networks = await api.records('network.get_all_records');
  const found = bridge === undefined ? networks[0] : networks.find(([, record]) => record['name_label'] === bridge);
  if (!found) throw missing(bridge ?? '');
  return found[0];
}

export async function destroyVif(api: XenApi, dom: string, devid: string): Promise<void> {
  for (const ref of await api.list('VM.get_VIFs', await api.vm(dom))) {
    const matches = isMac(devid)
      ? (await api.text('VIF.get_MAC', ref)).toLowerCase() === devid.toLowerCase()
      : textOf((await api.record('VIF.get_runtime_properties', ref))['handle']) === devid;
    if (!matches) continue;
    await api.call('VIF.destroy', ref);
    return;
  }
  throw noSuchDevice(devid, dom);
}
