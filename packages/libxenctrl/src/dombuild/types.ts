/** What a domain builder takes and gives (`tools/libs/guest`, xc_dom.h). */
import type { EvtchnPort } from '@xenhost/base';

export interface BuildPvOptions {
  /** A domain that was created, with its vCPUs allocated and its maximum memory set. */
  readonly domid: number;
  /** The kernel file as it is on disk: ELF, gzip of it, or bzImage. */
  readonly kernel: Uint8Array;
  readonly ramdisk?: Uint8Array;
  /** Kernel command line, at most 1023 bytes of UTF-8. */
  readonly cmdline?: string;
  /** Memory at start, KiB. */
  readonly memoryKiB: number;
  /** start_info.flags (SIF_*); 0 for a plain guest. */
  readonly flags?: number;
  /** Ports of the guest for xenstore and console; allocated for Domain-0 to bind when absent. */
  readonly storePort?: number;
  readonly consolePort?: number;
  /** Domains that serve xenstore and console; 0 by default. */
  readonly storeDomid?: number;
  readonly consoleDomid?: number;
}

/** The kernel as it describes itself (ELF notes). */
export interface KernelDescription {
  readonly guestOs: string;
  readonly guestVersion: string;
  readonly xenVersion: string;
  readonly loader: string;
  readonly features: string;
  /** "xen-3.0-x86_64" or "xen-3.0-x86_32p". */
  readonly guestType: string;
  readonly addressBits: 32 | 64;
}

export interface BuiltDomain {
  readonly kernel: KernelDescription;
  readonly storeMfn: number;
  readonly storePort: EvtchnPort;
  readonly consoleMfn: number;
  readonly consolePort: EvtchnPort;
  readonly nrPages: number;
}
