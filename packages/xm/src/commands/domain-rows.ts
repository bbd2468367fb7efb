/** What the listing commands take from a domain's SXP. */
import { atomNumber, atomText, childValue, type Sxp } from '@xenhost/sxp';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { XendClient } from '../client.ts';

export interface DomainRow {
  readonly domid: string;
  readonly name: string;
  readonly state: string;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly cpuTimeS: number;
  /** Seconds since the epoch; undefined when it does not run. */
  readonly startTimeS: number | undefined;
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
  };
}

/** A result that is one string. */
export const asText = (value: XmlRpcValue): string => atomText(value as Sxp) ?? '';
export const asSxp = (value: XmlRpcValue): Sxp => value as Sxp;
export const asSxpList = (value: XmlRpcValue): readonly Sxp[] => (Array.isArray(value) ? (value as Sxp[]) : []);

/** The named domains, or all in a state. */
export async function domains(
  server: XendClient,
  names: readonly string[],
  state: string,
  full = false,
): Promise<readonly Sxp[]> {
  if (names.length === 0) return asSxpList(await server.call('xend.domains_with_state', true, state, full));
  const found: Sxp[] = [];
  for (const name of names) found.push(asSxp(await server.call('xend.domain', name, full)));
  return found;
}
