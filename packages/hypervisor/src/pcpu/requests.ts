/**
 * What one thread asks of the pCPUs: look at the scheduler again, flush, drop code. Requests are posted with the
 * hypervisor lock held. A pCPU that is out of guest code serves them before it enters again, so a poster waits only for
 * those that are in guest code: for about one run of its engine (budget.ts).
 */
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { Engine } from '@xenhost/cpu';
import type { DomainTable } from '../domain/table.ts';
import type { CodeWatchPort, TlbPort } from '../sched/api.ts';
import type { PcpuView } from '../sched/runqueue.ts';
import { pcpuAddress } from '../sched/runqueue.ts';
import type { Core } from '../state/core.ts';
import { PcpuLayout, PcpuRequest } from '../state/records.ts';
import { waitWhile } from '../state/spin.ts';
import { COUNTER } from '../trace/counter-table.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { Translations } from './translations.ts';

/** Entries of the ring of frames to drop. */
const DROP_RING = PcpuLayout.fields.dropFrames.length;
/** Of which so many are for frames whose write translations go: beyond, all translations do, and the rest is left to code. */
const DROP_RING_OF_WRITES = DROP_RING / 2;
const OFFSETS = PcpuLayout.offsets;
/** A pCPU leaves guest code within about one run of its engine: how long to look for it before sleeping, and one sleep at most. */
const WAIT_SPIN_NS = 100_000;
const WAIT_MS = 1;

export class PcpuRequests implements TlbPort, CodeWatchPort {
  readonly #core: Core;
  readonly #pcpus: readonly PcpuView[];
  readonly #table: DomainTable;
  readonly #words: Int32Array;
  readonly #codeFrames: number;
  readonly #translations: Translations;

  constructor(core: Core, modules: { pcpus: readonly PcpuView[]; table: DomainTable }) {
    this.#core = core;
    this.#pcpus = modules.pcpus;
    this.#table = modules.table;
    this.#words = core.memory.i32;
    this.#codeFrames = (core.map.codeFrames * PAGE_SIZE) / 4;
    this.#translations = new Translations(core);
  }

