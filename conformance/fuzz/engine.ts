/**
 * An engine of ours as a contestant: the regions behind page tables, in monitor mode. Between its slices it may be
 * disturbed as a hypervisor does it (other vCPU loaded, TLB flushed, code forgotten), which no program may notice.
 */
import {
  CPU_STATE_SIZE,
  ExitReason,
  RFLAGS,
  createEngine,
  exitName,
  type Engine,
  type EngineModules,
} from '@xenhost/cpu';
import type { JitMode } from '@xenhost/cpu';
import { Random } from '../cpu/random.ts';
import { loadFx, loadUserMode, saveFx } from '../cpu/reference.ts';
import { ALL_FLAGS } from './compare.ts';
import { MappedImage, NR_FRAMES } from './mapped-image.ts';
import { BREAKPOINT, FX_COMPARED, IMAGE_PAGES, MAX_EVENTS, PAGE, REGIONS, RESUME_CELL, imageOffset, type Contestant, type Event, type Image, type Run } from './world.ts'; // prettier-ignore

const PAGE_FAULT = 14;
const DEBUG = 1;
const PUSHF = 0x9c;
const INITIAL_DR6 = 0xffff_0ff0n;

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
  readonly #image = new MappedImage();
  readonly #engine: Engine;
  readonly #codeFrames = new Set<number>();

  constructor(setup: EngineSetup, modules: { code: EngineModules }) {
    this.#setup = setup;
    this.name = setup.name;
    const codeFrames = this.#codeFrames;
    this.#engine = createEngine(
      {
        trapMode: 'monitor',
        nrFrames: NR_FRAMES,
        jit: setup.jit,
        ...(setup.hotAfter !== undefined && { hotAfter: setup.hotAfter }),
      },
      {
        machineMemory: this.#image.memory,
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
  }

  get counters(): Engine['counters'] {
    return this.#engine.counters;
  }

  run(images: readonly Image[]): Run[] {
    return images.map((image) => this.#one(image));
  }

  #one(image: Image): Run {
    const engine = this.#engine;
    const { state } = engine;
    this.#image.write(image.bytes);
    for (const frame of this.#image.frames) engine.invalidateCode(frame);
    loadUserMode(state);
    state.cr3 = this.#image.cr3;
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
      const at = imageOffset(RESUME_CELL) ?? 0;
      const resume = this.#image.quadword(at);
      if (resume === 0n) break;
      this.#image.setQuadword(at, 0n);
      state.rip = resume;
      state.rflags &= ~BigInt(ALL_FLAGS);
    }
    return this.#ended('done', '', events);
  }

  /** Until something other than the end of a slice happens; undefined when it never does. */
  #runOn(slices: Slices): ExitReason | undefined {
    while (slices.branches < MAX_BRANCHES) {
      let reason = this.#engine.run(slices.next());
      while ((reason === ExitReason.budget || reason === ExitReason.pause) && slices.isDisturbed())
        reason = this.#disturb(slices.random);
      if (reason !== ExitReason.budget && reason !== ExitReason.pause) return reason;
    }
    return undefined;
  }

  /** Something that a hypervisor does between two slices. Returns how the program stands then: mostly as before. */
  #disturb(random: Random): ExitReason {
    const engine = this.#engine;
    switch (random.below(9)) {
      case 0:
        engine.flushTlb(random.chance(2));
        break;
      case 1: {
        const { address, pages } = random.pick(REGIONS);
        engine.invalidatePage(BigInt(address + random.below(pages) * PAGE));
        break;
      }
      case 2:
        engine.invalidateCode(random.pick(this.#image.frames));
        break;
      case 3: {
        const saved = new Uint8Array(CPU_STATE_SIZE);
        engine.save(saved);
        const other = Uint8Array.from(saved);
        other.fill(0x5a, 0, 16 * 8);
        engine.load(other);
        engine.load(saved);
        break;
      }
      case 4:
        for (const frame of this.#codeFrames) engine.dropWriteTranslations(frame);
        break;
      case 5:
      case 6: {
        const { addresses, oldFrame, newFrame } = this.#image.migrate(random.below(IMAGE_PAGES));
        for (const address of addresses) engine.invalidatePage(BigInt(address));
        // Both were written from outside.
        engine.invalidateCode(oldFrame);
        engine.invalidateCode(newFrame);
        break;
      }
      case 7:
        return this.#singleStep();
      default:
        engine.stateChanged();
    }
    return ExitReason.budget;
  }

  /** One instruction by TF, as a debugger does it. */
  #singleStep(): ExitReason {
    const { state, exit } = this.#engine;
    // PUSHF would show it.
    if (this.#image.byte(imageOffset(Number(state.rip)) ?? 0) === PUSHF) return ExitReason.budget;
    state.rflags |= RFLAGS.tf;
    const reason = this.#engine.run(WHOLE_SLICE);
    state.rflags &= ~RFLAGS.tf;
    state.dr6 = INITIAL_DR6;
    const isStep = reason === ExitReason.exception && exit.vector === DEBUG;
    return isStep ? ExitReason.budget : reason;
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
    return { end, note, events, bytes: this.#image.read() };
  }
}
