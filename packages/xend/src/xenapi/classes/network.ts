/** network, PIF, PIF_metrics: bridges, and the host's own interfaces (Xen 4.4 `XendNetwork.py`, `XendPIF.py`). */
import { devicesOf, isVif, option } from '../devices.ts';
import {
  invalidDevice,
  limitReached,
  networkError,
  uniqueName,
  unmanagedNetwork,
  unspecifiedAttribute,
  valueNotSupported,
  vlanTagInvalid,
} from '../errors.ts';
import { MAX_RECORDS } from '../limits.ts';
import { allNetworks, findBridges, networkOfBridge, networkRecord, putNetwork, removeNetwork } from '../networks.ts';
import { flagIn, mapIn, textIn, type JsonRecord } from '../state.ts';
import { defineClass, emptyClass, writer, type Field } from '../table.ts';
import { convert } from '../values.ts';
import type { World } from '../world.ts';

interface Network {
  readonly ref: string;
  readonly record: JsonRecord;
}

const { ro, rw, func, method } = writer<Network>();

/** What the network backend takes for a bridge's name. */
const BRIDGE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/;

const vifsOf = (world: World, ref: string): string[] =>
  devicesOf(world, isVif)
    .filter(({ config }) => networkOfBridge(world, option(config, 'bridge')) === ref)
    .map(({ config }) => config.uuid);

const change = (world: World, { ref, record }: Network, changes: JsonRecord): Promise<void> =>
  putNetwork(world, ref, { ...record, ...changes });

const text = (name: string): Field<Network> =>
  rw(name, 'string', (_, { record }) => textIn(record, name), (world, self, value) => change(world, self, { [name]: value })); // prettier-ignore

function checkBridge(world: World, name: string): void {
  if (!BRIDGE_NAME.test(name)) throw valueNotSupported('network.name_label', name, 'a name of a bridge is required');
  if (networkOfBridge(world, name) !== undefined) throw uniqueName(name, 'network');
}

/** In the order in which xend looks for them. */
const REQUIRED = ['name_label', 'name_description', 'other_config', 'default_gateway', 'default_netmask'];

export const network = defineClass<Network>({
  name: 'network',
  doc: 'A bridge that virtual interfaces are on.',
  async all(world) {
    await findBridges(world);
    return allNetworks(world).map((ref) => ({ ref, record: networkRecord(world, ref) ?? {} }));
  },
  find(world, ref) {
    const record = networkRecord(world, ref);
    return record && { ref, record };
  },
  refOf: ({ ref }) => ref,
  label: ({ record }) => textIn(record, 'name_label'),
  fields: [
    rw(
      'name_label',
      'string',
      (_, { record }) => textIn(record, 'name_label'),
      async (world, self, name) => {
        const current = textIn(self.record, 'name_label');
        if (name === current) return;
        if (!flagIn(self.record, 'managed')) throw unmanagedNetwork('name_label');
        if (vifsOf(world, self.ref).length > 0) throw networkError('Cannot rename network with VIFs attached', current);
        checkBridge(world, name);
        await change(world, self, { name_label: name });
      },
    ),
    text('name_description'),
    ro('VIFs', 'set', (world, { ref }) => vifsOf(world, ref)),
    ro('PIFs', 'set', () => []),
    text('default_gateway'),
    text('default_netmask'),
    ro('managed', 'bool', (_, { record }) => flagIn(record, 'managed')),
    rw(
      'other_config',
      'map',
      (_, { record }) => mapIn(record, 'other_config'),
      (world, self, map) => change(world, self, { other_config: map }),
      { entries: true },
    ),
  ],
  operations: [
    func({
      name: 'create',
      doc: 'Makes a network: a bridge of the network backend without a way out.',
      returns: 'network',
      params: [{ name: 'record', kind: 'struct' }],
      async run(world, _, record) {
        for (const name of REQUIRED) if (!Object.hasOwn(record, name)) throw unspecifiedAttribute(name, 'network');
        const given = (name: string): string => convert('string', record[name] ?? '', `network.${name}`);
        checkBridge(world, given('name_label'));
        if (allNetworks(world).length >= MAX_RECORDS) throw limitReached('networks', MAX_RECORDS);
        const ref = world.newRef();
        await putNetwork(world, ref, {
          name_label: given('name_label'),
          name_description: given('name_description'),
          default_gateway: given('default_gateway'),
          default_netmask: given('default_netmask'),
          other_config: convert('map', record['other_config'] ?? {}, 'network.other_config'),
          managed: true,
        });
        return ref;
      },
    }),
    method({
      name: 'destroy',
      doc: 'Takes away a network that no interface is on.',
      async run(world, _, { ref, record }) {
        if (vifsOf(world, ref).length > 0) {
          throw networkError('Cannot destroy network with VIFs attached', textIn(record, 'name_label'));
        }
        if (!flagIn(record, 'managed')) throw unmanagedNetwork('name_label');
        await removeNetwork(world, ref);
      },
    }),
  ],
});

const physical = writer<never>();
const MAX_VLAN = 4096;

/** The network backend's uplink is no interface of the host's: there are none here. */
export const pif = emptyClass({
  name: 'PIF',
  doc: 'A network interface of the host.',
  fields: [
    ['device', 'string'],
    ['network', 'ref'],
    ['host', 'ref'],
    ['MAC', 'string'],
    ['MTU', 'string'],
    ['VLAN', 'int'],
    ['metrics', 'ref'],
  ],
  writable: ['MAC', 'MTU'],
  operations: [
    physical.func({
      name: 'create_VLAN',
      doc: 'Makes an interface for a VLAN on another.',
      returns: 'PIF',
      params: [
        { name: 'device', kind: 'string' },
        { name: 'network', kind: 'ref' },
        { name: 'host', kind: 'ref' },
        { name: 'VLAN', kind: 'int' },
      ],
      run(_, __, device, ___, ____, vlan) {
        if (vlan < 0 || vlan >= MAX_VLAN) throw vlanTagInvalid(String(vlan));
        throw invalidDevice(device);
      },
    }),
    physical.method({ name: 'destroy', doc: 'Takes a VLAN’s interface away.', run: () => undefined }),
    physical.method({ name: 'plug', doc: 'Puts the interface on its network.', run: () => undefined }),
    physical.method({ name: 'unplug', doc: 'Takes the interface from its network.', run: () => undefined }),
  ],
});

export const pifMetrics = emptyClass({
  name: 'PIF_metrics',
  doc: 'How much a host’s interface sends and receives.',
  fields: [
    ['io_read_kbs', 'double'],
    ['io_write_kbs', 'double'],
    ['last_updated', 'datetime'],
    ['pif', 'ref'],
  ],
});
