/** An SXP of pairs as people's scripts read it. */
import { isList, tagOf, type Sxp } from '@xenhost/sxp';

/** `[x, [key, value], [list, a, b]]` as `{key: value, list: [a, b]}`; known lists stay lists. */
export function sxpRecord(sxp: Sxp): Record<string, Sxp> {
  const LISTS = new Set(['host_CPU_numbers', 'started_VM_names', 'started_VMs', 'host_CPUs', 'proposed_CPUs', 'other_config']); // prettier-ignore
  const record: Record<string, Sxp> = {};
  for (const item of isList(sxp) ? sxp.slice(1) : []) {
    const key = isList(item) ? tagOf(item) : undefined;
    if (key !== undefined && isList(item)) record[key] = LISTS.has(key) ? item.slice(1) : (item[1] ?? null);
  }
  return record;
}
