/** The table is whole: every class has the methods that Xen 4.4 served, and what we add is named as ours. */
import { apiClasses } from './classes/index.ts';
import type { Row } from './table.ts';

/** Methods that a class has by being one, where it has them. */
const COMMON = ['get_all', 'get_all_records', 'get_by_uuid', 'get_record', 'get_uuid'];

interface Expected {
  /** How many methods xend 4.4 listed. */
  readonly count: number;
  readonly lacks?: readonly string[];
  readonly gets?: string;
  readonly sets?: string;
  /** Fields with add_to_ and remove_from_. */
  readonly maps?: string;
  readonly others?: string;
}

const ORIGINAL: Readonly<Record<string, Expected>> = {
  ACMPolicy: { count: 12, gets: 'VM_ssidref binary enforced_binary header map xml', others: 'activate_xspolicy' },
  console: { count: 11, gets: 'VM location other_config protocol', sets: 'other_config', others: 'create' },
  cpu_pool: {
    count: 34,
    gets: `activated auto_power_on by_name_label host_CPUs name_description name_label ncpu other_config proposed_CPUs
      resident_on sched_policy started_VMs`,
    sets: 'auto_power_on name_description name_label ncpu other_config proposed_CPUs sched_policy',
    maps: 'other_config proposed_CPUs',
    others: 'activate add_host_CPU_live create deactivate destroy remove_host_CPU_live',
  },
  debug: { count: 7, lacks: ['get_all'], others: 'destroy return_failure wait' },
  DPCI: {
    count: 17,
    gets: 'PPCI VM hotplug_slot key options virtual_bus virtual_domain virtual_func virtual_name virtual_slot',
    others: 'create destroy',
  },
  DSCSI: {
    count: 16,
    gets: `HBA PSCSI VM runtime_properties virtual_HCTL virtual_channel virtual_host virtual_lun virtual_target`,
    others: 'create destroy',
  },
  DSCSI_HBA: { count: 12, gets: 'DSCSIs PSCSI_HBAs VM assignment_mode virtual_host', others: 'create destroy' },
  event: { count: 6, lacks: ['get_all', 'get_record'], others: 'next register unregister' },
  host: {
    count: 54,
    gets: `API_version_major API_version_minor API_version_vendor API_version_vendor_implementation PBDs PIFs PPCIs
      PSCSI_HBAs PSCSIs by_name_label capabilities cpu_configuration enabled host_CPUs log logging metrics
      name_description name_label other_config resident_VMs resident_cpu_pools sched_policy software_version
      supported_bootloaders`,
    sets: 'logging name_description name_label other_config',
    maps: 'other_config',
    others: `disable dmesg dmesg_clear enable list_methods reboot send_debug_keys shutdown tmem_destroy tmem_flush
      tmem_freeze tmem_list tmem_query_freeable_mb tmem_set_cap tmem_set_compress tmem_set_weight tmem_shared_auth
      tmem_thaw`,
  },
  host_cpu: {
    count: 16,
    gets: 'cpu_pool features flags host modelname number speed stepping unassigned_cpus utilisation vendor',
  },
  host_metrics: { count: 8, gets: 'last_updated memory_free memory_total' },
  network: {
    count: 23,
    gets: 'PIFs VIFs by_name_label default_gateway default_netmask managed name_description name_label other_config',
    sets: 'default_gateway default_netmask name_description name_label other_config',
    maps: 'other_config',
    others: 'create destroy',
  },
  PBD: { count: 12, gets: 'SR by_SR currently_attached device_config host', others: 'create destroy' },
  PIF: {
    count: 18,
    gets: 'MAC MTU VLAN device host metrics network',
    sets: 'MAC MTU',
    others: 'create_VLAN destroy plug unplug',
  },
  PIF_metrics: { count: 9, gets: 'io_read_kbs io_write_kbs last_updated pif' },
  PPCI: {
    count: 23,
    gets: `bus class_code class_name device_id device_name domain driver func host name revision_id slot subsystem_id
      subsystem_name subsystem_vendor_id subsystem_vendor_name vendor_id vendor_name`,
  },
  PSCSI: {
    count: 21,
    gets: `HBA dev_name host model physical_HCTL physical_channel physical_host physical_lun physical_target revision
      scsi_id scsi_level sg_name type type_id vendor_name`,
  },
  PSCSI_HBA: { count: 8, gets: 'PSCSIs host physical_host' },
  session: {
    count: 9,
    lacks: ['get_all_records'],
    gets: 'last_active this_host this_user',
    others: 'login_with_password logout',
  },
  SR: {
    count: 17,
    gets: `PBDs VDIs by_name_label content_type name_description name_label physical_size physical_utilisation type
      virtual_allocation`,
    sets: 'name_description name_label',
  },
  task: {
    count: 16,
    gets: `allowed_operations by_name_label error_info name_description name_label progress result session status type`,
    others: 'cancel',
  },
  VBD: {
    count: 18,
    gets: 'VDI VM bootable device metrics mode runtime_properties type',
    sets: 'bootable mode',
    others: 'create destroy media_change',
  },
  VBD_metrics: { count: 8, gets: 'io_read_kbs io_write_kbs last_updated' },
  VDI: {
    count: 26,
    gets: `SR VBDs by_name_label name_description name_label other_config physical_utilisation read_only security_label
      sharable type virtual_size`,
    sets: 'name_description name_label other_config read_only security_label sharable virtual_size',
    others: 'create destroy',
  },
  VIF: {
    count: 16,
    gets: 'MAC MTU VM device metrics network runtime_properties security_label',
    sets: 'security_label',
    others: 'create destroy',
  },
  VIF_metrics: {
    count: 10,
    gets: 'io_read_kbs io_total_read_kbs io_total_write_kbs io_write_kbs last_updated',
  },
  VM: {
    count: 106,
    gets: `DPCIs DSCSI_HBAs DSCSIs HVM_boot_params HVM_boot_policy PCI_bus PV_args PV_bootloader PV_bootloader_args
      PV_kernel PV_ramdisk VBDs VCPUs_at_startup VCPUs_max VCPUs_params VIFs actions_after_crash actions_after_reboot
      actions_after_shutdown actions_after_suspend auto_power_on by_name_label consoles cpu_pool crash_dumps domid
      is_a_template is_control_domain memory_dynamic_max memory_dynamic_min memory_static_max memory_static_min metrics
      name_description name_label other_config platform pool_name power_state resident_on security_label tools_version
      user_version`,
    sets: `HVM_boot_params HVM_boot_policy PCI_bus PV_args PV_bootloader PV_bootloader_args PV_kernel PV_ramdisk
      VCPUs_at_startup VCPUs_max VCPUs_number_live VCPUs_params actions_after_crash actions_after_reboot
      actions_after_shutdown actions_after_suspend auto_power_on is_a_template memory_dynamic_max
      memory_dynamic_max_live memory_dynamic_min memory_dynamic_min_live memory_static_max memory_static_min
      name_description name_label other_config platform pool_name security_label user_version`,
    maps: 'HVM_boot_params VCPUs_params other_config platform',
    others: `add_to_VCPUs_params_live clean_reboot clean_shutdown clone cpu_pool_migrate create destroy hard_reboot
      hard_shutdown migrate pause restore resume save send_sysrq send_trigger start suspend unpause`,
  },
  VM_metrics: {
    count: 14,
    gets: `VCPUs_CPU VCPUs_flags VCPUs_number VCPUs_params VCPUs_utilisation last_updated memory_actual start_time
      state`,
  },
  XSPolicy: {
    count: 17,
    gets: 'labeled_resources resource_label xspolicy xstype',
    others: `activate_xspolicy can_run getenforce reset_xspolicy rm_xsbootpolicy set_resource_label set_xspolicy
      setenforce`,
  },
};

