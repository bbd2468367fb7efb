/**
 * An engine of ours as a contestant: the regions behind page tables, in monitor mode. Between its slices it may be
 * disturbed as a hypervisor does it (other vCPU loaded, TLB flushed, code forgotten), which no program may notice.
 */
import { CPU_STATE_SIZE, ExitReason, createEngine, exitName, type Engine, type EngineModules } from '@xenhost/cpu';
import type { JitMode } from '@xenhost/cpu';
import { Random } from '../cpu/random.ts';
import { loadFx, loadUserMode, saveFx } from '../cpu/reference.ts';
import { ALL_FLAGS } from './compare.ts';
import { BREAKPOINT, FX_COMPARED, IMAGE_BYTES, IMAGE_PAGES, MAX_EVENTS, PAGE, REGIONS, RESUME_CELL, imageOffset, type Contestant, type Event, type Image, type Run } from './world.ts'; // prettier-ignore

const MACHINE_BYTES = 1 << 20;
const PRESENT_USER = 5n;
const WRITABLE = 2n;
const NO_EXECUTE = 1n << 63n;
const ROOT_FRAME = 1;
/** Frames of the image; page tables lie below. */
const FIRST_FRAME = 0x40;
const PAGE_FAULT = 14;

const WHOLE_SLICE = 50_000;
/** After so many taken branches a program counts as hanging. */
const MAX_BRANCHES = 3_000_000;
/** Small slices are for the beginning; a long program goes on in larger ones. */
const NR_SMALL_SLICES = 3000;

export interface Disturbances {
  readonly seed: number;
  /** Largest small slice in taken branches. */
  readonly slice: number;
  /** One in so many slices is followed by a disturbance. */
  readonly oneIn: number;
}

export interface EngineSetup {
  readonly name: string;
  readonly jit: JitMode;
  readonly hotAfter?: number;
  /** Undefined: whole slices, undisturbed. */
  readonly disturbances?: Disturbances;
}

/** The budgets of one run, and when it is disturbed: the same for the same program. */
class Slices {
  readonly random: Random;
  readonly #disturbances: Disturbances | undefined;
  #count = 0;
  /** Budgets given out. */
  branches = 0;

  constructor(disturbances: Disturbances | undefined) {
    this.#disturbances = disturbances;
    this.random = new Random(disturbances?.seed ?? 0);
  }

  next(): number {
    const isSmall = this.#disturbances && this.#count++ < NR_SMALL_SLICES;
    const budget = isSmall ? 1 + this.random.below(this.#disturbances.slice) : WHOLE_SLICE;
    this.branches += budget;
    return budget;
  }

  isDisturbed(): boolean {
    return this.#disturbances !== undefined && this.random.chance(this.#disturbances.oneIn);
  }
}

export class EngineMachine implements Contestant {
  readonly name: string;
  readonly ours = true;
  readonly #setup: EngineSetup;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #engine: Engine;
  readonly #codeFrames = new Set<number>();
  #nextTable = ROOT_FRAME + 1;

  constructor(setup: EngineSetup, modules: { code: EngineModules }) {
    this.#setup = setup;
    this.name = setup.name;
    const pages = MACHINE_BYTES / 65536;
    const machineMemory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.#bytes = new Uint8Array(machineMemory.buffer);
    this.#view = new DataView(machineMemory.buffer);
    const codeFrames = this.#codeFrames;
    this.#engine = createEngine(
      {
        trapMode: 'monitor',
        nrFrames: MACHINE_BYTES / PAGE,
        jit: setup.jit,
        ...(setup.hotAfter !== undefined && { hotAfter: setup.hotAfter }),
      },
      {
        machineMemory,
        code: modules.code,
        host: {
          cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
          readTsc: () => 0n,
          codeFrameAdded: (frame) => codeFrames.add(frame),
          codeFrameWritten: () => undefined,
          codeFrameRemoved: (frame) => codeFrames.delete(frame),
          isCodeFrame: (frame) => codeFrames.has(frame),
        },
      },
    );
    for (const { address, page, pages: count, write, execute } of REGIONS)
      for (let n = 0; n < count; n++)
        this.#map(address + n * PAGE, FIRST_FRAME + page + n, (write ? WRITABLE : 0n) | (execute ? 0n : NO_EXECUTE));
  }

  get counters(): Engine['counters'] {
    return this.#engine.counters;
  }

