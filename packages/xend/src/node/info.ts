/** `xend.node.info`: what `xm info` prints, in its fixed order (Xen 4.4 `XendNode.py`). */
import type { CpuTopology } from '@xenhost/libxenctrl';
import type { Sxp, SxpList } from '@xenhost/sxp';
import type { XendPorts } from '../ports.ts';

const PAGES_PER_MIB = 256;
/** XEN_SYSCTL_PHYSCAP_hvm, _hvm_directio (`sysctl.h`). */
const CAPABILITY_NAMES: readonly (readonly [number, string])[] = [
  [1, 'hvm'],
  [4, 'hvm_directio'],
];
/** Ids of `xen/include/public/domctl.h`. */
const SCHEDULER_NAMES: Readonly<Record<number, string>> = { 4: 'sedf', 5: 'credit', 6: 'credit2' };
const HW_CAP_WORDS = 8;
const CONFIG_FORMAT = 4;

export async function nodeInfo(ports: Pick<XendPorts, 'xc' | 'host'>, withTopology: boolean): Promise<SxpList> {
  const { xc, host } = ports;
  const [physinfo, version, schedulerId, pools] = await Promise.all([
    xc.physinfo(),
    xc.version(),
    xc.schedId(),
    xc.cpupoolGetinfolist(),
  ]);
  const pooled = new Set(pools.flatMap((pool) => [...pool.cpus]));
  const capabilities = CAPABILITY_NAMES.filter(([bit]) => physinfo.capabilities & bit).map(([, name]) => name);
  const topology: Sxp[] = withTopology
    ? [
        ['cpu_topology', topologyText(await xc.cputopoinfo())],
        ['numa_info', 'none'],
      ]
    : [];
  return [
    ['system', host.system],
    ['host', host.host],
    ['release', host.release],
    ['version', host.version],
    ['machine', host.machine],
    ['nr_cpus', physinfo.nrCpus],
    ['nr_nodes', physinfo.nrNodes],
    ['cores_per_socket', physinfo.coresPerSocket],
    ['threads_per_core', physinfo.threadsPerCore],
    ['cpu_mhz', Math.floor(physinfo.cpuKhz / 1000)],
    ['hw_caps', hwCapsText(physinfo.hwCap)],
    ['virt_caps', capabilities.join(' ')],
    ['total_memory', Math.floor(physinfo.totalPages / PAGES_PER_MIB)],
    ['free_memory', Math.floor(physinfo.freePages / PAGES_PER_MIB)],
    ['free_cpus', pools.length === 0 ? 0 : Math.max(0, physinfo.nrCpus - pooled.size)],
    ...topology,
    ['xen_major', version.major],
    ['xen_minor', version.minor],
    ['xen_extra', version.extra],
    ['xen_caps', `${version.capabilities.trim()} `],
    ['xen_scheduler', SCHEDULER_NAMES[schedulerId] ?? 'unknown'],
    ['xen_pagesize', version.pagesize],
    ['platform_params', `virt_start=0x${BigInt.asUintN(64, version.virtStart).toString(16)}`],
    ['xen_changeset', version.changeset],
    ['xen_commandline', version.commandline],
    ['cc_compiler', version.compiler],
    ['cc_compile_by', version.compileBy],
    ['cc_compile_domain', version.compileDomain],
    ['cc_compile_date', version.compileDate],
    ['xend_config_format', CONFIG_FORMAT],
  ];
}

function hwCapsText(words: readonly number[]): string {
  return Array.from({ length: HW_CAP_WORDS }, (_, i) => ((words[i] ?? 0) >>> 0).toString(16).padStart(8, '0')).join(
    ':',
  );
}

function topologyText(cpus: readonly (CpuTopology | undefined)[]): string {
  const column = (n: number): string => String(n).padStart(8);
  const rows = cpus.flatMap((cpu, number) =>
    cpu ? [`${String(number).padStart(3)}:${column(cpu.core)} ${column(cpu.socket)} ${column(cpu.node)}`] : [],
  );
  return ['\ncpu:    core    socket     node', ...rows].join('\n');
}
