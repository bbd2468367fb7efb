/**
 * Networks: bridges of the network backend by name (Xen 4.4 `XendNetwork.py`). Those of its configuration are told by it in
 * xenstore, below /tool/netback/bridges, and are not ours to change; those that are made here are listed for it below
 * /tool/netback/networks. A name is the value of its node: xenstore's own names have no dots.
 */
import { messageOf } from '../errors.ts';
import type { JsonRecord } from './state.ts';
import { flagIn, textIn } from './state.ts';
import type { World } from './world.ts';

const TABLE = 'network';
const BRIDGES = '/tool/netback/bridges';
const MADE = '/tool/netback/networks';
/** The bridge of vifs that name none. */
const DEFAULT_BRIDGE = 'xenbr0';

export const networkRecord = (world: World, ref: string): JsonRecord | undefined => world.state.table(TABLE).get(ref);

export async function putNetwork(world: World, ref: string, record: JsonRecord): Promise<void> {
  const before = networkRecord(world, ref);
  await world.state.put(TABLE, ref, record);
  const isManaged = (known: JsonRecord | undefined): boolean => known !== undefined && flagIn(known, 'managed');
  if (isManaged(record) && textIn(record, 'name_label') !== textIn(before, 'name_label')) await tellMade(world);
}

export async function removeNetwork(world: World, ref: string): Promise<void> {
  await world.state.remove(TABLE, ref);
  await tellMade(world);
}

export const allNetworks = (world: World): string[] => [...world.state.table(TABLE).keys()];

/** The network that a vif is on. */
export function networkOfBridge(world: World, bridge: string): string | undefined {
  const name = bridge || DEFAULT_BRIDGE;
  return allNetworks(world).find((ref) => textIn(networkRecord(world, ref), 'name_label') === name);
}

/** Lists the networks that are made here for the network backend. */
async function tellMade(world: World): Promise<void> {
  const { store } = world.manager.ports;
  const made = new Map<string, string>();
  for (const ref of allNetworks(world)) {
    const record = networkRecord(world, ref);
    if (record && flagIn(record, 'managed')) made.set(ref, textIn(record, 'name_label'));
  }
  await store.transaction(async (t) => {
    for (const ref of await t.tryDirectory(MADE)) if (!made.has(ref)) await t.rm(`${MADE}/${ref}`);
    for (const [ref, name] of made) {
      if ((await t.tryRead(`${MADE}/${ref}`)) !== name) await t.write(`${MADE}/${ref}`, name);
    }
  });
}

/** There is a network for each bridge that the network backend has; without one that tells there is xenbr0. */
export async function findBridges(world: World): Promise<void> {
  const { store } = world.manager.ports;
  const nodes = await store.tryDirectory(BRIDGES);
  const told = await Promise.all(nodes.map(async (node) => (await store.tryRead(`${BRIDGES}/${node}`)) ?? ''));
  const names = new Set(told.length > 0 ? told : [DEFAULT_BRIDGE]);
  for (const name of names) {
    if (networkOfBridge(world, name) !== undefined) continue;
    await putNetwork(world, world.newRef(), {
      name_label: name,
      name_description: '',
      managed: false,
      default_gateway: '',
      default_netmask: '',
      other_config: {},
    });
  }
  if (told.length === 0) return;
  for (const ref of allNetworks(world)) {
    const record = networkRecord(world, ref);
    if (!record || flagIn(record, 'managed') || names.has(textIn(record, 'name_label'))) continue;
    await world.state.remove(TABLE, ref);
  }
}

export async function loadNetworks(world: World): Promise<void> {
  try {
    await findBridges(world);
    await tellMade(world);
  } catch (error) {
    world.manager.ports.log.error('XendNetwork', `Cannot tell of networks: ${messageOf(error)}`, error);
  }
}
