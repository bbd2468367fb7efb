/**
 * A virtual machine as xend knows it: its configuration and, while it exists in the hypervisor, its domain. A machine
 * keeps its name and UUID over reboots; its domain, and with it the id, is a new one each time.
 */
import type { DomainInfo } from '@xenhost/libxenctrl';
import type { ImageNotes } from '../config/sxp.ts';
import type { VmConfig } from '../config/types.ts';
import { Mutex } from './mutex.ts';

/** Power states with Xen 4.4's numbers (`XendConstants.py`). */
export const PowerState = {
  halted: 0, paused: 1, running: 2, suspended: 3, shutdown: 4, crashed: 5, unknown: 6,
} as const; // prettier-ignore
export type PowerStateName = keyof typeof PowerState;

/** The domain of a machine. */
export interface Live {
  readonly domid: number;
  /** As the hypervisor told last. */
  info: DomainInfo;
  /** Seconds since the epoch. */
  readonly startTimeS: number;
  readonly storeMfn?: number | undefined;
  readonly storePort?: number | undefined;
  readonly consoleMfn?: number | undefined;
  readonly consolePort?: number | undefined;
  /** x86_64-abi or x86_32-abi, for frontends. */
  readonly protocol?: string | undefined;
  readonly notes?: ImageNotes | undefined;
  /** Whether its end has been acted on (it is being destroyed, or was preserved). */
  exitHandled: boolean;
  /** When control/shutdown was written, seconds. */
  shutdownStartS?: number | undefined;
}

export class Vm {
  config: VmConfig;
  live: Live | undefined;
  /** Whether it is in the config store and outlives its domain. */
  managed = false;
  /** Whether its memory is in its checkpoint file. */
  suspended = false;
  /** Set by setpauseflag: an administrator paused it. */
  pausedByAdmin = false;
  /** Serialises what changes its life: create, destroy, restart, devices. */
  readonly lock = new Mutex();

  constructor(config: VmConfig) {
    this.config = config;
  }

  get name(): string {
    return this.config.name;
  }

  get uuid(): string {
    return this.config.uuid;
  }

  get vmPath(): string {
    return `/vm/${this.config.uuid}`;
  }

  get state(): PowerStateName {
    const info = this.live?.info;
    if (!info || info.shutdown || info.dying) return this.suspended ? 'suspended' : 'halted';
    if (info.crashed) return 'crashed';
    return info.paused ? 'paused' : 'running';
  }

  /** The six letters of `xm list`. */
  get stateLetters(): string {
    const info = this.live?.info;
    if (!info) return '';
    const flags: [boolean, string][] = [
      [info.running, 'r'], [info.blocked, 'b'], [info.paused, 'p'],
      [info.shutdown, 's'], [info.crashed, 'c'], [info.dying, 'd'],
    ]; // prettier-ignore
    return flags.map(([on, letter]) => (on ? letter : '-')).join('');
  }
}

/** Where a domain's own nodes are. */
export const domainPath = (domid: number): string => `/local/domain/${domid}`;
