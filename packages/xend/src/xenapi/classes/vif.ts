/** VIF: network interfaces of machines (Xen 4.4 `XendAPI.py`, VIF_*); and VIF_metrics, which has the same references. */
import { float, type Sxp } from '@xenhost/sxp';
import * as operations from '../../domain/operations.ts';
import {
  devicesOf,
  findDevice,
  interfaceName,
  isVif,
  option,
  removeDevice,
  runtimeProperties,
  type Device,
} from '../devices.ts';
import { handleInvalid, valueNotSupported } from '../errors.ts';
import { byteRates } from '../metrics.ts';
import { networkOfBridge, networkRecord } from '../networks.ts';
import { textIn } from '../state.ts';
import { defineClass, writer } from '../table.ts';
import { convert } from '../values.ts';
import { setSecurityLabel } from './labels.ts';
import { findVm } from './vm.ts';

const { ro, func, method } = writer<Device>();

const DEFAULT_MTU = '1500';
const MAX_MTU = 65_535;
const MIN_MTU = 68;

const common = {
  all: (world: Parameters<typeof devicesOf>[0]) => devicesOf(world, isVif),
  find: (world: Parameters<typeof devicesOf>[0], ref: string) => findDevice(world, ref, isVif),
  refOf: ({ config }: Device) => config.uuid,
};

export const vif = defineClass<Device>({
  name: 'VIF',
  doc: 'A virtual network interface of a machine.',
  ...common,
  fields: [
    ro('VM', 'ref', (_, { vm }) => vm.uuid),
    ro('network', 'ref', (world, { config }) => networkOfBridge(world, option(config, 'bridge')) ?? ''),
    ro('device', 'string', (_, device) => option(device.config, 'device') || interfaceName(device)),
    ro('MAC', 'string', (_, { config }) => option(config, 'mac')),
    ro('MTU', 'string', (_, { config }) => option(config, 'mtu') || DEFAULT_MTU),
    ro('metrics', 'ref', (_, { config }) => config.uuid),
    ro('security_label', 'string', () => ''),
    ro('runtime_properties', 'map', runtimeProperties),
  ],
  operations: [
    func({
      name: 'create',
      doc: 'Gives a machine a network interface; a running machine gets it at once.',
      returns: 'VIF',
      params: [{ name: 'record', kind: 'struct' }],
      async run(world, _, record) {
        const read = (name: string): string =>
          convert('string', (Object.hasOwn(record, name) ? record[name] : undefined) ?? '', `VIF.${name}`);
        const vm = findVm(world, read('VM'));
        if (!vm) throw handleInvalid('VM', read('VM'));
        const ref = read('network');
        const network = ref === '' ? undefined : networkRecord(world, ref);
        if (ref !== '' && !network) throw handleInvalid('network', ref);
        const mtu = read('MTU');
        if (mtu !== '' && !(Number(mtu) >= MIN_MTU && Number(mtu) <= MAX_MTU)) {
          throw valueNotSupported('VIF.MTU', mtu, `${MIN_MTU} to ${MAX_MTU} are allowed`);
        }
        const uuid = world.newRef();
        const given = (key: string, value: string): Sxp[] => (value === '' ? [] : [[key, value]]);
        const config: Sxp = [
          'vif',
          ['uuid', uuid],
          ...given('mac', read('MAC')),
          ...given('bridge', textIn(network, 'name_label')),
          ...given('mtu', mtu),
          ...given('device', read('device')),
        ];
        await operations.addDevice(world.manager, vm, config);
        return uuid;
      },
    }),
    method({
      name: 'destroy',
      doc: 'Takes the interface away.',
      run: (world, _, device) => removeDevice(world, device),
    }),
    setSecurityLabel(method),
  ],
});

const metric = writer<Device>();

export const vifMetrics = defineClass<Device>({
  name: 'VIF_metrics',
  doc: 'How much an interface sends and receives.',
  ...common,
  fields: [
    metric.ro('io_read_kbs', 'double', async (world, device) => float((await byteRates(world, device)).read)),
    metric.ro('io_write_kbs', 'double', async (world, device) => float((await byteRates(world, device)).write)),
    metric.ro('io_total_read_kbs', 'double', async (world, device) =>
      float((await byteRates(world, device)).totalRead),
    ),
    metric.ro('io_total_write_kbs', 'double', async (world, device) =>
      float((await byteRates(world, device)).totalWrite),
    ),
    metric.ro('last_updated', 'datetime', (world) => world.now()),
  ],
});
