/** A configuration as the XML document that `xm create -x` shows and `xm create` takes for the Xen-API. */
import type { Sxp } from '@xenhost/sxp';
import { machineOfSxp } from './machine.ts';
import { structOf, textOf } from './values.ts';

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;').replaceAll('>', '&gt;');

const attributes = (pairs: Readonly<Record<string, string>>): string =>
  Object.entries(pairs)
    .map(([key, value]) => ` ${key}="${escaped(value)}"`)
    .join('');

export function domainXml(config: Sxp, transient: boolean): string {
  const { record, disks, nics, consoles } = machineOfSxp(config, transient);
  const field = (name: string): string => textOf(record[name]);
  const keyed = (tag: string, name: string, indent: string): string[] =>
    Object.entries(structOf(record[name])).map(
      ([key, value]) => `${indent}<${tag}${attributes({ key, value: textOf(value) })}/>`,
    );
  const lines = [
    '<?xml version="1.0" ?>',
    '<xm>',
    `  <vm${attributes({
      is_a_template: 'false',
      auto_power_on: field('auto_power_on'),
      s3_integrity: field('s3_integrity'),
      superpages: field('superpages'),
      vcpus_max: field('VCPUs_max'),
      vcpus_at_startup: field('VCPUs_at_startup'),
      actions_after_shutdown: field('actions_after_shutdown'),
      actions_after_reboot: field('actions_after_reboot'),
      actions_after_crash: field('actions_after_crash'),
      pool_name: field('pool_name'),
    })}>`,
    '    <name>',
    `      <label>${escaped(field('name_label'))}</label>`,
    `      <description>${escaped(field('name_description'))}</description>`,
    '    </name>',
    `    <version>${escaped(field('user_version'))}</version>`,
    `    <memory${attributes(Object.fromEntries(['static_min', 'static_max', 'dynamic_min', 'dynamic_max'].map((key) => [key, field(`memory_${key}`)])))}/>`,
    ...keyed('vcpu_param', 'VCPUs_params', '    '),
    ...keyed('platform', 'platform', '    '),
    ...keyed('other_config', 'other_config', '    '),
    ...bootLines(field, keyed('boot_param', 'HVM_boot_params', '      ')),
    ...disks.map(
      ({ device, bootable, mode, type }, i) =>
        `    <vbd${attributes({ vdi: `vdi${i}`, device, bootable: bootable ? '1' : '0', mode, type })}/>`,
    ),
    ...nics.map(
      ({ mac, network }) => `    <vif${attributes({ mac, ...(network === undefined ? {} : { network }) })}/>`,
    ),
    ...consoles.flatMap(({ protocol, otherConfig }) => [
      `    <console${attributes({ protocol })}>`,
      ...Object.entries(otherConfig).map(([key, value]) => `      <other_config${attributes({ key, value })}/>`),
      '    </console>',
    ]),
    '  </vm>',
    ...disks.map(
      ({ uname, mode, sizeBytes }, i) =>
        `  <vdi${attributes({ name: `vdi${i}`, src: uname, size: sizeBytes, type: 'system', sharable: 'False', read_only: mode === 'RO' ? 'True' : 'False' })}/>`,
    ),
    '</xm>',
  ];
  return `${lines.join('\n')}\n`;
}

function bootLines(field: (name: string) => string, bootParams: readonly string[]): string[] {
  const policy = field('HVM_boot_policy');
  if (policy !== '') return [`    <hvm${attributes({ boot_policy: policy })}>`, ...bootParams, '    </hvm>'];
  const keys = ['bootloader', 'kernel', 'ramdisk', 'args', 'bootloader_args'];
  return [`    <pv${attributes(Object.fromEntries(keys.map((key) => [key, field(`PV_${key}`)])))}/>`];
}
