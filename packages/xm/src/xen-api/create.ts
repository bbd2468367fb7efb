/** A domain by way of the Xen-API: its VDIs, the VM, its VBDs, VIFs and consoles (Xen 4.4 `xenapi_create.py`). */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Sxp } from '@xenhost/sxp';
import { CommandFailed, OptionError } from '../errors.ts';
import type { World } from '../world.ts';
import { XmlError, descendants, parseXml, type XmlElement } from '../xml.ts';
import { localSr, networkOf } from './devices.ts';
import { machineOfSxp, type Disk, type Machine } from './machine.ts';
import { machineOfXml } from './machine-xml.ts';
import type { XenApi } from './session.ts';
import { structOf } from './values.ts';

/** `transient` for a machine that goes when its domain ends, as `xm create` makes them and `xm new` does not. */
export const createFromSxp = (api: XenApi, config: Sxp, transient: boolean): Promise<string> =>
  build(api, machineOfSxp(config, transient));

/** Every <vm> of a file. Throws CommandFailed. */
export async function createFromXml(api: XenApi, file: string, world: World): Promise<string[]> {
  let root: XmlElement;
  try {
    root = parseXml(readFileSync(resolve(world.cwd, file), 'utf8'));
  } catch (error) {
    if (error instanceof XmlError) throw new CommandFailed(`${file}: ${error.message}`);
    throw error;
  }
  const vdis = new Map(descendants(root, 'vdi').map((vdi) => [vdi.attributes['name'] ?? '', vdi]));
  const refs: string[] = [];
  for (const vm of descendants(root, 'vm')) refs.push(await build(api, machineOfXml(vm, vdis)));
  return refs;
}

/** What a failed creation leaves is taken away again. */
async function build(api: XenApi, machine: Machine): Promise<string> {
  const made: string[] = [];
  let vm: string | undefined;
  try {
    const vdis = await vdisOf(api, machine.disks, made);
    vm = await api.text('VM.create', machine.record);
    await addDevices(api, vm, machine, vdis);
    return vm;
  } catch (error) {
    if (vm !== undefined) await api.call('VM.destroy', vm).catch(() => undefined);
    for (const vdi of made) await api.call('VDI.destroy', vdi).catch(() => undefined);
    throw error;
  }
}

/** For each disk the VDI of its place: the one that is there, else a new one, which goes into `made`. */
async function vdisOf(api: XenApi, disks: readonly Disk[], made: string[]): Promise<string[]> {
  if (disks.length === 0) return [];
  const byLocation = new Map<string, string>();
  for (const [ref, record] of await api.records('VDI.get_all_records')) {
    const { location } = structOf(record['other_config']);
    if (typeof location === 'string' && !byLocation.has(location)) byLocation.set(location, ref);
  }
  const vdis: string[] = [];
  for (const { uname, mode, sizeBytes } of disks) {
    let vdi = byLocation.get(uname);
    if (vdi === undefined) {
      vdi = await api.text('VDI.create', {
        name_label: uname,
        name_description: '',
        SR: await localSr(api),
        virtual_size: sizeBytes,
        type: 'system',
        sharable: false,
        read_only: mode === 'RO',
        other_config: { location: uname },
      });
      made.push(vdi);
      byLocation.set(uname, vdi);
    }
    vdis.push(vdi);
  }
  return vdis;
}

async function addDevices(api: XenApi, vm: string, machine: Machine, vdis: readonly string[]): Promise<void> {
  for (const [i, { device, bootable, mode, type }] of machine.disks.entries()) {
    await api.call('VBD.create', {
      VM: vm,
      VDI: vdis[i] ?? '',
      device,
      bootable,
      mode,
      type,
      driver: 'paravirtualised',
    });
  }
  for (const [i, { mac, network }] of machine.nics.entries()) {
    const ref = await networkOf(
      api,
      network,
      (name) => new OptionError(`Network ${name} doesn't exist`, { after: '' }),
    );
    await api.call('VIF.create', { VM: vm, network: ref, device: `eth${i}`, MAC: mac, MTU: '' });
  }
  for (const { protocol, otherConfig } of machine.consoles) {
    await api.call('console.create', { VM: vm, protocol, other_config: otherConfig });
  }
}
