/**
 * A VmConfig as SXP: the parts that `xm list --long`, managed domains' files and xenstore's /vm/UUID/image show. The order
 * of keys is the one that people's parsers saw for years (facts of Xen 4.4), not ours to tidy.
 */
import type { Sxp, SxpList } from '@xenhost/sxp';
import { cpuidSxp } from './cpuid.ts';
import type { DeviceConfig, VmConfig } from './types.ts';

/** Key-value pairs before the run-time ones (domid is the caller's). */
export function configHead(config: VmConfig): SxpList[] {
  return [
    ['cpu_weight', config.cpuWeight],
    ['cpu_cap', config.cpuCap],
    ['pool_name', config.poolName],
    ['bootloader', config.bootloader],
    ['vcpus', config.vcpus],
    ['cpus', config.cpus],
    ['on_poweroff', config.onExit.poweroff],
    ['description', config.description],
    ['on_crash', config.onExit.crash],
    ['uuid', config.uuid],
    ['bootloader_args', config.bootloaderArgs],
    ['name', config.name],
    ['on_reboot', config.onExit.reboot],
    ['maxmem', config.maxmemMiB],
    ['memory', config.memoryMiB],
    ['shadow_memory', config.shadowMemoryMiB],
    ['features', config.features],
    ...(config.cpuid.length > 0 ? [['cpuid', cpuidSxp(config.cpuid)]] : []),
    ['on_xend_start', config.onXendStart],
    ['on_xend_stop', config.onXendStop],
  ];
}

/** ELF notes of the running kernel, as the builder found them. */
export type ImageNotes = ReadonlyMap<string, string>;

export function imageSxp(config: VmConfig, notes?: ImageNotes): SxpList {
  const { image } = config;
  const sxp: Sxp[] = [image.type, ['kernel', image.kernel]];
  if (image.ramdisk) sxp.push(['ramdisk', image.ramdisk]);
  if (image.args) sxp.push(['args', image.args]);
  sxp.push(['superpages', image.superpages]);
  for (const [key, value] of image.platform) sxp.push([key, value]);
  if (notes && notes.size > 0) sxp.push(['notes', ...[...notes].map(([key, value]): Sxp => [key, value])]);
  return sxp;
}

export function deviceSxp(device: DeviceConfig): SxpList {
  const options = [...device.options].filter(([key]) => key !== 'uuid').map(([key, value]): Sxp => [key, value]);
  return [device.class, ...options, ['uuid', device.uuid]];
}

/** The whole configuration, as a managed domain's file holds it: reading it back gives the same configuration. */
export function storedConfigSxp(config: VmConfig): SxpList {
  return [
    'domain',
    ...configHead(config),
    ['vcpu_avail', config.vcpuAvail.toString()],
    ['image', imageSxp(config)],
    ...config.devices.map((device): Sxp => ['device', deviceSxp(device)]),
  ];
}
