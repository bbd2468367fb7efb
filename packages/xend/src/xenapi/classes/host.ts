/** host, host_metrics, host_cpu, pool: this machine (Xen 4.4 `XendNode.py`). A pool of one is what XenServer's clients ask for. */
import { atomText, float, isList } from '@xenhost/sxp';
import { nodeInfo } from '../../node/info.ts';
import { SCHEDULER_IDS } from '../../domain/pools.ts';
import { hostRunning, unsupported } from '../errors.ts';
import { PBDS } from '../pbds.ts';
import { mapIn, textIn } from '../state.ts';
import { defineClass, writer } from '../table.ts';
import type { Answer } from '../values.ts';
import type { World } from '../world.ts';
import { describeCpu } from './cpu-description.ts';

const API_MAJOR = 1;
const API_MINOR = 0;
const API_VENDOR = 'xenbits';
const BYTES_PER_PAGE = 4096;

/** A host is its own reference: there is one. */
type Host = string;

const { ro, rw, func, method } = writer<Host>();

/** `xend.node.info` by key. */
async function infoOf(world: World): Promise<ReadonlyMap<string, string>> {
  const pairs = await nodeInfo(world.manager.ports, false);
  return new Map(
    pairs.flatMap((pair): [string, string][] =>
      isList(pair) && typeof pair[0] === 'string' ? [[pair[0], atomText(pair[1]) ?? '']] : [],
    ),
  );
}

const picked = (info: ReadonlyMap<string, string>, keys: readonly string[]): Record<string, string> =>
  Object.fromEntries(keys.map((key) => [key, info.get(key) ?? '']));

/** Facts of the hypervisor that stand beside what callers put into other_config. */
const FIXED_CONFIG = ['xen_commandline', 'xen_pagesize', 'platform_params'];
const VERSION_KEYS = [
  'xend_config_format', 'system', 'host', 'release', 'version', 'machine', 'xen_major', 'xen_minor', 'xen_extra',
  'cc_compiler', 'cc_compile_by', 'cc_compile_domain', 'cc_compile_date', 'xen_changeset', 'xen_commandline',
]; // prettier-ignore

async function softwareVersion(world: World): Promise<Record<string, string>> {
  const info = await infoOf(world);
  const version = `${info.get('xen_major') ?? ''}.${info.get('xen_minor') ?? ''}`;
  return { Xen: version, ...picked(info, VERSION_KEYS) };
}

const cpuRefs = async (world: World): Promise<string[]> => (await allCpus(world)).map(({ ref }) => ref);

/** tmem's methods are the legacy ones: the hypervisor refuses them alike. */
const tmem = (name: string, ...params: readonly string[]) =>
  method({
    name: `tmem_${name}`,
    doc: 'Transcendent memory.',
    params: params.map((param) => ({ name: param, kind: 'any' }) as const),
    returns: 'any',
    run: async (world, _, __, ...args) => (await world.legacy(`xend.node.tmem_${name}`, ...args)) as Answer,
  });

