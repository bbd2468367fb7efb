/** What the listing commands take from a domain's SXP, or from its records where the Xen-API is asked. */
import { atomNumber, atomText, childValue, Float, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { Exit } from '../errors.ts';
import { print } from '../world.ts';
import { isStruct, listOf, numberOf, pairsOf, structOf, textOf } from '../xen-api/values.ts';
import type { XenApi } from '../xen-api/session.ts';
import type { CommandContext } from './command.ts';

export interface DomainRow {
  readonly domid: string;
  readonly name: string;
  readonly state: string;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly cpuTimeS: number;
  /** Seconds since the epoch; undefined when it does not run. */
  readonly startTimeS: number | undefined;
  readonly uuid: string;
}

export function domainRow(domain: Sxp): DomainRow {
  const number = (key: string): number | undefined => atomNumber(childValue(domain, key));
  const text = (key: string): string | undefined => atomText(childValue(domain, key));
  return {
    domid: text('domid') ?? '',
    name: text('name') ?? '??',
    state: text('state') ?? '',
    // Online when it runs, configured when not.
    vcpus: number('online_vcpus') ?? number('vcpus') ?? 0,
    memoryMiB: number('memory') ?? 0,
    cpuTimeS: number('cpu_time') ?? 0,
    startTimeS: number('start_time'),
    uuid: text('uuid') ?? '',
  };
}

/** A row as --json shows it. */
export const domainJson = (row: DomainRow): Record<string, unknown> => ({
  name: row.name,
  domid: row.domid === '' ? null : Number(row.domid),
  uuid: row.uuid,
  memory_mib: Math.trunc(row.memoryMiB),
  vcpus: row.vcpus,
  state: row.state,
  cpu_time_s: row.cpuTimeS,
});

/** A result that is one string. */
export const asText = (value: XmlRpcValue): string => (isStruct(value) ? '' : (atomText(value as Sxp) ?? ''));
export const asSxp = (value: XmlRpcValue): Sxp => value as Sxp;
export const asSxpList = (value: XmlRpcValue): readonly Sxp[] => (Array.isArray(value) ? (value as Sxp[]) : []);

export interface Wanted {
  readonly state?: string;
  readonly full?: boolean;
  readonly pool?: string | undefined;
}

/** The named domains, or all in a state. */
export async function domains(
  { world, server, api, json }: CommandContext,
  names: readonly string[],
  { state = 'all', full = false, pool }: Wanted = {},
): Promise<readonly Sxp[]> {
  if (api) {
    const all = full && !json ? await apiDomainsAsDicts(api, pool) : await apiDomains(api, pool);
    const found = all.filter((domain) => names.includes(atomText(childValue(domain, 'name')) ?? ''));
    if (names.length === 0) return all;
    if (found.length > 0) return found;
    print(world, `Error: no domain${names.length > 1 ? 's' : ''} named ${names.join(', ')}`);
    throw new Exit(255);
  }
  if (names.length === 0) {
    const all = asSxpList(await server.call('xend.domains_with_state', true, state, full));
    return pool === undefined ? all : all.filter((domain) => atomText(childValue(domain, 'pool_name')) === pool);
  }
  const found: Sxp[] = [];
  for (const name of names) found.push(asSxp(await server.call('xend.domain', name, full)));
  return found;
}

const KIB = 1024;

/** The letters of a state, in their places. */
const STATES = ['running', 'blocked', 'paused', 'shutdown', 'crashed', 'dying'];

interface ApiDomain {
  readonly record: XmlRpcStruct;
  readonly metrics: XmlRpcStruct;
}

async function apiRecords(api: XenApi, pool: string | undefined): Promise<ApiDomain[]> {
  const records = await api.records('VM.get_all_records');
  const metrics = new Map(await api.records('VM_metrics.get_all_records'));
  return records
    .filter(([, record]) => pool === undefined || textOf(record['pool_name']) === pool)
    .map(([, record]) => ({ record, metrics: metrics.get(textOf(record['metrics'])) ?? {} }));
}

const apiDomains = async (api: XenApi, pool: string | undefined): Promise<Sxp[]> =>
  (await apiRecords(api, pool)).map(apiDomain);

/** For `list --long`, which showed Python's dict of what it knew. */
async function apiDomainsAsDicts(api: XenApi, pool: string | undefined): Promise<Sxp[]> {
  const { pythonPairs } = await import('../xen-api/python-pairs.ts');
  return (await apiRecords(api, pool)).map(({ record, metrics }): Sxp => {
    const start = metrics['start_time'];
    const update = {
      name: textOf(record['name_label']),
      memory_actual: Math.floor(numberOf(metrics['memory_actual']) / KIB),
      vcpus: textOf(metrics['VCPUs_number']),
      state: stateLetters(metrics),
      cpu_time: structOf(metrics['VCPUs_utilisation']),
      start_time: new Float(start instanceof Date ? Math.floor(start.getTime() / 1000) : 0),
    };
    return ['domain', ...pythonPairs(record, update)];
  });
}

function stateLetters(metrics: XmlRpcStruct): string {
  const states = listOf(metrics['state']);
  return STATES.map((state) => (states.includes(state) ? state.charAt(0) : '-')).join('');
}

function apiDomain({ record, metrics }: ApiDomain): Sxp {
  const times = Object.values(structOf(metrics['VCPUs_utilisation'])).map(numberOf);
  const start = metrics['start_time'];
  return [
    'domain',
    ...pairsOf(record),
    ['name', textOf(record['name_label'])],
    ['memory', Math.floor(numberOf(metrics['memory_actual']) / (KIB * KIB))],
    ['vcpus', textOf(metrics['VCPUs_number'])],
    ['state', stateLetters(metrics)],
    ['cpu_time', String(times.reduce((sum, time) => sum + time, 0) / Math.max(1, times.length))],
    ...(start instanceof Date ? [['start_time', String(start.getTime() / 1000)]] : []),
  ];
}

/** An SXP value as JSON: lists of pairs are objects, with lists where a key comes twice. */
export function sxpJson(value: Sxp): unknown {
  if (!Array.isArray(value)) return typeof value === 'object' && value !== null ? Number(String(value)) : value;
  const items = value as readonly Sxp[];
  const tagged = typeof items[0] === 'string' && items.length > 1 && items.slice(1).every(isPair);
  const pairs = tagged ? items.slice(1) : items;
  if (pairs.length === 0 || !pairs.every(isPair)) return items.map(sxpJson);
  const object: Record<string, unknown> = {};
  for (const pair of pairs) {
    const [key, ...rest] = pair as readonly Sxp[];
    const name = String(key);
    const inner = rest.length === 1 ? sxpJson(rest[0] ?? null) : rest.map(sxpJson);
    if (!Object.hasOwn(object, name)) object[name] = inner;
    else object[name] = [...(Array.isArray(object[name]) ? (object[name] as unknown[]) : [object[name]]), inner];
  }
  return object;
}

const isPair = (value: Sxp): boolean => Array.isArray(value) && typeof value[0] === 'string' && value.length > 1;

/** Prints JSON; gives the exit code of that. */
export function printJson({ world }: CommandContext, value: unknown): number {
  print(world, JSON.stringify(value, null, 2));
  return 0;
}
