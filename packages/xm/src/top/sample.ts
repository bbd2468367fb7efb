/**
 * What xm top knows of the host at one moment. Where xentop asks the hypervisor, xm asks xend: by XML-RPC, as every
 * command of xm. Counters of devices are files of the backends, as for xentop: of this host they are read, another host's
 * are 0 (docs/LIMITS.md).
 */
import {
  hostPaths,
  listVbds,
  listVifs,
  vbdCounters,
  vifCounters,
  type BackendDevice,
  type VbdCounters,
  type VifCounters,
} from '@xenhost/daemon-kit';
import { atomNumber, atomText, childValue, childrenOf, isList, tagOf, type Sxp } from '@xenhost/sxp';
import type { CommandContext } from '../commands/command.ts';
import { asSxp, asSxpList } from '../commands/domain-rows.ts';

export interface VcpuSample {
  readonly number: number;
  readonly online: boolean;
  readonly timeS: number;
}

export interface VbdSample {
  readonly device: number;
  readonly tap: boolean;
  /** Undefined where nobody counts. */
  readonly counters: VbdCounters | undefined;
}

export interface DomainSample {
  readonly domid: number;
  readonly name: string;
  /** Letters rbpscd in their places, `-` for those that are not. */
  readonly state: string;
  readonly cpuTimeS: number;
  readonly memoryKiB: number;
  /** Undefined without a limit. */
  readonly maxMemoryKiB: number | undefined;
  readonly vcpuCount: number;
  readonly vcpus: readonly VcpuSample[];
  /** What goes through each vif, as Domain-0 sees it; undefined where nobody counts. */
  readonly vifs: readonly (VifCounters | undefined)[];
  readonly vbds: readonly VbdSample[];
}

export interface HostSample {
  readonly timeMs: number;
  readonly xenVersion: string;
  readonly totalKiB: number;
  readonly freeKiB: number;
  readonly nrCpus: number;
  readonly cpuMhz: number;
  readonly domains: readonly DomainSample[];
}

const KIB_PER_MIB = 1024;
/** What xend says of a domain that may have all memory. */
const NO_LIMIT_MIB = 16_777_215;

export async function takeSample({ world, server }: CommandContext, withVcpus: boolean): Promise<HostSample> {
  const node = asSxp(await server.call('xend.node.info', 0));
  const text = (key: string): string => atomText(childValue(node, key)) ?? '';
  const number = (key: string): number => atomNumber(childValue(node, key)) ?? 0;
  const found = asSxpList(await server.call('xend.domains_with_state', true, 'all', true));
  const counted = await countedDevices(server.isLocal ? hostPaths(world.env).sysfs : undefined);
  const domains: DomainSample[] = [];
  for (const domain of found) {
    const sample = domainSample(domain);
    if (!sample) continue;
    const vcpus = withVcpus ? vcpuSamples(asSxp(await server.call('xend.domain.getVCPUInfo', sample.name))) : [];
    domains.push({ ...sample, ...counted(sample), vcpus });
  }
  return {
    timeMs: world.now().getTime(),
    xenVersion: `${text('xen_major')}.${text('xen_minor')}${text('xen_extra')}`,
    totalKiB: number('total_memory') * KIB_PER_MIB,
    freeKiB: number('free_memory') * KIB_PER_MIB,
    nrCpus: number('nr_cpus'),
    cpuMhz: number('cpu_mhz'),
    domains,
  };
}

type Devices = Pick<DomainSample, 'vifs' | 'vbds'>;

/** Of each domain, the devices that backends count; those of its configuration where there are none. */
async function countedDevices(sysfs: string | undefined): Promise<(domain: DomainSample) => Devices> {
  if (sysfs === undefined) return ({ vifs, vbds }) => ({ vifs, vbds });
  const vifs = new Map<number, VifCounters[]>();
  const vbds = new Map<number, VbdSample[]>();
  const add = <T>(map: Map<number, T[]>, { domid }: BackendDevice, value: T): void => {
    map.set(domid, [...(map.get(domid) ?? []), value]);
  };
  for (const vif of await listVifs(sysfs)) add(vifs, vif, await vifCounters(sysfs, vif));
  for (const vbd of await listVbds(sysfs)) {
    const counters = await vbdCounters(sysfs, vbd);
    add(vbds, vbd, { device: vbd.devid, tap: vbd.class !== 'vbd', counters });
  }
  return (domain) => ({ vifs: vifs.get(domain.domid) ?? domain.vifs, vbds: vbds.get(domain.domid) ?? domain.vbds });
}

/** Undefined for a managed domain that does not run. */
function domainSample(domain: Sxp): DomainSample | undefined {
  const number = (key: string): number | undefined => atomNumber(childValue(domain, key));
  const domid = number('domid');
  if (domid === undefined) return undefined;
  const maxmem = number('maxmem');
  const devices = childrenOf(domain, 'device').flatMap((device) => (isList(device[1]) ? [device[1]] : []));
  const ofClass = (...names: string[]): Sxp[] => devices.filter((device) => names.includes(tagOf(device) ?? ''));
  return {
    domid,
    name: atomText(childValue(domain, 'name')) ?? '??',
    state: (atomText(childValue(domain, 'state')) ?? '').padEnd(6, '-'),
    cpuTimeS: number('cpu_time') ?? 0,
    memoryKiB: (number('memory') ?? 0) * KIB_PER_MIB,
    maxMemoryKiB: maxmem === undefined || maxmem >= NO_LIMIT_MIB ? undefined : maxmem * KIB_PER_MIB,
    vcpuCount: number('online_vcpus') ?? number('vcpus') ?? 0,
    vcpus: [],
    vifs: ofClass('vif', 'vif2').map(() => undefined),
    vbds: ofClass('vbd', 'tap', 'tap2').map((device) => ({
      device: atomNumber(childValue(device, 'virtual-device')) ?? 0,
      tap: tagOf(device) !== 'vbd',
      counters: undefined,
    })),
  };
}

function vcpuSamples(info: Sxp): VcpuSample[] {
  return childrenOf(info, 'vcpu').map((vcpu) => {
    const number = (key: string): number => atomNumber(childValue(vcpu, key)) ?? 0;
    return { number: number('number'), online: number('online') > 0, timeS: number('cpu_time') };
  });
}
