/** xm cpupool-*, but for -create and -new (cpupool-config.ts). */
import { atomText, childValue, isList, prettySxp, type Sxp } from '@xenhost/sxp';
import { Exit } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print, printError } from '../world.ts';
import { listOf, structOf, textOf } from '../xen-api/values.ts';
import type { XenApi } from '../xen-api/session.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxpList, printJson } from './domain-rows.ts';
import { refused } from './words.ts';

async function poolRef({ world }: CommandContext, api: XenApi, name: string): Promise<string> {
  const [ref] = await api.list('cpu_pool.get_by_name_label', name);
  if (ref !== undefined) return ref;
  printError(world, 'unknown pool name');
  throw new Exit(1);
}

/** A pool's name, to one method of either server. */
const poolCommand =
  (legacy: string, viaApi: string): Run =>
  async (context, [name = '']) => {
    const { server, api } = context;
    if (api) await api.call(`cpu_pool.${viaApi}`, await poolRef(context, api, name));
    else await server.call(`xend.cpu_pool.${legacy}`, name);
    return undefined;
  };

export const poolStart = poolCommand('start', 'activate');
export const poolDestroy = poolCommand('destroy', 'deactivate');
export const poolDelete = poolCommand('delete', 'destroy');

const poolCpu =
  (legacy: string, viaApi: string): Run =>
  async (context, [name = '', cpu = '']) => {
    const { world, server, api } = context;
    if (!api) {
      await server.call(`xend.cpu_pool.${legacy}`, name, cpu);
      return undefined;
    }
    const pool = await poolRef(context, api, name);
    const found = (await api.records('host_cpu.get_all_records')).find(
      ([, record]) => textOf(record['number']) === cpu,
    );
    if (found) await api.call(`cpu_pool.${viaApi}`, pool, found[0]);
    else printError(world, 'cpu number unknown');
    return undefined;
  };

export const poolCpuAdd = poolCpu('cpu_add', 'add_host_CPU_live');
export const poolCpuRemove = poolCpu('cpu_remove', 'remove_host_CPU_live');

export const poolMigrate: Run = async (context, [dom = '', pool = '']) => {
  const { server, api } = context;
  if (!api) {
    await server.call('xend.cpu_pool.migrate', dom, pool);
    return undefined;
  }
  const ref = await poolRef(context, api, pool);
  await api.call('VM.cpu_pool_migrate', await api.vm(dom), ref);
  return undefined;
};

interface PoolRow {
  readonly name: string;
  readonly cpus: readonly string[];
  readonly cpuCount: number;
  readonly sched: string;
  readonly active: boolean;
  readonly domains: readonly string[];
}

export const poolList: Run = async (context, args) => {
  const { world, server, api } = context;
  const { options, words } = getopt(args, [
    { name: 'long', short: 'l', long: 'long' },
    { name: 'cpus', short: 'c', long: 'cpus' },
  ]);
  if (words.length > 1) throw refused(world, 'Only one cpupool name for selection allowed');
  const given = new Set(options.map(([name]) => name));
  const pools = api ? await apiPools(api, words) : asSxpList(await server.call('xend.cpu_pool.list', words));
  const [wanted] = words;
  if (wanted !== undefined && pools.length === 0) printError(world, `Pool '${wanted}' does not exist.`);
  if (context.json) return printJson(context, pools.map(poolRow));
  if (given.has('long')) {
    for (const pool of pools) print(world, prettySxp(pool));
  } else if (pools.length > 0) {
    const rows = pools.map(poolRow);
    if (given.has('cpus')) showCpus(context, rows);
    else showPools(context, rows);
  }
  return undefined;
};

function showPools({ world }: CommandContext, rows: readonly PoolRow[]): void {
  print(world, 'Name               CPUs   Sched     Active   Domain count');
  for (const { name, cpuCount, sched, active, domains } of rows) {
    print(
      world,
      format('%-16s   %3s  %8s       %s          %s', name, cpuCount, sched, active ? 'y' : 'n', domains.length),
    );
  }
}

function showCpus({ world }: CommandContext, rows: readonly PoolRow[]): void {
  print(world, format('%-16s %s', 'Name', 'CPU list'));
  for (const { name, cpus, active } of rows) {
    print(world, format('%-16s %s', name, active && cpus.length > 0 ? cpus.join(',') : '-'));
  }
}

/** All values of a key: xend sends lists as the rest of the pair, as one list, or as one value. */
function valuesOf(pool: Sxp, key: string): string[] {
  const found = (isList(pool) ? pool : []).find((item) => isList(item) && item[0] === key);
  if (!isList(found)) return [];
  return found
    .slice(1)
    .flatMap((item) => (isList(item) ? item.map((one) => atomText(one) ?? '') : [atomText(item) ?? '']));
}

function poolRow(pool: Sxp): PoolRow {
  const text = (key: string): string => atomText(childValue(pool, key)) ?? '';
  const active = !['', '0', 'False', 'false'].includes(text('activated'));
  const cpus = valuesOf(pool, 'host_CPU_numbers').sort((a, b) => Number(a) - Number(b));
  return {
    name: text('name_label'),
    cpus,
    cpuCount: active ? cpus.length : Number(text('ncpu')),
    sched: text('sched_policy'),
    active,
    domains: active ? valuesOf(pool, 'started_VM_names') : [],
  };
}

async function apiPools(api: XenApi, names: readonly string[]): Promise<Sxp[]> {
  const { spreadPairs } = await import('../xen-api/python-pairs.ts');
  const cpus = await api.record('host_cpu.get_all_records');
  const pools: Sxp[] = [];
  for (const [, record] of await api.records('cpu_pool.get_all_records')) {
    if (names.length > 0 && !names.includes(textOf(record['name_label']))) continue;
    const started: string[] = [];
    for (const vm of listOf(record['started_VMs'])) started.push(await api.text('VM.get_name_label', textOf(vm)));
    const numbers = listOf(record['host_CPUs']).map((ref) => textOf(structOf(cpus[textOf(ref)])['number']));
    pools.push([
      textOf(record['uuid']),
      ...spreadPairs(record),
      ['host_CPU_numbers', ...numbers],
      ['started_VM_names', ...started],
    ]);
  }
  return pools;
}