  #map(address: number, frame: number, rights: bigint): void {
    let table = ROOT_FRAME;
    for (const shift of [39n, 30n, 21n]) {
      const at = table * PAGE + Number((BigInt(address) >> shift) & 511n) * 8;
      let entry = this.#view.getBigUint64(at, true);
      if (entry === 0n) {
        entry = (BigInt(this.#nextTable++) << 12n) | PRESENT_USER | WRITABLE;
        this.#view.setBigUint64(at, entry, true);
      }
      table = Number(entry >> 12n);
    }
    const at = table * PAGE + ((address >> 12) & 511) * 8;
    this.#view.setBigUint64(at, (BigInt(frame) << 12n) | PRESENT_USER | rights, true);
  }

  run(images: readonly Image[]): Run[] {
    return images.map((image) => this.#one(image));
  }

  #one(image: Image): Run {
    const engine = this.#engine;
    const { state } = engine;
    this.#bytes.set(image.bytes, FIRST_FRAME * PAGE);
    for (let n = 0; n < IMAGE_PAGES; n++) engine.invalidateCode(FIRST_FRAME + n);
    loadUserMode(state);
    state.cr3 = BigInt(ROOT_FRAME * PAGE);
    for (let n = 0; n < 16; n++) state.setGpr(n, image.gpr[n] ?? 0n);
    state.rflags = image.rflags | 0x202n;
    state.rip = BigInt(image.entry);
    loadFx(state, image.fx);
    engine.stateChanged();
    const events: Event[] = [];
    const slices = new Slices(this.#setup.disturbances);
    for (;;) {
      const reason = this.#runOn(slices);
      if (reason === undefined) return this.#ended('timeout', `rip 0x${state.rip.toString(16)}`, events);
      if (reason !== ExitReason.exception && reason !== ExitReason.softwareInterrupt)
        return this.#ended('unknown', exitName(reason), events);
      const event = this.#event(reason);
      events.push(event);
      if (event.vector === BREAKPOINT || events.length === MAX_EVENTS) break;
      const at = FIRST_FRAME * PAGE + (imageOffset(RESUME_CELL) ?? 0);
      const resume = this.#view.getBigUint64(at, true);
      if (resume === 0n) break;
      this.#view.setBigUint64(at, 0n, true);
      state.rip = resume;
      state.rflags &= ~BigInt(ALL_FLAGS);
    }
    return this.#ended('done', '', events);
  }

  /** Until something other than the end of a slice happens; undefined when it never does. */
  #runOn(slices: Slices): ExitReason | undefined {
    while (slices.branches < MAX_BRANCHES) {
      const reason = this.#engine.run(slices.next());
      if (reason !== ExitReason.budget && reason !== ExitReason.pause) return reason;
      if (slices.isDisturbed()) this.#disturb(slices.random);
    }
    return undefined;
  }

  #disturb(random: Random): void {
    const engine = this.#engine;
    switch (random.below(6)) {
      case 0:
        engine.flushTlb(random.chance(2));
        return;
      case 1: {
        const { address, pages } = random.pick(REGIONS);
        engine.invalidatePage(BigInt(address + random.below(pages) * PAGE));
        return;
      }
      case 2:
        engine.invalidateCode(FIRST_FRAME + random.below(IMAGE_PAGES));
        return;
      case 3: {
        const saved = new Uint8Array(CPU_STATE_SIZE);
        engine.save(saved);
        const other = Uint8Array.from(saved);
        other.fill(0x5a, 0, 16 * 8);
        engine.load(other);
        engine.load(saved);
        return;
      }
      case 4:
        for (const frame of this.#codeFrames) engine.dropWriteTranslations(frame);
        return;
      default:
        engine.stateChanged();
    }
  }

  #event(reason: ExitReason): Event {
    const { state, exit } = this.#engine;
    const gpr = new BigUint64Array(16);
    for (let n = 0; n < 16; n++) gpr[n] = state.gpr(n);
    const isFault = reason === ExitReason.exception;
    return {
      vector: exit.vector,
      errorCode: isFault && exit.hasErrorCode ? BigInt(exit.errorCode) : 0n,
      address: isFault && exit.vector === PAGE_FAULT ? exit.address : 0n,
      rip: state.rip + (isFault ? 0n : BigInt(exit.length)),
      gpr,
      rflags: state.rflags,
      fx: saveFx(state).subarray(0, FX_COMPARED),
    };
  }

  #ended(end: Run['end'], note: string, events: readonly Event[]): Run {
    return { end, note, events, bytes: this.#bytes.slice(FIRST_FRAME * PAGE, FIRST_FRAME * PAGE + IMAGE_BYTES) };
  }
}
