import type { Fields, Layout } from '@xenhost/base';
import * as domctl from './domctl.ts';
import * as sysctl from './sysctl.ts';

// Printed by a C program compiled against Xen 4.17's public headers: layout, C structure, size, field offsets.
const table: readonly (readonly [string, string])[] = [
  ['DomctlAddressSize', 'xen_domctl_address_size 4 size@0'],
  [
    'DomctlCpuPolicy',
    'xen_domctl_cpu_policy 40 nr_leaves@0 nr_msrs@4 leaves@8 msrs@16 err_leaf@24 err_subleaf@28 err_msr@32',
  ],
  [
    'DomctlCreatedomain',
    'xen_domctl_createdomain 64 ssidref@0 handle@4 flags@20 iommu_opts@24 max_vcpus@28 max_evtchn_port@32 max_grant_frames@36 max_maptrack_frames@40 grant_opts@44 vmtrace_size@48 cpupool_id@52 arch@56',
  ],
  [
    'DomctlExtVcpucontext',
    'xen_domctl_ext_vcpucontext 64 vcpu@0 size@4 syscall32_callback_eip@8 sysenter_callback_eip@16 syscall32_callback_cs@24 sysenter_callback_cs@26 syscall32_disables_events@28 sysenter_disables_events@29 vmce_caps@32 vmce_mci_ctl2_bank0@40 vmce_mci_ctl2_bank1@48 vmce_mcg_ext_ctl@56',
  ],
  [
    'DomctlGetdomaininfo',
    'xen_domctl_getdomaininfo 112 domain@0 flags@4 tot_pages@8 max_pages@16 outstanding_pages@24 shr_pages@32 paged_pages@40 shared_info_frame@48 cpu_time@56 nr_online_vcpus@64 max_vcpu_id@68 ssidref@72 handle@76 cpupool@92 gpaddr_bits@96 arch_config@104',
  ],
  ['DomctlGetpageframeinfo3', 'xen_domctl_getpageframeinfo3 16 num@0 array@8'],
  ['DomctlGetvcpuinfo', 'xen_domctl_getvcpuinfo 24 vcpu@0 online@4 blocked@5 running@6 cpu_time@8 cpu@16'],
  ['DomctlHvmcontext', 'xen_domctl_hvmcontext 16 size@0 buffer@8'],
  ['DomctlHypercallInit', 'xen_domctl_hypercall_init 8 gmfn@0'],
  ['DomctlMaxMem', 'xen_domctl_max_mem 8 max_memkb@0'],
  ['DomctlMaxVcpus', 'xen_domctl_max_vcpus 4 max@0'],
  ['DomctlNodeaffinity', 'xen_domctl_nodeaffinity 16 nodemap@0'],
  ['DomctlSchedulerOp', 'xen_domctl_scheduler_op 24 sched_id@0 cmd@4 weight@8 cap@10'],
  ['DomctlSendtrigger', 'xen_domctl_sendtrigger 8 trigger@0 vcpu@4'],
  ['DomctlSetTarget', 'xen_domctl_set_target 2 target@0'],
  ['DomctlSetdomainhandle', 'xen_domctl_setdomainhandle 16 handle@0'],
  ['DomctlSettimeoffset', 'xen_domctl_settimeoffset 8 time_offset_seconds@0'],
  [
    'DomctlShadowOp',
    'xen_domctl_shadow_op 40 op@0 mode@4 mb@8 dirty_bitmap@16 pages@24 stats_fault_count@32 stats_dirty_count@36',
  ],
  ['DomctlTscInfo', 'xen_domctl_tsc_info 24 tsc_mode@0 gtsc_khz@4 incarnation@8 elapsed_nsec@16'],
  ['DomctlVcpuaffinity', 'xen_domctl_vcpuaffinity 40 vcpu@0 flags@4 cpumap_hard@8 cpumap_soft@24'],
  ['DomctlVcpucontext', 'xen_domctl_vcpucontext 16 vcpu@0 ctxt@8'],
  ['DomctlVcpuextstate', 'xen_domctl_vcpuextstate 32 vcpu@0 xfeature_mask@8 size@16 buffer@24'],
  ['XenArchDomainconfig', 'xen_arch_domainconfig 8 emulation_flags@0 misc_flags@4'],
  ['XenCpuidLeaf', 'xen_cpuid_leaf 24 leaf@0 subleaf@4 a@8 b@12 c@16 d@20'],
  ['XenDomctl', 'xen_domctl 144 cmd@0 interface_version@4 domain@8 u@16'],
  ['XenMsrEntry', 'xen_msr_entry 16 idx@0 flags@4 val@8'],
  ['XenctlBitmap', 'xenctl_bitmap 16 bitmap@0 nr_bits@8'],
  ['SysctlAvailheap', 'xen_sysctl_availheap 24 min_bitwidth@0 max_bitwidth@4 node@8 avail_bytes@16'],
  ['SysctlCpuFeatureset', 'xen_sysctl_cpu_featureset 16 index@0 nr_features@4 features@8'],
  ['SysctlCpuLevellingCaps', 'xen_sysctl_cpu_levelling_caps 4 caps@0'],
  ['SysctlCpuinfo', 'xen_sysctl_cpuinfo 8 idletime@0'],
  ['SysctlCpupoolOp', 'xen_sysctl_cpupool_op 40 op@0 cpupool_id@4 sched_id@8 domid@12 cpu@16 n_dom@20 cpumap@24'],
  ['SysctlCputopo', 'xen_sysctl_cputopo 12 core@0 socket@4 node@8'],
  ['SysctlCputopoinfo', 'xen_sysctl_cputopoinfo 16 num_cpus@0 cputopo@8'],
  ['SysctlDebugKeys', 'xen_sysctl_debug_keys 16 keys@0 nr_keys@8'],
  ['SysctlGetcpuinfo', 'xen_sysctl_getcpuinfo 24 max_cpus@0 info@8 nr_cpus@16'],
  ['SysctlGetdomaininfolist', 'xen_sysctl_getdomaininfolist 24 first_domain@0 max_domains@4 buffer@8 num_domains@16'],
  ['SysctlMeminfo', 'xen_sysctl_meminfo 16 memsize@0 memfree@8'],
  ['SysctlNumainfo', 'xen_sysctl_numainfo 24 num_nodes@0 meminfo@8 distance@16'],
  ['SysctlPcitopoinfo', 'xen_sysctl_pcitopoinfo 24 num_devs@0 devs@8 nodes@16'],
  [
    'SysctlPhysinfo',
    'xen_sysctl_physinfo 112 threads_per_core@0 cores_per_socket@4 nr_cpus@8 max_cpu_id@12 nr_nodes@16 max_node_id@20 cpu_khz@24 capabilities@28 arch_capabilities@32 total_pages@40 free_pages@48 scrub_pages@56 outstanding_pages@64 max_mfn@72 hw_cap@80',
  ],
  ['SysctlReadconsole', 'xen_sysctl_readconsole 24 clear@0 incremental@1 index@4 buffer@8 count@16'],
  ['SysctlSchedId', 'xen_sysctl_sched_id 4 sched_id@0'],
  [
    'SysctlSchedulerOp',
    'xen_sysctl_scheduler_op 32 cpupool_id@0 sched_id@4 cmd@8 tslice_ms@16 ratelimit_us@20 vcpu_migr_delay_us@24',
  ],
  ['XenSysctl', 'xen_sysctl 136 cmd@0 interface_version@4 u@8'],
];

const exported = new Map<string, unknown>([...Object.entries(domctl), ...Object.entries(sysctl)]);

describe('domctl and sysctl structures', () => {
  test.each(table)('%s', (name, expected) => {
    const layout = exported.get(name) as Layout<Fields>;
    const [cName, size, ...fields] = expected.split(' ');
    expect([layout.name, layout.size]).toEqual([cName, Number(size)]);
    for (const field of fields) {
      const [key = '', offset] = field.split('@');
      expect([key, layout.offsets[key]]).toEqual([key, Number(offset)]);
    }
  });

  test('every exported layout stands in the table', () => {
    const layouts = [...exported].filter(
      ([, value]) => typeof value === 'object' && value !== null && 'offsets' in value,
    );
    expect(layouts.map(([name]) => name).sort()).toEqual(table.map(([name]) => name).sort());
  });
});
