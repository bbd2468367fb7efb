/**
 * After a crash of xend: removes what a creation or destruction that was cut short left in xenstore. Runs at start, before
 * anything is created.
 */
import { DEVICE_MODELS } from '../device-model/device-models.ts';
import { CREATION_IN_PROGRESS } from './exit-notes.ts';
import { removeTree } from './nodes.ts';
import type { Store } from '../ports.ts';

/** `present`: ids and UUIDs of the domains that the hypervisor has. Resolves to the paths that were removed. */
export async function sweepStore(
  store: Store,
  present: { readonly domids: ReadonlySet<number>; readonly uuids: ReadonlySet<string> },
): Promise<string[]> {
  const dead: string[] = [];
  for (const name of await store.tryDirectory('/local/domain')) {
    if (/^\d+$/.test(name) && !present.domids.has(Number(name))) dead.push(`/local/domain/${name}`);
  }
  for (const name of await store.tryDirectory(DEVICE_MODELS)) {
    if (!present.domids.has(Number(name))) dead.push(`${DEVICE_MODELS}/${name}`);
  }
  // Backends may be in any domain; those of domains that are gone went with them.
  for (const backendDomain of present.domids) {
    const backends = `/local/domain/${backendDomain}/backend`;
    for (const deviceClass of await store.tryDirectory(backends)) {
      for (const name of await store.tryDirectory(`${backends}/${deviceClass}`)) {
        const path = `${backends}/${deviceClass}/${name}`;
        if (/^\d+$/.test(name) && !present.domids.has(Number(name))) dead.push(path);
        else if ((await store.tryDirectory(path)).length === 0) dead.push(path);
      }
    }
  }
  for (const uuid of await store.tryDirectory('/vm')) {
    if (!present.uuids.has(uuid) && (await store.exists(`/vm/${uuid}/uuid`))) dead.push(`/vm/${uuid}`);
    else if (!present.uuids.has(uuid) && (await store.exists(`/vm/${uuid}/${CREATION_IN_PROGRESS}`)))
      dead.push(`/vm/${uuid}`);
  }
  for (const path of dead) await removeTree(store, path);
  return dead;
}
