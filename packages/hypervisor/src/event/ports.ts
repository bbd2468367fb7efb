/** The ports of a domain: records in Xen-heap buckets, allocated as the domain uses more of them. */
import { Errno } from '@xenhost/base';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import type { EventAbi } from './abi.ts';
import { MAX_BUCKETS, PORTS_PER_BUCKET, PortLayout, PortState, eventDomain } from './records.ts';
import type { PortView } from './records.ts';

export class PortTable {
  readonly #memory: MachineMemory;
  readonly #allocateFrame: () => number | undefined;
  readonly #freeFrame: (mfn: number) => void;

  constructor(memory: MachineMemory, allocateFrame: () => number | undefined, freeFrame: (mfn: number) => void) {
    this.#memory = memory;
    this.#allocateFrame = allocateFrame;
    this.#freeFrame = freeFrame;
  }

  /** An empty table with port 0 reserved; 0 or -ENOMEM. */
  init(domain: DomainRef): number {
    const directory = this.#allocateFrame();
    if (directory === undefined) return -Errno.ENOMEM;
    const state = eventDomain(this.#memory, domain);
    state.directory = directory;
    state.firstFree = 1;
    state.active = 0;
    domain.v.eventPorts = 0;
    if (!this.#addBucket(domain)) {
      this.#freeFrame(directory);
      state.directory = 0;
      return -Errno.ENOMEM;
    }
    this.#at(domain, 0).state = PortState.reserved;
    return 0;
  }

  destroy(domain: DomainRef): void {
    const state = eventDomain(this.#memory, domain);
    if (state.directory === 0) return;
    const first = (state.directory * PAGE_SIZE) / 4;
    for (let bucket = 0; bucket < domain.v.eventPorts / PORTS_PER_BUCKET; bucket++) {
      this.#freeFrame(this.#memory.u32[first + bucket] ?? 0);
    }
    this.#freeFrame(state.directory);
    state.directory = 0;
    domain.v.eventPorts = 0;
  }

  /** The record of a port that was ever allocated (port 0 included), else undefined. */
  record(domain: DomainRef, port: number): PortView | undefined {
    return port < domain.v.eventPorts ? this.#at(domain, port) : undefined;
  }

  /** Takes the lowest free port: its number, or -EINVAL (dying), -ENOSPC, -ENOMEM. The caller sets its state. */
  allocate(domain: DomainRef, abi: EventAbi): number {
    if ((domain.v.flags & DomainFlag.dying) !== 0) return -Errno.EINVAL;
    const state = eventDomain(this.#memory, domain);
    if (state.directory === 0) return -Errno.EINVAL;
    const end = Math.min(abi.maxPorts(domain), domain.v.eventMaxPort + 1);
    let passed = true;
    for (let port = state.firstFree; port < end; port++) {
      if (port >= domain.v.eventPorts && !this.#addBucket(domain)) return -Errno.ENOMEM;
      const free = this.#at(domain, port).state === PortState.free;
      if (free && !abi.isBusy(domain, port)) {
        if (passed) state.firstFree = port + 1;
        state.active += 1;
        return port;
      }
      // A port that is free but still on a guest's queue stays the first candidate of the next search.
      if (free && passed) {
        state.firstFree = port;
        passed = false;
      }
    }
    return -Errno.ENOSPC;
  }

  free(domain: DomainRef, port: number, abi: EventAbi): void {
    const record = this.#at(domain, port);
    abi.clearPending(domain, port, record);
    record.state = PortState.free;
    record.notifyVcpu = 0;
    record.remoteDomid = 0;
    record.remotePort = 0;
    record.irq = 0;
    const state = eventDomain(this.#memory, domain);
    state.active -= 1;
    if (port < state.firstFree) state.firstFree = port;
  }

  #addBucket(domain: DomainRef): boolean {
    const bucket = domain.v.eventPorts / PORTS_PER_BUCKET;
    if (bucket >= MAX_BUCKETS) return false;
    const frame = this.#allocateFrame();
    if (frame === undefined) return false;
    const directory = eventDomain(this.#memory, domain).directory;
    this.#memory.u32[(directory * PAGE_SIZE) / 4 + bucket] = frame;
    domain.v.eventPorts += PORTS_PER_BUCKET;
    return true;
  }

  #at(domain: DomainRef, port: number): PortView {
    const directory = eventDomain(this.#memory, domain).directory;
    const bucket = this.#memory.u32[(directory * PAGE_SIZE) / 4 + Math.floor(port / PORTS_PER_BUCKET)] ?? 0;
    return PortLayout.view(this.#memory, bucket * PAGE_SIZE + (port % PORTS_PER_BUCKET) * PortLayout.size);
  }
}
