/** What xend stands on, as it needs it: given to it at start, replaced by fakes in tests. */
import type { Clock } from '@xenhost/base';
import type { BuildPvOptions, BuiltDomain, Xenctrl } from '@xenhost/libxenctrl';
import type { XenstoreAccess, XenstoreClient } from '@xenhost/xenstore-client';
import type { ScreenSettings } from './device-model/arguments.ts';
import type { XendLog } from './node/log.ts';

/** The calls of libxenctrl that xend makes. */
export type Hypervisor = Pick<
  Xenctrl,
  | 'domainCreate'
  | 'domainDestroy'
  | 'domainPause'
  | 'domainUnpause'
  | 'domainGetinfo'
  | 'domainGetinfolist'
  | 'domainSetmaxmem'
  | 'domainMaxVcpus'
  | 'domainSetMemmapLimit'
  | 'domainSetTscInfo'
  | 'domainGetCpuPolicy'
  | 'domainSetCpuPolicy'
  | 'domainSendTrigger'
  | 'vcpuGetinfo'
  | 'vcpuSetaffinity'
  | 'vcpuGetaffinity'
  | 'schedId'
  | 'schedCreditDomainSet'
  | 'schedCreditDomainGet'
  | 'cpupoolGetinfolist'
  | 'cpupoolMovedomain'
  | 'cpupoolCreate'
  | 'cpupoolDestroy'
  | 'cpupoolAddcpu'
  | 'cpupoolRemovecpu'
  | 'cpupoolFreeinfo'
  | 'schedCredit2DomainGet'
  | 'schedCredit2DomainSet'
  | 'sedfDomainGet'
  | 'sedfDomainSet'
  | 'shadowControl'
  | 'domainIoportPermission'
  | 'tmemControl'
  | 'domainShutdown'
  | 'domainResume'
  | 'vcpuGetcontext'
  | 'vcpuSetcontext'
  | 'vcpuGetextstate'
  | 'vcpuSetextstate'
  | 'vcpuGetextcontext'
  | 'vcpuSetextcontext'
  | 'domainGetAddressSize'
  | 'domainSethandle'
  | 'readFrames'
  | 'writeFrames'
  | 'writeFrame'
  | 'getPageframeInfo'
  | 'domainPopulatePhysmap'
  | 'mmuextPin'
  | 'gnttabSetupTable'
  | 'domainGetTscInfo'
  | 'physinfo'
  | 'getcpuinfo'
  | 'cputopoinfo'
  | 'numainfo'
  | 'version'
  | 'readconsolering'
  | 'sendDebugKeys'
  | 'evtchnAllocUnbound'
>;

/** xenstored, as a socket's client sees it. */
export type Store = XenstoreAccess &
  Pick<XenstoreClient, 'transaction' | 'watch' | 'introduce' | 'release' | 'resume' | 'isDomainIntroduced'>;

export type BuildPvDomain = (options: BuildPvOptions) => Promise<BuiltDomain>;

export interface HostIdentity {
  readonly system: string;
  readonly host: string;
  readonly release: string;
  readonly version: string;
  readonly machine: string;
}

/** What xend-config.sxp says of xend's work; without it Xen 4.4's defaults hold. */
export interface XendSettings {
  /** Whether a core is written of every domain that crashes (enable-dump). */
  readonly enableDump: boolean;
  /** How long a device's backend may take to announce itself (device-create-timeout). */
  readonly deviceCreateTimeoutMs: number;
  /** How long both ends of a device may take to let go of it (device-destroy-timeout). */
  readonly deviceDestroyTimeoutMs: number;
  /** Script of vifs that name none (vif-script). */
  readonly vifScript: string;
  /** Bytes of console output that are kept of a guest nobody listens to (console-limit, which is in KiB). */
  readonly consoleLimitBytes: number;
  /** Domain-0 keeps at least so much (dom0-min-mem). */
  readonly dom0MinMemMiB: number;
  /** Whether Domain-0 is asked for memory that a new domain lacks (enable-dom0-ballooning). */
  readonly dom0Ballooning: boolean;
  /** vCPUs of Domain-0; 0: all that it has (dom0-cpus). */
  readonly dom0Vcpus: number;
  /** How other hosts are reached that domains are moved to (xend-relocation-ssl, -port, -ssl-port). */
  readonly relocation: { readonly ssl: boolean; readonly port: number; readonly sslPort: number };
  /** Screens of guests; Xen 4.4's defaults without. */
  readonly screen?: ScreenSettings;
}

export interface DeviceModelStart {
  /** Of the domain: the log is called after it. */
  readonly name: string;
  readonly args: readonly string[];
  /** Whether the log begins anew. */
  readonly fresh: boolean;
  /** Called once when the process has ended; null when a signal ended it. Not for processes of an earlier xend. */
  readonly onExit: (code: number | null) => void;
}

/** Runs device models. */
export interface DeviceModelLauncher {
  /** The number of the process. Throws when there can be none. */
  start(start: DeviceModelStart): number;
  /** Whether the process is there and is the device model of that domain. */
  isAlive(pid: number, domid: number): boolean;
  /** Does nothing to a process that is gone. */
  end(pid: number, signal: 'SIGHUP' | 'SIGKILL'): void;
  /** The end of its log. */
  lastWords(name: string): string;
}

export interface XendPorts {
  readonly xc: Hypervisor;
  readonly build: BuildPvDomain;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: XendLog;
  readonly host: HostIdentity;
  /** Folder of cores of crashed domains; Xen's own by default. */
  readonly dumpDirectory?: string;
  /** May change while xend runs: ask anew each time. */
  readonly settings?: XendSettings;
  /** Without it no domain gets a device model. */
  readonly deviceModels?: DeviceModelLauncher;
  /** Where the backends keep their counters; without it nothing is known to have moved. */
  readonly sysfs?: string;
  /** Reads a kernel or ramdisk whole; rejects with a node error. */
  readFile(path: string): Promise<Uint8Array>;
  /** Waits; tests make it short. */
  sleep(ms: number): Promise<void>;
}
