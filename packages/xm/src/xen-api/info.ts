/** xm info by way of the Xen-API: the legacy names, because people parse them. */
import type { Sxp } from '@xenhost/sxp';
import type { XenApi } from './session.ts';
import { listOf, numberOf, structOf, textOf } from './values.ts';

const BYTES_PER_MIB = 2 ** 20;

/** Pairs sorted by name, last first, as Xen 4.4 does. */
export async function hostPairs(api: XenApi): Promise<Sxp[]> {
  const host = await api.record('host.get_record', await api.host());
  const cpus = [];
  for (const ref of listOf(host['host_CPUs'])) cpus.push(await api.record('host_cpu.get_record', textOf(ref)));
  const metrics = await api.record('host_metrics.get_record', textOf(host['metrics']));
  const within = (field: string, key: string): string => textOf(structOf(host[field])[key]);
  const speeds = cpus.map((cpu) => numberOf(cpu['speed']));
  const pairs: [string, string | number][] = [
    ['host', textOf(host['name_label'])],
    ['cpu_mhz', speeds.length === 0 ? 0 : Math.floor(speeds.reduce((sum, speed) => sum + speed, 0) / speeds.length)],
    ['hw_caps', textOf(cpus[0]?.['features'])],
    ['free_cpus', cpus.filter((cpu) => listOf(cpu['cpu_pool']).length === 0).length],
    ['total_memory', Math.floor(numberOf(metrics['memory_total']) / BYTES_PER_MIB)],
    ['free_memory', Math.floor(numberOf(metrics['memory_free']) / BYTES_PER_MIB)],
    ['xen_caps', listOf(host['capabilities']).map(textOf).join(' ')],
    ['xen_scheduler', textOf(host['sched_policy'])],
  ];
  for (const key of ['nr_cpus', 'nr_nodes', 'cores_per_socket', 'threads_per_core']) {
    pairs.push([key, within('cpu_configuration', key)]);
  }
  for (const key of ['xen_pagesize', 'platform_params', 'xen_commandline'])
    pairs.push([key, within('other_config', key)]);
  for (const key of [
    'release', 'version', 'machine', 'xen_major', 'xen_minor', 'xen_extra', 'xen_changeset', 'cc_compiler', 'cc_compile_by',
    'cc_compile_domain', 'cc_compile_date', 'xend_config_format',
  ]) pairs.push([key, within('software_version', key)]); // prettier-ignore
  return pairs.sort(([a], [b]) => (a < b ? 1 : -1));
}
