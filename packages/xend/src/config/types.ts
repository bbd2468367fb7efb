/** A domain's configuration as xend keeps it: what `xm create` sent, checked and with defaults (Xen 4.4 `XendConfig.py`). */
import type { Sxp } from '@xenhost/sxp';
import type { CpuidOverride } from './cpuid.ts';

/** What to do with a domain that shut itself down. */
export type ExitAction =
  'destroy' | 'restart' | 'preserve' | 'rename-restart' | 'coredump-destroy' | 'coredump-restart';

export const EXIT_ACTIONS: readonly ExitAction[] = [
  'restart', 'destroy', 'preserve', 'rename-restart', 'coredump-destroy', 'coredump-restart',
]; // prettier-ignore

/** The events that have an action of their own. */
export type ExitEvent = 'poweroff' | 'reboot' | 'crash';

export type ImageType = 'linux' | 'generic' | 'hvm';

export interface ImageConfig {
  readonly type: ImageType;
  readonly kernel: string;
  readonly ramdisk: string;
  /** The kernel's command line: `root=R ip=... EXTRA`. */
  readonly args: string;
  readonly superpages: number;
  /** The other keys of the image SXP (videoram, tsc_mode, ...), in the order in which they came. */
  readonly platform: ReadonlyMap<string, Sxp>;
}

export interface DeviceConfig {
  /** vif, vbd, tap, tap2, vfb, vkbd, console, pci, ... */
  readonly class: string;
  readonly uuid: string;
  /** Options in the order in which they came. */
  readonly options: ReadonlyMap<string, Sxp>;
}

export interface VmConfig {
  readonly name: string;
  readonly uuid: string;
  readonly memoryMiB: number;
  readonly maxmemMiB: number;
  readonly shadowMemoryMiB: number;
  readonly vcpus: number;
  /** vCPUs that are online at start, a bit each. */
  readonly vcpuAvail: bigint;
  /** For each vCPU the pCPUs it may run on; empty = any. */
  readonly cpus: readonly (readonly number[])[];
  readonly cpuWeight: number;
  /** Hundredths of a pCPU; 0 = no limit. */
  readonly cpuCap: number;
  readonly poolName: string;
  readonly onExit: Readonly<Record<ExitEvent, ExitAction>>;
  readonly onXendStart: string;
  readonly onXendStop: string;
  readonly features: string;
  readonly cpuid: readonly CpuidOverride[];
  readonly description: string;
  readonly bootloader: string;
  readonly bootloaderArgs: string;
  readonly image: ImageConfig;
  readonly devices: readonly DeviceConfig[];
}
