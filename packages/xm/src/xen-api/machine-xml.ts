/** The same records out of an XML document, as `xm create -x` prints it here and in Xen 4.4. */
import type { XmlRpcStruct } from '@xenhost/xmlrpc-codec';
import { descendants, type XmlElement } from '../xml.ts';
import type { Machine } from './machine.ts';

export function machineOfXml(vm: XmlElement, vdis: ReadonlyMap<string, XmlElement>): Machine {
  const attribute = (name: string, missing = ''): string => vm.attributes[name] ?? missing;
  const child = (name: string): XmlElement | undefined => descendants(vm, name)[0];
  const of = (name: string, key: string): string => child(name)?.attributes[key] ?? '';
  const pairs = (element: XmlElement | undefined, name: string): Record<string, string> =>
    Object.fromEntries(
      (element ? descendants(element, name) : []).map(({ attributes }) => [
        attributes['key'] ?? '',
        attributes['value'] ?? '',
      ]),
    );
  const named = (name: string): string =>
    child('name') ? (descendants(child('name') ?? vm, name)[0]?.text.trim() ?? '') : '';
  const hvm = child('pv') === undefined;
  const record: XmlRpcStruct = {
    name_label: named('label'),
    name_description: named('description'),
    user_version: child('version')?.text.trim() ?? '',
    is_a_template: attribute('is_a_template') === 'true',
    auto_power_on: attribute('auto_power_on') === 'true',
    s3_integrity: attribute('s3_integrity', '1'),
    superpages: attribute('superpages', '0'),
    memory_static_max: of('memory', 'static_max'),
    memory_static_min: of('memory', 'static_min'),
    memory_dynamic_max: of('memory', 'dynamic_max'),
    memory_dynamic_min: of('memory', 'dynamic_min'),
    VCPUs_params: pairs(vm, 'vcpu_param'),
    VCPUs_max: attribute('vcpus_max', '1'),
    VCPUs_at_startup: attribute('vcpus_at_startup', '1'),
    actions_after_shutdown: attribute('actions_after_shutdown'),
    actions_after_reboot: attribute('actions_after_reboot'),
    actions_after_crash: attribute('actions_after_crash'),
    platform: pairs(vm, 'platform'),
    other_config: Object.fromEntries(
      vm.children
        .filter((element) => element.name === 'other_config')
        .map(({ attributes }) => [attributes['key'] ?? '', attributes['value'] ?? '']),
    ),
    pool_name: attribute('pool_name'),
    PV_bootloader: of('pv', 'bootloader'),
    PV_kernel: of('pv', 'kernel'),
    PV_ramdisk: of('pv', 'ramdisk'),
    PV_args: of('pv', 'args'),
    PV_bootloader_args: of('pv', 'bootloader_args'),
    HVM_boot_policy: of('hvm', 'boot_policy'),
    HVM_boot_params: hvm ? pairs(child('hvm'), 'boot_param') : {},
    PCI_bus: '',
  };
  return {
    record,
    disks: descendants(vm, 'vbd').map(({ attributes }) => {
      const vdi = vdis.get(attributes['vdi'] ?? '')?.attributes ?? {};
      return {
        uname: vdi['src'] ?? '',
        device: attributes['device'] ?? '',
        type: attributes['type'] === 'CD' ? 'CD' : 'Disk',
        mode: attributes['mode'] === 'RO' ? 'RO' : 'RW',
        bootable: attributes['bootable'] === '1',
        sizeBytes: vdi['size'] ?? '0',
      };
    }),
    nics: descendants(vm, 'vif').map(({ attributes }) => ({
      mac: attributes['mac'] ?? '',
      network: attributes['network'],
    })),
    consoles: descendants(vm, 'console').map((console) => ({
      protocol: console.attributes['protocol'] ?? 'vt100',
      otherConfig: pairs(console, 'other_config'),
    })),
  };
}