export const host = defineClass<Host>({
  name: 'host',
  doc: 'This machine.',
  all: (world) => [world.hostRef],
  find: (world, ref) => (ref === world.hostRef ? ref : undefined),
  refOf: (ref) => ref,
  fields: [
    rw(
      'name_label',
      'string',
      (world) => world.hostName,
      (world, _, name_label) => world.changeHost({ name_label }),
    ),
    rw(
      'name_description',
      'string',
      (world) => textIn(world.hostRecord, 'name_description'),
      (world, _, text) => world.changeHost({ name_description: text }),
    ),
    ro('API_version_major', 'int', () => API_MAJOR),
    ro('API_version_minor', 'int', () => API_MINOR),
    ro('API_version_vendor', 'string', () => API_VENDOR),
    ro('API_version_vendor_implementation', 'map', () => ({})),
    ro('enabled', 'bool', (world) => world.enabled),
    ro('software_version', 'map', softwareVersion),
    rw(
      'other_config',
      'map',
      async (world) => ({ ...mapIn(world.hostRecord, 'other_config'), ...picked(await infoOf(world), FIXED_CONFIG) }),
      (world, _, map) => {
        const own = Object.entries(map).filter(([key]) => !FIXED_CONFIG.includes(key));
        return world.changeHost({ other_config: Object.fromEntries(own) });
      },
      { entries: true },
    ),
    ro('capabilities', 'set', async (world) => ((await infoOf(world)).get('xen_caps') ?? '').trim().split(' ')),
    ro('cpu_configuration', 'map', async (world) =>
      picked(await infoOf(world), ['nr_nodes', 'nr_cpus', 'cores_per_socket', 'threads_per_core']),
    ),
    ro('sched_policy', 'string', async (world) => {
      const id = await world.manager.ports.xc.schedId();
      return Object.entries(SCHEDULER_IDS).find(([, known]) => known === id)?.[0] ?? 'unknown';
    }),
    ro('supported_bootloaders', 'set', () => ['pygrub']),
    ro('resident_VMs', 'set', (world) =>
      world.manager
        .all()
        .filter(({ live }) => live)
        .map(({ uuid }) => uuid),
    ),
    rw(
      'logging',
      'map',
      (world) => mapIn(world.hostRecord, 'logging'),
      (world, _, logging) => world.changeHost({ logging }),
    ),
    ro('PIFs', 'set', () => []),
    ro('PBDs', 'set', (world) => [...world.state.table(PBDS).keys()]),
    ro('PPCIs', 'set', () => []),
    ro('PSCSIs', 'set', () => []),
    ro('PSCSI_HBAs', 'set', () => []),
    ro('host_CPUs', 'set', cpuRefs),
    ro('metrics', 'ref', (world) => metricsRef(world)),
    ro('resident_cpu_pools', 'set', (world) => world.manager.pools.all().map(({ uuid }) => uuid)),
  ],
  operations: [
    func({
      name: 'get_by_name_label',
      doc: 'This host, when it has the label.',
      reads: true,
      returns: 'set',
      params: [{ name: 'label', kind: 'string' }],
      run: (world, _, label) => (world.hostName === label ? [world.hostRef] : []),
    }),
    func({
      name: 'list_methods',
      doc: 'The names of all methods.',
      reads: true,
      returns: 'set',
      run: (world) => [...world.rows.keys()].sort(),
    }),
    method({
      name: 'disable',
      doc: 'Lets no more machines start.',
      run(world) {
        world.enabled = false;
      },
    }),
    method({
      name: 'enable',
      doc: 'Lets machines start again.',
      run(world) {
        world.enabled = true;
      },
    }),
    ...['reboot', 'shutdown'].map((name) =>
      method({
        name,
        doc: 'Never was supported.',
        run(world) {
          // As xend has it: a disabled host counts as one that still runs machines.
          throw world.enabled ? unsupported() : hostRunning();
        },
      }),
    ),
    method({
      name: 'dmesg',
      doc: "The hypervisor's console messages.",
      reads: true,
      returns: 'string',
      run: async (world) => (await world.manager.ports.xc.readconsolering()).text,
    }),
    method({
      name: 'dmesg_clear',
      doc: "The hypervisor's console messages, which are emptied after they were read.",
      returns: 'string',
      run: async (world) => (await world.manager.ports.xc.readconsolering({ clear: true })).text,
    }),
    method({
      name: 'get_log',
      doc: 'The text of xend.log.',
      reads: true,
      returns: 'string',
      run: (world) => world.manager.ports.log.read(),
    }),
    method({
      name: 'send_debug_keys',
      doc: 'Sends keys to the hypervisor as its serial console would.',
      params: [{ name: 'keys', kind: 'string' }],
      run: (world, _, __, keys) => world.manager.ports.xc.sendDebugKeys(keys),
    }),
    tmem('thaw', 'client'),
    tmem('freeze', 'client'),
    tmem('flush', 'client', 'pages'),
    tmem('destroy', 'client'),
    tmem('list', 'client', 'use_long'),
    tmem('set_weight', 'client', 'value'),
    tmem('set_cap', 'client', 'value'),
    tmem('set_compress', 'client', 'value'),
    tmem('query_freeable_mb'),
    tmem('shared_auth', 'client', 'uuid', 'auth'),
  ],
});

const metrics = writer<string>();
const metricsRef = (world: World): string => world.derivedRef('host_metrics', world.hostRef);

export const hostMetrics = defineClass<string>({
  name: 'host_metrics',
  doc: 'How this machine is doing.',
  all: (world) => [metricsRef(world)],
  find: (world, ref) => (ref === metricsRef(world) ? ref : undefined),
  refOf: (ref) => ref,
  fields: [
    metrics.ro(
      'memory_total',
      'int',
      async (world) => (await world.manager.ports.xc.physinfo()).totalPages * BYTES_PER_PAGE,
    ),
    metrics.ro(
      'memory_free',
      'int',
      async (world) => (await world.manager.ports.xc.physinfo()).freePages * BYTES_PER_PAGE,
    ),
    metrics.ro('last_updated', 'datetime', (world) => world.now()),
  ],
});