/** What xend 4.4 lacked: XenServer's names, for its clients. */
const OURS: Readonly<Record<string, string>> = {
  task: 'destroy get_created get_finished',
  VDI: 'clone copy get_is_a_snapshot get_snapshot_of resize snapshot',
};
const OUR_CLASSES = ['pool', 'VM_guest_metrics', 'VTPM', 'crashdump'];

const words = (text = ''): string[] => text.split(/\s+/).filter((word) => word !== '');

function namesOf(className: string, expected: Expected): string[] {
  const names = [
    ...COMMON.filter((name) => !expected.lacks?.includes(name)),
    ...words(expected.gets).map((field) => `get_${field}`),
    ...words(expected.sets).map((field) => `set_${field}`),
    ...words(expected.maps).flatMap((field) => [`add_to_${field}`, `remove_from_${field}`]),
    ...words(expected.others),
  ];
  return names.map((name) => `${className}.${name}`).sort();
}

const rowsOf = (className: string): readonly Row[] => apiClasses.find(({ name }) => name === className)?.rows ?? [];

describe('methods of Xen 4.4', () => {
  test.each(Object.keys(ORIGINAL))('%s', (className) => {
    const expected = ORIGINAL[className]!;
    const original = rowsOf(className).filter((row) => row.original);
    expect(original.map((row) => row.name).sort()).toEqual(namesOf(className, expected));
    expect(original).toHaveLength(expected.count);
  });
});

test('everything else is marked as ours', () => {
  for (const { name, rows } of apiClasses) {
    const added = rows.filter((row) => !row.original).map((row) => row.name.slice(name.length + 1));
    if (name in ORIGINAL) expect([name, ...added.sort()]).toEqual([name, ...words(OURS[name])]);
    else expect(OUR_CLASSES).toContain(name);
  }
});

test('no method is there twice, and each is described', () => {
  const rows = apiClasses.flatMap((known) => known.rows);
  expect(new Set(rows.map((row) => row.name)).size).toBe(rows.length);
  for (const row of rows) expect(row.doc).toMatch(/\S.*\.$/);
});

test('getters and setters of single fields have no Async form, methods have one', () => {
  const row = (name: string) => rowsOf(name.split('.')[0]!).find((known) => known.name === name);
  for (const name of ['VM.get_name_label', 'VM.set_name_label', 'VM.get_uuid', 'session.login_with_password'])
    expect([name, row(name)?.async]).toEqual([name, false]);
  for (const name of ['VM.start', 'VM.create', 'VM.get_all', 'VM.get_record', 'VM.add_to_platform', 'task.cancel'])
    expect([name, row(name)?.async]).toEqual([name, true]);
});
