/** PBDs: which host has which repository (Xen 4.4 `XendPBD.py`). Every repository has one from the start. */
import { textIn } from './state.ts';
import type { World } from './world.ts';

export const PBDS = 'pbd';

export const pbdsOf = (world: World, sr: string): string[] =>
  [...world.state.table(PBDS)].filter(([, record]) => textIn(record, 'SR') === sr).map(([ref]) => ref);

export async function loadPbds(world: World): Promise<void> {
  for (const sr of world.storage.repositories()) {
    if (pbdsOf(world, sr.ref).length > 0) continue;
    const location = world.storage.directoryOf(sr);
    await world.state.put(PBDS, world.newRef(), { host: world.hostRef, SR: sr.ref, device_config: { location } });
  }
}
