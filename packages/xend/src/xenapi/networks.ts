/** Networks: bridges by name (Xen 4.4 `XendNetwork.py`). The network backend makes a bridge when its first vif comes. */
import type { JsonRecord } from './state.ts';
import { textIn } from './state.ts';
import type { World } from './world.ts';

const TABLE = 'network';
/** The bridge of vifs that name none. */
const DEFAULT_BRIDGE = 'xenbr0';

export const networkRecord = (world: World, ref: string): JsonRecord | undefined => world.state.table(TABLE).get(ref);

export const putNetwork = (world: World, ref: string, record: JsonRecord): Promise<void> =>
  world.state.put(TABLE, ref, record);

export const removeNetwork = (world: World, ref: string): Promise<void> => world.state.remove(TABLE, ref);

export const allNetworks = (world: World): string[] => [...world.state.table(TABLE).keys()];

/** The network that a vif is on. */
export function networkOfBridge(world: World, bridge: string): string | undefined {
  const name = bridge || DEFAULT_BRIDGE;
  return allNetworks(world).find((ref) => textIn(networkRecord(world, ref), 'name_label') === name);
}

/** At first there is the host's own bridge, which nobody may take away. */
export async function loadNetworks(world: World): Promise<void> {
  if (networkOfBridge(world, DEFAULT_BRIDGE) !== undefined) return;
  await putNetwork(world, world.newRef(), {
    name_label: DEFAULT_BRIDGE,
    name_description: '',
    managed: false,
    default_gateway: '',
    default_netmask: '',
    other_config: {},
  });
}
