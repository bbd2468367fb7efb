/** What the Xen-API keeps about a machine beside its configuration: fields that nothing else in xend reads. */
import type { Vm } from '../domain/vm.ts';
import { mapIn, type JsonRecord } from './state.ts';
import type { World } from './world.ts';

const TABLE = 'vm';

export const extrasOf = (world: World, vm: Vm): JsonRecord => world.state.table(TABLE).get(vm.uuid) ?? {};

/** Whether the machine was made for one run: any value says so (xm's create sends `True`). */
export const isTransient = (world: World, vm: Vm): boolean =>
  (mapIn(extrasOf(world, vm), 'other_config')['transient'] ?? '') !== '';

/** Sets some of them. Those of machines that are no more go at the same time. */
export async function setExtras(world: World, vm: Vm, changes: JsonRecord): Promise<void> {
  const known = new Set(world.manager.all().map(({ uuid }) => uuid));
  for (const uuid of [...world.state.table(TABLE).keys()]) {
    if (!known.has(uuid) && uuid !== vm.uuid) await world.state.remove(TABLE, uuid);
  }
  await world.state.put(TABLE, vm.uuid, { ...extrasOf(world, vm), ...changes });
}

export const dropExtras = (world: World, uuid: string): Promise<void> => world.state.remove(TABLE, uuid);
