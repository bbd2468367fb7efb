/** VBD: disks of machines (Xen 4.4 `XendAPI.py`, VBD_*); and VBD_metrics, which has the same references. */
import { float, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct } from '@xenhost/xmlrpc-codec';
import * as operations from '../../domain/operations.ts';
import {
  devicesOf,
  diskName,
  findDevice,
  isCd,
  isDisk,
  option,
  removeDevice,
  runtimeProperties,
  setOptions,
  type Device,
} from '../devices.ts';
import { handleInvalid, unspecifiedAttribute, valueNotSupported } from '../errors.ts';
import { defineClass, writer } from '../table.ts';
import { convert } from '../values.ts';
import { byteRates } from '../metrics.ts';
import { findVm } from './vm.ts';

const { ro, rw, func, method } = writer<Device>();

const common = {
  all: (world: Parameters<typeof devicesOf>[0]) => devicesOf(world, isDisk),
  find: (world: Parameters<typeof devicesOf>[0], ref: string) => findDevice(world, ref, isDisk),
  refOf: ({ config }: Device) => config.uuid,
};

/** The class of device that serves an image: `file:` and `phy:` are vbds, `tap:` and `tap2:` say it themselves. */
const classOf = (location: string): string => /^(tap2?):/.exec(location)?.[1] ?? 'vbd';

const MODES = ['RO', 'RW'];

export const vbd = defineClass<Device>({
  name: 'VBD',
  doc: 'A virtual disk of a machine.',
  ...common,
  fields: [
    ro('VM', 'ref', (_, { vm }) => vm.uuid),
    ro('VDI', 'ref', (world, { config }) => world.storage.behind(config)?.ref ?? ''),
    ro('device', 'string', (_, { config }) => diskName(config)),
    rw(
      'bootable',
      'bool',
      (_, { config }) => Number(option(config, 'bootable') || 0) !== 0,
      (world, device, on) => setOptions(world, device, { bootable: Number(on) }),
    ),
    rw(
      'mode',
      'string',
      (_, { config }) => (option(config, 'mode').startsWith('w') ? 'RW' : 'RO'),
      (world, device, mode) => {
        if (!MODES.includes(mode)) throw valueNotSupported('VBD.mode', mode, 'RO or RW is required');
        return setOptions(world, device, { mode: mode === 'RW' ? 'w' : 'r' });
      },
    ),
    ro('type', 'string', (_, { config }) => (isCd(config) ? 'CD' : 'Disk')),
    ro('metrics', 'ref', (_, { config }) => config.uuid),
    ro('runtime_properties', 'map', runtimeProperties),
  ],
  operations: [
    func({
      name: 'create',
      doc: 'Gives a machine a disk that is a VDI; a running machine gets it at once.',
      returns: 'VBD',
      params: [{ name: 'record', kind: 'struct' }],
      async run(world, _, record) {
        const read = reader(record);
        const vm = findVm(world, read('VM'));
        if (!vm) throw handleInvalid('VM', read('VM'));
        const vdi = world.storage.find(read('VDI'));
        if (!vdi) throw handleInvalid('VDI', read('VDI'));
        const device = read('device');
        if (device === '') throw unspecifiedAttribute('device', 'VBD');
        const type = read('type') || 'Disk';
        // Xen 4.4's xm writes it small, and xend took it.
        const isCdrom = type.toLowerCase() === 'cd';
        if (!isCdrom && type.toLowerCase() !== 'disk') {
          throw valueNotSupported('VBD.type', type, 'CD or Disk is required');
        }
        const mode = read('mode') || (vdi.readOnly ? 'RO' : 'RW');
        if (!MODES.includes(mode)) throw valueNotSupported('VBD.mode', mode, 'RO or RW is required');
        const bootable = record['bootable'];
        return world.storage.use(vdi, async () => {
          const uuid = world.newRef();
          const config: Sxp = [
            classOf(vdi.location),
            ['uuid', uuid],
            ['uname', vdi.location],
            ['dev', `${device}:${isCdrom ? 'cdrom' : 'disk'}`],
            ['mode', mode === 'RW' && !vdi.readOnly ? 'w' : 'r'],
            ['VDI', vdi.ref],
            ...(bootable === undefined ? [] : [['bootable', Number(convert('bool', bootable, 'VBD.bootable'))]]),
          ];
          await operations.addDevice(world.manager, vm, config);
          return uuid;
        });
      },
    }),
    method({
      name: 'destroy',
      doc: 'Takes the disk away; its VDI stays.',
      run: (world, _, device) => removeDevice(world, device),
    }),
    method({
      name: 'media_change',
      doc: 'Puts another VDI into a CD drive.',
      params: [{ name: 'vdi', kind: 'ref' }],
      async run(world, _, device, ref) {
        const { config, vm } = device;
        if (!isCd(config) || option(config, 'mode').startsWith('w')) throw handleInvalid('VBD', config.uuid);
        const vdi = world.storage.find(ref);
        if (!vdi) throw handleInvalid('VDI', ref);
        const sxp: Sxp = [config.class, ['uname', vdi.location], ['dev', option(config, 'dev')], ['mode', 'r']];
        await world.legacyOf('xend.domain.device_configure', vm, sxp);
        const current = findDevice(world, config.uuid, isDisk);
        if (current) await setOptions(world, current, { uname: vdi.location, VDI: vdi.ref });
      },
    }),
  ],
});

function reader(record: XmlRpcStruct): (name: string) => string {
  return (name) => convert('string', (Object.hasOwn(record, name) ? record[name] : undefined) ?? '', `VBD.${name}`);
}

const metric = writer<Device>();

export const vbdMetrics = defineClass<Device>({
  name: 'VBD_metrics',
  doc: 'How much a disk is read and written.',
  ...common,
  fields: [
    metric.ro('io_read_kbs', 'double', async (world, device) => float((await byteRates(world, device)).read)),
    metric.ro('io_write_kbs', 'double', async (world, device) => float((await byteRates(world, device)).write)),
    metric.ro('last_updated', 'datetime', (world) => world.now()),
  ],
});