  /** Word index of an atomic field of a pCPU record. */
  word(pcpu: number, field: 'inGuest' | 'requests' | 'wake' | 'sleeping'): number {
    return (pcpuAddress(this.#core, pcpu) + OFFSETS[field]) >>> 2;
  }

  /** Sets request bits and wakes the worker when it sleeps. Does not wait. */
  post(pcpu: number, bits: number): void {
    this.#core.counters.count(COUNTER.ipis);
    Atomics.or(this.#words, this.word(pcpu, 'requests'), bits);
    this.wake(pcpu);
  }

  wake(pcpu: number): void {
    const word = this.word(pcpu, 'wake');
    Atomics.add(this.#words, word, 1);
    // One that is about to sleep sees that the word has changed.
    if (Atomics.load(this.#words, this.word(pcpu, 'sleeping')) !== 0) Atomics.notify(this.#words, word);
  }

  /** Request bits that wait, without taking them. */
  peek(pcpu: number): number {
    return Atomics.load(this.#words, this.word(pcpu, 'requests'));
  }

  /** Takes and clears the request bits of a pCPU. */
  take(pcpu: number): number {
    const word = this.word(pcpu, 'requests');
    return Atomics.load(this.#words, word) === 0 ? 0 : Atomics.exchange(this.#words, word, 0);
  }

  flushVcpus(domain: DomainRef, vcpuMask: number, includeGlobal: boolean): void {
    const bits = includeGlobal ? PcpuRequest.flushTlbGlobal : PcpuRequest.flushTlb;
    const targets: number[] = [];
    this.#table.forEachVcpu(domain, (vcpu) => {
      if (!((vcpuMask >>> vcpu.vcpuId) & 1) || this.#translations.isTrusted(domain, vcpu)) return;
      const loadedOn = [...this.#pcpus.keys()].filter((n) => this.#pcpus[n]?.current === vcpu.frame);
      targets.push(...loadedOn);
      // What engines keep of the others goes when they are loaded again.
      if (loadedOn.length === 0) vcpu.v.translationsOn = 0;
      this.#translations.flushed(domain, vcpu);
    });
    this.#flush(targets, bits);
  }

  invalidatePage(domain: DomainRef, vcpuMask: number, address: bigint): void {
    const { engine, pcpu } = this.#core;
    const here = pcpu === undefined ? undefined : this.#pcpus[pcpu];
    let mask = vcpuMask;
    if (here?.current && engine) {
      const vcpu = this.#table.vcpuAt(here.current);
      if (vcpu.domid === domain.domid && (mask >>> vcpu.vcpuId) & 1) {
        engine.invalidatePage(address);
        mask &= ~(1 << vcpu.vcpuId);
      }
    }
    if (mask !== 0) this.flushVcpus(domain, mask, true);
  }

  flushAll(): void {
    const { engine, pcpu: self } = this.#core;
    if (engine && !this.#translations.isEngineTrusted()) this.#flushEngine(engine);
    const others = [...this.#pcpus.keys()].filter((n) => n !== self);
    this.#flush(others, PcpuRequest.flushTlbGlobal);
  }
  #flushEngine(engine: Engine): void {
    engine.flushAllTranslations();
    this.#translations.engineFlushed();
  }

  flushCaller(vcpu: VcpuRef, engine: Engine): void {
    const domain = this.#table.domainOf(vcpu);
    if (this.#translations.isTrusted(domain, vcpu)) return;
    engine.flushTlb(true);
    this.#translations.flushed(domain, vcpu);
  }

  leafChanged(domid: number, slot: number, mfn: number): void {
    const domain = this.#table.lookup(domid);
    if (!domain) return;
    const { engine } = this.#core;
    engine?.dropMapping(slot, mfn);
    if (engine) this.#translations.changedAndDropped(domain, this.#loaded());
    else this.#translations.changed(domain);
  }
  upperChanged(domid: number): void {
    const domain = this.#table.lookup(domid);
    if (domain) this.#translations.changed(domain);
  }
  rootReleased(domid: number, mfn: number): void {
    const domain = this.#table.lookup(domid);
    if (!domain) return;
    const { engine } = this.#core;
    engine?.dropRoot(mfn);
    if (engine) this.#translations.changedAndDropped(domain, this.#loaded());
    else this.#translations.changed(domain);
  }
  /** The vCPU whose registers this thread's engine holds. */
  #loaded(): VcpuRef | undefined {
    const { pcpu } = this.#core;
    const frame = pcpu === undefined ? 0 : (this.#pcpus[pcpu]?.current ?? 0);
    return frame === 0 ? undefined : this.#table.vcpuAt(frame);
  }

  frameChanged(frame: number): void {
    if (!this.isCodeFrame(frame)) return;
    this.#core.engine?.invalidateCode(frame);
    this.#drop(frame, PcpuRequest.dropCode);
  }

  /** True when the engine of any pCPU may hold code of the frame. */
  isCodeFrame(frame: number): boolean {
    for (let n = 0; n < this.#pcpus.length; n++) if (this.#holdsCode(n, frame)) return true;
    return false;
  }

  /** This pCPU's engine is about to decode from a frame for the first time; called by it, without the lock. */
  codeFrameAdded(frame: number): void {
    this.#fromGuest((self) => {
      Atomics.or(this.#words, this.#codeWord(self, frame), 1 << (frame & 31));
      this.#drop(frame, PcpuRequest.dropWrites);
    });
  }

  /** This pCPU's engine wrote to a frame that holds code of some engine; called by it, without the lock. */
  codeFrameWritten(frame: number): void {
    const isTold = (_: PcpuView, n: number): boolean =>
      n === this.#core.pcpu || !this.#holdsCode(n, frame) || this.#willDropCode(n, frame);
    if (this.#pcpus.every(isTold)) return;
    this.#fromGuest(() => {
      this.#drop(frame, PcpuRequest.dropCode);
    });
  }

  /** This pCPU's engine has forgotten all code of the frame; called by it, without the lock. */
  codeFrameRemoved(frame: number): void {
    const { pcpu } = this.#core;
    if (pcpu !== undefined) Atomics.and(this.#words, this.#codeWord(pcpu, frame), ~(1 << (frame & 31)));
  }

  /** Runs `body` while no other pCPU is in guest code; called by this pCPU's engine, without the lock. */
  exclusively(body: () => void): void {
    this.#fromGuest((self) => {
      const others = [...this.#pcpus.keys()].filter((n) => n !== self);
      for (const n of others) Atomics.or(this.#words, this.word(n, 'requests'), PcpuRequest.attend);
      for (const n of others) this.#waitOutOfGuest(n);
      body();
    });
  }

  /** Does what others asked of this pCPU's engine. Bits as `take` gave them. */
  serve(engine: Engine, pcpu: number, bits: number): void {
    const record = this.#pcpus[pcpu];
    if (!record) return;
    if (bits & (PcpuRequest.dropCode | PcpuRequest.dropWrites)) {
      this.#serveDrops(engine, pcpu, record.dropCount, bits);
      record.dropCount = 0;
    }
    // Whose flush it is, is not told: it may be for frames that change hands.
    if (bits & (PcpuRequest.flushTlbGlobal | PcpuRequest.flushTlb)) this.#flushEngine(engine);
  }

  #serveDrops(engine: Engine, pcpu: number, count: number, bits: number): void {
    if (count > DROP_RING) {
      // The ring ran over while this pCPU slept: drop all there is.
      if (bits & PcpuRequest.dropWrites) this.#flushEngine(engine);
      if (bits & PcpuRequest.dropCode)
        for (let frame = 0; frame < this.#core.map.nrFrames; frame++) engine.invalidateCode(frame);
      return;
    }
    const ring = this.#dropRing(pcpu);
    for (let i = 0; i < count; i++) {
      const entry = this.#core.memory.u32[ring + i] ?? 0;
      if (entry & DROP_CODE) engine.invalidateCode(entry & ~DROP_CODE);
      else engine.dropWriteTranslations(entry);
    }
  }

  #flush(targets: readonly number[], bits: number): void {
    const { engine, pcpu: self } = this.#core;
    for (const n of targets) if (n !== self) Atomics.or(this.#words, this.word(n, 'requests'), bits);
    if (self !== undefined && targets.includes(self)) engine?.flushTlb((bits & PcpuRequest.flushTlbGlobal) !== 0);
    for (const n of targets) if (n !== self) this.#waitOutOfGuest(n);
  }

  #waitOutOfGuest(pcpu: number): void {
    waitWhile(this.#words, this.word(pcpu, 'inGuest'), 1, WAIT_SPIN_NS, WAIT_MS);
  }

  #codeWord(pcpu: number, frame: number): number {
    return this.#codeFrames + (pcpu * this.#core.map.codeFramesPerPcpu * PAGE_SIZE) / 4 + (frame >>> 5);
  }

  #holdsCode(pcpu: number, frame: number): boolean {
    return ((Atomics.load(this.#words, this.#codeWord(pcpu, frame)) >>> (frame & 31)) & 1) === 1;
  }

  /**
   * Whether the pCPU has been asked to drop the frame's code and has not begun to, so that a store made before this call is seen by
   * what it decodes next. True without the lock too: requests are taken before their ring is read, and asked for with the lock held.
   */
  #willDropCode(pcpu: number, frame: number): boolean {
    // Orders the store before the look, which a load would not.
    if ((Atomics.or(this.#words, this.word(pcpu, 'requests'), 0) & PcpuRequest.dropCode) === 0) return false;
    const count = this.#pcpus[pcpu]?.dropCount ?? 0;
    const ring = this.#dropRing(pcpu);
    return count > DROP_RING || this.#core.memory.u32.subarray(ring, ring + count).includes((frame | DROP_CODE) >>> 0);
  }

  #dropRing(pcpu: number): number {
    return (pcpuAddress(this.#core, pcpu) + OFFSETS.dropFrames) >>> 2;
  }

  /** Every other pCPU that may have them drops code or write translations of the frame; returns when none can use them. */
  #drop(frame: number, bit: number): void {
    this.#pcpus.forEach((record, n) => {
      if (n === this.#core.pcpu || record.online === 0) return;
      // One that has been asked is out of guest code until it has done it.
      if (bit === PcpuRequest.dropCode && (!this.#holdsCode(n, frame) || this.#willDropCode(n, frame))) return;
      const ring = this.#dropRing(n);
      let asked = bit;
      if (bit === PcpuRequest.dropWrites && record.dropCount >= DROP_RING_OF_WRITES) asked = PcpuRequest.flushTlbGlobal;
      else if (record.dropCount < DROP_RING) {
        // The entry before the count: `#willDropCode` looks without the lock.
        Atomics.store(this.#words, ring + record.dropCount, bit === PcpuRequest.dropCode ? frame | DROP_CODE : frame);
        record.dropCount++;
      } else record.dropCount = DROP_RING + 1;
      Atomics.or(this.#words, this.word(n, 'requests'), asked);
      // As long as it holds code of the frame, every store to it is told: one that sleeps shall not hold it for long.
      if (bit === PcpuRequest.dropCode) this.wake(n);
      this.#waitOutOfGuest(n);
    });
  }

  /**
   * Runs `body` with the lock held from within a callback of the running engine. Meanwhile this pCPU counts as out of
   * guest code, as others may wait for it with the lock held; what they asked is served before the engine goes on.
   */
  #fromGuest(body: (self: number) => void): void {
    const { engine, pcpu, lock } = this.#core;
    if (pcpu === undefined || !engine) throw new Error('engine callback outside of a pCPU');
    const inGuest = this.word(pcpu, 'inGuest');
    // Alone, or called for an access of the hypervisor's own, which has the lock.
    if (this.#pcpus.length === 1 || Atomics.load(this.#words, inGuest) === 0) {
      body(pcpu);
      return;
    }
    Atomics.store(this.#words, inGuest, 0);
    Atomics.notify(this.#words, inGuest);
    lock.run(() => {
      body(pcpu);
      const bits = this.take(pcpu);
      this.serve(engine, pcpu, bits);
      if (bits & LATER) Atomics.or(this.#words, this.word(pcpu, 'requests'), bits & LATER);
      Atomics.store(this.#words, inGuest, 1);
    });
  }
}

/** Mark in the ring of frames: code is to be dropped, else write translations. */
const DROP_CODE = 0x8000_0000;
/** Bits that only the run loop can serve. */
const LATER = PcpuRequest.reschedule | PcpuRequest.stop;