interface HostCpu {
  readonly ref: string;
  readonly number: number;
}

export const cpuRef = (world: World, number: number): string =>
  world.derivedRef('host_cpu', `${world.hostRef} ${number}`);

async function allCpus(world: World): Promise<HostCpu[]> {
  const { nrCpus } = await world.manager.ports.xc.physinfo();
  return Array.from({ length: nrCpus }, (_, number) => ({ ref: cpuRef(world, number), number }));
}

/** The number of a pCPU by its reference. */
export const cpuNumber = async (world: World, ref: string): Promise<number | undefined> =>
  (await allCpus(world)).find((known) => known.ref === ref)?.number;

/** References of the pools that a pCPU is in: one or none. */
async function poolsOf(world: World, number: number): Promise<string[]> {
  const info = (await world.manager.ports.xc.cpupoolGetinfolist()).find(({ cpus }) => cpus.includes(number));
  const pool = info && (await world.manager.pools.lookup(String(info.poolId)));
  return pool ? [pool.uuid] : [];
}

const NS_PER_S = 1e9;
const cpu = writer<HostCpu>();

export const hostCpu = defineClass<HostCpu>({
  name: 'host_cpu',
  doc: 'A physical CPU.',
  all: allCpus,
  find: async (world, ref) => (await allCpus(world)).find((known) => known.ref === ref),
  refOf: ({ ref }) => ref,
  fields: [
    cpu.ro('host', 'ref', (world) => world.hostRef),
    cpu.ro('number', 'int', (_, { number }) => number),
    cpu.ro('vendor', 'string', async (world) => (await describeCpu(world)).vendor),
    cpu.ro('speed', 'int', async (world) => Math.floor((await world.manager.ports.xc.physinfo()).cpuKhz / 1000)),
    cpu.ro('modelname', 'string', async (world) => (await describeCpu(world)).model),
    cpu.ro('stepping', 'int', async (world) => (await describeCpu(world)).stepping),
    cpu.ro('flags', 'string', async (world) => (await describeCpu(world)).flags),
    cpu.ro('features', 'string', async (world) => (await infoOf(world)).get('hw_caps') ?? ''),
    cpu.ro('utilisation', 'double', async (world, { number }) => {
      const idle = (await world.manager.ports.xc.getcpuinfo())[number] ?? 0n;
      const now = world.now().getTime();
      // Time that was not idle: what the clock gained over what idling did.
      const busy = now / 1000 - Number(idle) / NS_PER_S;
      return float(Math.min(1, world.samples.rate(`cpu ${number}`, busy, now)));
    }),
    cpu.ro('cpu_pool', 'set', (world, { number }) => poolsOf(world, number)),
  ],
  operations: [
    cpu.func({
      name: 'get_unassigned_cpus',
      doc: 'The pCPUs that are in no pool.',
      reads: true,
      returns: 'set',
      async run(world) {
        const pooled = new Set((await world.manager.ports.xc.cpupoolGetinfolist()).flatMap(({ cpus }) => [...cpus]));
        return (await allCpus(world)).filter(({ number }) => !pooled.has(number)).map(({ ref }) => ref);
      },
    }),
  ],
});

const pooled = writer<string>();
const poolRef = (world: World): string => world.derivedRef('pool', world.hostRef);
const defaultSr = (world: World): string => world.storage.repositories()[0]?.ref ?? '';

export const pool = defineClass<string>({
  name: 'pool',
  doc: 'All hosts together: this one alone.',
  original: false,
  all: (world) => [poolRef(world)],
  find: (world, ref) => (ref === poolRef(world) ? ref : undefined),
  refOf: (ref) => ref,
  fields: [
    pooled.ro('name_label', 'string', (world) => textIn(world.hostRecord, 'pool_name_label', world.hostName)),
    pooled.ro('name_description', 'string', () => ''),
    pooled.ro('master', 'ref', (world) => world.hostRef),
    pooled.ro('default_SR', 'ref', defaultSr),
    pooled.ro('suspend_image_SR', 'ref', defaultSr),
    pooled.ro('crash_dump_SR', 'ref', defaultSr),
    pooled.rw(
      'other_config',
      'map',
      (world) => mapIn(world.hostRecord, 'pool_other_config'),
      (world, _, map) => world.changeHost({ pool_other_config: map }),
      { entries: true },
    ),
  ],
});
