/**
 * How Domain-0 learns of events: it has no vCPU, so its pending bits are a bitmap of Xen's own, and the control plane
 * (which holds the privcmd connections) is rung. Ports are never masked here: a connection unmasks by taking.
 */
import { Errno, evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import type { EventAbi } from './abi.ts';
import { clearBit, testAndSetBit, testBit } from './bits.ts';
import { DOM0_NR_CHANNELS, eventDomain } from './records.ts';

export class Dom0Abi implements EventAbi {
  readonly #memory: MachineMemory;
  readonly #ring: () => void;

  constructor(memory: MachineMemory, ring: () => void) {
    this.#memory = memory;
    this.#ring = ring;
  }

  maxPorts(): number {
    return DOM0_NR_CHANNELS;
  }

  init(): void {
    // Nothing to prepare.
  }

  setPending(domain: DomainRef, port: number): void {
    if (!testAndSetBit(this.#memory, this.#bitmap(domain), port)) this.#ring();
  }

  clearPending(domain: DomainRef, port: number): void {
    clearBit(this.#memory, this.#bitmap(domain), port);
  }

  unmask(): void {
    // Never masked.
  }

  isPending(domain: DomainRef, port: number): boolean {
    return testBit(this.#memory, this.#bitmap(domain), port);
  }

  isBusy(): boolean {
    return false;
  }

  setPriority(): number {
    return -Errno.ENOSYS;
  }

  /** Pending ports below `end`; their bits are cleared. */
  take(domain: DomainRef, end: number): EvtchnPort[] {
    const first = this.#bitmap(domain) / 4;
    const ports: EvtchnPort[] = [];
    for (let word = 0; word * 32 < end; word++) {
      if (this.#memory.i32[first + word] === 0) continue;
      const bits = Atomics.exchange(this.#memory.i32, first + word, 0);
      for (let bit = 0; bit < 32; bit++) if ((bits & (1 << bit)) !== 0) ports.push(evtchnPort(word * 32 + bit));
    }
    return ports;
  }

  #bitmap(domain: DomainRef): number {
    return eventDomain(this.#memory, domain).dom0Pending * 4096;
  }
}
