/**
 * What xend keeps in xenstore about a machine and its domain: /vm/UUID for xend itself, /local/domain/D for the guest and
 * the other daemons. Answers to Xen 4.4 `XendDomainInfo.py` (_recreateDom, _storeDomDetails, _storeVmDetails).
 */
import { parseSxp, printSxp, type Sxp } from '@xenhost/sxp';
import type { XenstoreAccess, XsPerm } from '@xenhost/xenstore-client';
import { imageSxp } from '../config/sxp.ts';
import type { VmConfig } from '../config/types.ts';
import { domainPath, type Live, type Vm } from '../domain/vm.ts';
import type { Store } from '../ports.ts';

/** Subtrees that the guest may write. */
const GUEST_WRITABLE = ['device', 'control', 'error', 'memory', 'guest', 'hvmpv', 'data'];

export const owner = (domid: number): XsPerm => ({ domid, access: 'none' });
export const reader = (domid: number): XsPerm => ({ domid, access: 'read' });

/** Makes a fresh /local/domain/D with the permissions of a guest's. */
export async function createDomainNodes(store: Store, domid: number, vmPath: string): Promise<void> {
  const path = domainPath(domid);
  await store.transaction(async (t) => {
    await removeTree(t, path);
    // Requests of one connection are done in order: none need wait for the answer to the one before.
    await Promise.all([
      t.mkdir(path),
      // Everything is Domain-0's; the guest reads.
      t.setPerms(path, [owner(0), reader(domid)]),
      t.write(`${path}/vm`, vmPath),
      ...GUEST_WRITABLE.flatMap((name) => [t.mkdir(`${path}/${name}`), t.setPerms(`${path}/${name}`, [owner(domid)])]),
    ]);
  });
}

/** Writes what the guest and xenconsoled look for. New nodes take the permissions of their parents. */
export async function writeDomainDetails(store: Store, vm: Vm, live: Live, consoleLimitBytes: number): Promise<void> {
  const path = domainPath(live.domid);
  const nodes: Record<string, string | number> = {
    domid: live.domid,
    name: vm.name,
    description: vm.config.description,
    'memory/target': vm.config.memoryMiB * 1024,
    'console/limit': consoleLimitBytes,
    'console/type': 'xenconsoled',
    'control/platform-feature-xs_reset_watches': 1,
    'control/platform-feature-multiprocessor-suspend': 1,
    ...optional('console/port', live.consolePort),
    ...optional('console/ring-ref', live.consoleMfn),
    ...optional('store/port', live.storePort),
    ...optional('store/ring-ref', live.storeMfn),
    ...imageNodes(live),
    ...availabilityNodes(vm.config),
  };
  await store.transaction((t) => writeAll(t, path, nodes));
}

async function writeAll(
  t: Pick<XenstoreAccess, 'write'>,
  path: string,
  nodes: Readonly<Record<string, string | number>>,
): Promise<void> {
  await Promise.all(Object.entries(nodes).map(([name, value]) => t.write(`${path}/${name}`, value)));
}

const optional = (name: string, value: number | undefined): Record<string, number> =>
  value === undefined ? {} : { [name]: value };

/** ELF notes, as `image/guest-os` and, one by one, `image/features/...`. */
function imageNodes(live: Live): Record<string, string | number> {
  const nodes: Record<string, string | number> = {};
  for (const [note, value] of live.notes ?? []) {
    const name = note.toLowerCase().replaceAll('_', '-');
    if (name !== 'features') {
      nodes[`image/${name}`] = value;
      continue;
    }
    for (const feature of value.split('|').filter((word) => /^!?[\w-]+$/.test(word))) {
      const off = feature.startsWith('!');
      nodes[`image/features/${feature.slice(off ? 1 : 0).replaceAll('_', '-')}`] = off ? 0 : 1;
    }
  }
  return nodes;
}

/** `cpu/N/availability`, which the guest obeys. */
export function availabilityNodes(config: VmConfig): Record<string, string> {
  const nodes: Record<string, string> = {};
  for (let vcpu = 0; vcpu < config.vcpus; vcpu += 1) {
    nodes[`cpu/${vcpu}/availability`] = (config.vcpuAvail >> BigInt(vcpu)) & 1n ? 'online' : 'offline';
  }
  return nodes;
}

/** Settings of /vm/UUID, from which a restarted xend finds its machines again. */
export async function writeVmDetails(store: Store, vm: Vm): Promise<void> {
  const { config } = vm;
  const nodes: Record<string, string | number> = {
    uuid: config.uuid,
    name: config.name,
    description: config.description,
    vcpus: config.vcpus,
    vcpu_avail: config.vcpuAvail.toString(),
    memory: config.memoryMiB,
    maxmem: config.maxmemMiB,
    shadow_memory: config.shadowMemoryMiB,
    start_time: vm.live?.startTimeS ?? 0,
    on_poweroff: config.onExit.poweroff,
    on_reboot: config.onExit.reboot,
    on_crash: config.onExit.crash,
    on_xend_start: config.onXendStart,
    on_xend_stop: config.onXendStop,
    bootloader: config.bootloader,
    bootloader_args: config.bootloaderArgs,
    pool_name: config.poolName,
    image: printSxp(imageSxp(config, vm.live?.notes)),
    'image/ostype': config.image.type,
    'image/kernel': config.image.kernel,
    'image/cmdline': config.image.args,
    'image/ramdisk': config.image.ramdisk,
  };
  await store.transaction(async (t) => {
    await writeAll(t, vm.vmPath, nodes);
    const count = `${vm.vmPath}/xend/restart_count`;
    if ((await t.tryRead(count)) === undefined) await t.write(count, 0);
    // The guest may read its own UUID and nothing else there.
    if (vm.live) await t.setPerms(`${vm.vmPath}/uuid`, [owner(0), reader(vm.live.domid)]);
  });
}

/** A machine's name where others read it. */
export async function writeName(store: Store, vm: Vm, live: Live): Promise<void> {
  await store.transaction(async (t) => {
    await t.write(`${vm.vmPath}/name`, vm.name);
    await t.write(`${domainPath(live.domid)}/name`, vm.name);
  });
}

/** Values of the nodes below a path, by name. */
export async function readTree(store: Store, path: string): Promise<Map<string, string>> {
  const nodes = new Map<string, string>();
  for (const name of await store.tryDirectory(path)) nodes.set(name, (await store.tryRead(`${path}/${name}`)) ?? '');
  return nodes;
}

/** The settings of /vm/UUID as config SXP, or undefined when they are not those of a machine. */
export async function readVmConfigSxp(store: Store, vmPath: string): Promise<Sxp | undefined> {
  const keys = [
    'uuid', 'name', 'description', 'vcpus', 'vcpu_avail', 'memory', 'maxmem', 'shadow_memory', 'on_poweroff',
    'on_reboot', 'on_crash', 'on_xend_start', 'on_xend_stop', 'bootloader', 'bootloader_args', 'pool_name',
  ]; // prettier-ignore
  const values = await Promise.all(keys.map((key) => store.tryRead(`${vmPath}/${key}`)));
  const pairs = keys.flatMap((key, index): Sxp[] => {
    const value = values[index];
    return value === undefined ? [] : [[key, value]];
  });
  if (pairs.length === 0) return undefined;
  const image = await store.tryRead(`${vmPath}/image`);
  return ['domain', ...pairs, ...(image ? [['image', parseSxp(image)] as const] : [])];
}

/** Removes a node and all below it; nothing when it, or its parent, is missing. */
export async function removeTree(access: XenstoreAccess, path: string): Promise<void> {
  if (await access.exists(path)) await access.rm(path);
}
