/**
 * The FIFO ABI: event words in guest frames, sixteen queues per vCPU linked through the words, heads in a control block
 * of the guest. All of it is hostile memory that the guest changes at the same time; what Xen relies on (tails, last
 * queue of a port) is in its own records. `xen/common/event_fifo.c`.
 */
import { Errno } from '@xenhost/base';
import { EVTCHN_FIFO, EvtchnFifoControlBlock, PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { EventAbi, EventTargets } from './abi.ts';
import { testAndSetBit } from './bits.ts';
import { eventDomain, eventVcpu, tailIndex } from './records.ts';
import type { PortView } from './records.ts';

const WORDS_PER_PAGE = PAGE_SIZE / 4;
const PENDING = 1 << EVTCHN_FIFO.PENDING;
const MASKED = 1 << EVTCHN_FIFO.MASKED;
const LINKED = 1 << EVTCHN_FIFO.LINKED;
const BUSY = 1 << EVTCHN_FIFO.BUSY;
/** How often a guest may legitimately change a BUSY tail word under us (`evtchn_fifo_set_link`). */
const LINK_TRIES = 4;

/** The frame functions that the FIFO ABI needs. */
export interface FifoFrames {
  allocateXenFrame(): number | undefined;
  freeXenFrame(mfn: number): void;
  takeWritableFrame(domain: DomainRef, gfn: bigint): number | undefined;
  releaseWritableFrame(domain: DomainRef, mfn: number): void;
}

export class FifoAbi implements EventAbi {
  readonly #memory: MachineMemory;
  readonly #frames: FifoFrames;
  readonly #targets: EventTargets;

  constructor(memory: MachineMemory, frames: FifoFrames, targets: EventTargets) {
    this.#memory = memory;
    this.#frames = frames;
    this.#targets = targets;
  }

  maxPorts(): number {
    return EVTCHN_FIFO.NR_CHANNELS;
  }

  init(_domain: DomainRef, _port: number, record: PortView): void {
    record.priority = EVTCHN_FIFO.PRIORITY_DEFAULT;
  }

  /** Makes `gfn` + `offset` the vCPU's control block; 0 or -EINVAL. Bounds of `offset` are checked by the caller. */
  mapControlBlock(domain: DomainRef, vcpu: VcpuRef, gfn: bigint, offset: number): number {
    const state = eventVcpu(this.#memory, vcpu);
    if (state.controlMfn !== 0) return -Errno.EINVAL;
    const mfn = this.#frames.takeWritableFrame(domain, gfn);
    if (mfn === undefined) return -Errno.EINVAL;
    state.controlOffset = offset;
    state.controlMfn = mfn;
    return 0;
  }

  /** An event array without pages; 0 or -ENOMEM. */
  createArray(domain: DomainRef): number {
    const directory = this.#frames.allocateXenFrame();
    if (directory === undefined) return -Errno.ENOMEM;
    const state = eventDomain(this.#memory, domain);
    state.fifoDirectory = directory;
    state.fifoPorts = 0;
    return 0;
  }

  /** Adds a page of event words. 0, -ENOSPC, -EINVAL. Returns the first of the ports that it made reachable. */
  expandArray(domain: DomainRef, gfn: bigint): { readonly status: number; readonly firstPort: number } {
    const state = eventDomain(this.#memory, domain);
    const firstPort = state.fifoPorts;
    if (firstPort >= EVTCHN_FIFO.NR_CHANNELS) return { status: -Errno.ENOSPC, firstPort };
    const mfn = this.#frames.takeWritableFrame(domain, gfn);
    if (mfn === undefined) return { status: -Errno.EINVAL, firstPort };
    this.#memory.u32[(state.fifoDirectory * PAGE_SIZE) / 4 + firstPort / WORDS_PER_PAGE] = mfn;
    state.fifoPorts = firstPort + WORDS_PER_PAGE;
    return { status: 0, firstPort };
  }

  /** Gives back the guest frames of the array and of every control block. */
  destroy(domain: DomainRef, vcpus: Iterable<VcpuRef>): void {
    for (const vcpu of vcpus) {
      const control = eventVcpu(this.#memory, vcpu);
      if (control.controlMfn !== 0) this.#frames.releaseWritableFrame(domain, control.controlMfn);
      control.controlMfn = 0;
      for (let p = 0; p < EVTCHN_FIFO.MAX_QUEUES; p++) this.#memory.u32[tailIndex(vcpu, p)] = 0;
    }
    const state = eventDomain(this.#memory, domain);
    if (state.fifoDirectory === 0) return;
    const directory = (state.fifoDirectory * PAGE_SIZE) / 4;
    for (let page = 0; page < state.fifoPorts / WORDS_PER_PAGE; page++) {
      this.#frames.releaseWritableFrame(domain, this.#memory.u32[directory + page] ?? 0);
    }
    this.#frames.freeXenFrame(state.fifoDirectory);
    state.fifoDirectory = 0;
    state.fifoPorts = 0;
  }

  setPending(domain: DomainRef, port: number, record: PortView, vcpuId: number): void {
    const words = this.#memory.i32;
    const word = this.#word(domain, port);
    if (word === undefined) {
      record.pending = 1;
      return;
    }
    const vcpu = this.#targets.vcpu(domain, vcpuId);
    if (vcpu === undefined) return;
    const { controlMfn, controlOffset } = eventVcpu(this.#memory, vcpu);
    // The guest must not unmask before it has a control block, so the event may be dropped.
    if (controlMfn === 0) return;
    const control = controlMfn * PAGE_SIZE + controlOffset;
    const wasPending = (Atomics.or(words, word, PENDING) & PENDING) !== 0;
    if ((Atomics.load(words, word) & MASKED) === 0 && (Atomics.or(words, word, LINKED) & LINKED) === 0) {
      const emptied = this.#link(domain, vcpu, port, record, control);
      if (emptied && !testAndSetBit(this.#memory, control, record.priority)) this.#targets.markEventsPending(vcpu);
    }
    if (!wasPending) this.#targets.wakePollers(domain, port);
  }

  clearPending(domain: DomainRef, port: number, record: PortView): void {
    record.pending = 0;
    const word = this.#word(domain, port);
    if (word !== undefined) Atomics.and(this.#memory.i32, word, ~PENDING);
  }

  unmask(domain: DomainRef, port: number, record: PortView): void {
    const word = this.#word(domain, port);
    if (word === undefined) return;
    Atomics.and(this.#memory.i32, word, ~MASKED);
    if ((Atomics.load(this.#memory.i32, word) & PENDING) !== 0)
      this.setPending(domain, port, record, record.notifyVcpu);
  }

  isPending(domain: DomainRef, port: number): boolean {
    const word = this.#word(domain, port);
    return word !== undefined && (Atomics.load(this.#memory.i32, word) & PENDING) !== 0;
  }

  isBusy(domain: DomainRef, port: number): boolean {
    const word = this.#word(domain, port);
    return word !== undefined && (Atomics.load(this.#memory.i32, word) & LINKED) !== 0;
  }

  setPriority(record: PortView, priority: number): number {
    if (priority > EVTCHN_FIFO.PRIORITY_MIN) return -Errno.EINVAL;
    record.priority = priority;
    return 0;
  }

  /** Appends a port that was just marked LINKED to its queue; true when the queue was empty. */
  #link(domain: DomainRef, vcpu: VcpuRef, port: number, record: PortView, control: number): boolean {
    const memory = this.#memory;
    const lastVcpu = this.#targets.vcpu(domain, record.lastVcpu);
    // A port that was the tail of its last queue has been consumed: that queue is empty.
    if (lastVcpu !== undefined) {
      const last = tailIndex(lastVcpu, record.lastPriority);
      if (memory.u32[last] === port) memory.u32[last] = 0;
    }
    record.lastVcpu = vcpu.vcpuId;
    record.lastPriority = record.priority;
    const tail = tailIndex(vcpu, record.priority);
    const tailPort = memory.u32[tail] ?? 0;
    const tailWord = tailPort === 0 ? undefined : this.#word(domain, tailPort);
    const linked = tailWord !== undefined && this.#setLink(tailWord, port);
    if (!linked) {
      Atomics.store(memory.i32, (control + EvtchnFifoControlBlock.offsets.head) / 4 + record.priority, port);
    }
    memory.u32[tail] = port;
    return !linked;
  }

  /** Writes LINK of a word while it is LINKED; false when the guest has consumed it. */
  #setLink(word: number, port: number): boolean {
    const words = this.#memory.i32;
    const attempt = (): boolean | undefined => {
      const old = Atomics.load(words, word);
      if ((old & LINKED) === 0) return false;
      const next = (old & ~(BUSY | EVTCHN_FIFO.LINK_MASK)) | port;
      return Atomics.compareExchange(words, word, old, next) === old ? true : undefined;
    };
    const first = attempt();
    if (first !== undefined) return first;
    Atomics.or(words, word, BUSY);
    for (let i = 0; i < LINK_TRIES; i++) {
      const result = attempt();
      if (result === undefined) continue;
      if (!result) Atomics.and(words, word, ~BUSY);
      return result;
    }
    // Only a guest that breaks the protocol gets here: it loses its own event.
    Atomics.and(words, word, ~BUSY);
    return true;
  }

  /** Index (i32) of the port's event word, or undefined while its page is missing. */
  #word(domain: DomainRef, port: number): number | undefined {
    const state = eventDomain(this.#memory, domain);
    if (port >= state.fifoPorts) return undefined;
    const mfn = this.#memory.u32[(state.fifoDirectory * PAGE_SIZE) / 4 + Math.floor(port / WORDS_PER_PAGE)] ?? 0;
    return (mfn * PAGE_SIZE) / 4 + (port % WORDS_PER_PAGE);
  }
}
