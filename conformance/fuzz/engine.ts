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
  compileOrder,
} from '@xenhost/cpu';
import type { CompileOrder, EngineHost, JitMode } from '@xenhost/cpu';
import { Random } from '../cpu/random.ts';
import { loadFx, loadUserMode, loadYmmHigh, saveFx, saveYmmHigh } from '../cpu/reference.ts';
import { ALL_FLAGS } from './compare.ts';
import { FRAMES_PER_IMAGE, MappedImage } from './mapped-image.ts';
import { BREAKPOINT, CODE_PAGES, FX_COMPARED, IMAGE_PAGES, MAX_EVENTS, PAGE, REGIONS, RESUME_CELL, imageOffset, type Contestant, type Event, type Image, type Run } from './world.ts'; // prettier-ignore

/** WebAssembly pages. */
const MACHINE_PAGES = 16;
const NR_FRAMES = (MACHINE_PAGES * 65536) / PAGE;
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
  /** Address spaces that run in turn, one program in each; 1 unless given. */
  readonly spaces?: number;
  /** Engines over one memory (pCPUs), among which a program moves between slices; 1 unless given. */
  readonly engines?: number;
  /** Code is compiled elsewhere: what is ordered is there when it was asked for so often. */
  readonly ordersTake?: number;
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

/** As by another thread: from a copy of the order, at some later time. */
function compiledElsewhere(ordersTake: number): Pick<EngineHost, 'orderCompilation' | 'takeCompiled'> {
  const orders: { readonly order: CompileOrder; asked: number }[] = [];
  return {
    orderCompilation: (order) => void orders.push({ order: structuredClone(order), asked: 0 }),
    takeCompiled: () => {
      const [first] = orders;
      if (!first || ++first.asked < ordersTake) return undefined;
      orders.shift();
      return compileOrder(first.order);
    },
  };
}

/** One program in an address space of its own. */
interface Session {
  readonly image: MappedImage;
  readonly events: Event[];
  readonly slices: Slices;
  /** The vCPU while another one runs. */
  readonly saved: Uint8Array;
  result: Run | undefined;
}

export class EngineMachine implements Contestant {
  readonly name: string;
  readonly ours = true;
  readonly #setup: EngineSetup;
  readonly #code: EngineModules;
  #engines: Engine[] = [];
  #current = 0;
  #images: readonly MappedImage[] = [];
  #codeFrames: readonly ReadonlySet<number>[] = [];

  constructor(setup: EngineSetup, modules: { code: EngineModules }) {
    this.#setup = setup;
    this.#code = modules.code;
    this.name = setup.name;
    this.#boot();
  }

  /** The engine that runs now. */
  get #engine(): Engine {
    const engine = this.#engines[this.#current];
    if (!engine) throw new Error('no engine');
    return engine;
  }

  get counters(): Engine['counters'] {
    return this.#engine.counters;
  }

  #boot(): void {
    const { jit, hotAfter, ordersTake } = this.#setup;
    const memory = new WebAssembly.Memory({ initial: MACHINE_PAGES, maximum: MACHINE_PAGES, shared: true });
    const spaces = this.#setup.spaces ?? 1;
    this.#images = Array.from({ length: spaces }, (_, n) => new MappedImage(memory, 1 + n * FRAMES_PER_IMAGE));
    // What is code for each of the engines, as the hypervisor's pCPUs tell each other.
    const code = Array.from({ length: this.#setup.engines ?? 1 }, () => new Set<number>());
    const engines: Engine[] = [];
    const others = (self: number): Engine[] => engines.filter((_, n) => n !== self);
    code.forEach((own, self) => {
      const engine = createEngine(
        { trapMode: 'monitor', nrFrames: NR_FRAMES, jit, ...(hotAfter !== undefined && { hotAfter }) },
        {
          machineMemory: memory,
          code: this.#code,
          host: {
            cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
            readTsc: () => 0n,
            codeFrameAdded: (frame) => {
              own.add(frame);
              for (const other of others(self)) other.dropWriteTranslations(frame);
            },
            codeFrameWritten: (frame) => {
              for (const other of others(self)) other.invalidateCode(frame);
            },
            codeFrameRemoved: (frame) => own.delete(frame),
            isCodeFrame: (frame) => code.some((frames) => frames.has(frame)),
            ...(ordersTake !== undefined && compiledElsewhere(ordersTake)),
          },
        },
      );
      engines.push(engine);
    });
    this.#engines = engines;
    this.#current = 0;
    this.#codeFrames = code;
  }

  run(images: readonly Image[]): Run[] {
    const runs: Run[] = [];
    for (let n = 0; n < images.length; n += this.#images.length)
      runs.push(...this.#together(images.slice(n, n + this.#images.length)));
    return runs;
  }

  /** As many programs as there are address spaces, slice by slice in turn. */
  #together(images: readonly Image[]): Run[] {
    const sessions: Session[] = [];
    try {
      images.forEach((image, n) => {
        const space = this.#images[n];
        if (space) sessions.push(this.#begin(image, space));
      });
      while (sessions.some(({ result }) => !result))
        for (const session of sessions) if (!session.result) this.#turn(session, sessions.length > 1);
    } catch (e) {
      // Our bug, and this engine's end.
      this.#boot();
      const note = e instanceof Error ? (e.stack ?? e.message) : String(e);
      return images.map((image, n) => sessions[n]?.result ?? { end: 'unknown', note, events: [], bytes: image.bytes });
    }
    return sessions.flatMap(({ result }) => (result ? [result] : []));
  }

  #begin(image: Image, space: MappedImage): Session {
    const engine = this.#engine;
    const { state } = engine;
    space.write(image.bytes);
    for (const frame of space.frames) this.#forAll((each) => { each.invalidateCode(frame); }); // prettier-ignore
    loadUserMode(state);
    state.cr3 = space.cr3;
    for (let n = 0; n < 16; n++) state.setGpr(n, image.gpr[n] ?? 0n);
    state.rflags = image.rflags | 0x202n;
    state.rip = BigInt(image.entry);
    loadFx(state, image.fx);
    loadYmmHigh(state, image.ymmHigh);
    engine.stateChanged();
    const saved = new Uint8Array(CPU_STATE_SIZE);
    engine.save(saved);
    return { image: space, events: [], slices: new Slices(this.#setup.disturbances), saved, result: undefined };
  }

  /** One slice, and what it ended with. */
  #turn(session: Session, isShared: boolean): void {
    const engine = this.#engine;
    const { slices, saved } = session;
    if (isShared) engine.load(saved);
    else if (this.#engines.length > 1) this.#move(slices.random);
    let reason = this.#engine.run(slices.next());
    while ((reason === ExitReason.budget || reason === ExitReason.pause) && slices.isDisturbed())
      reason = this.#disturb(session);
    this.#handle(session, reason);
    if (isShared) engine.save(saved);
  }

  /** The vCPU goes on on another engine, perhaps. */
  #move(random: Random): void {
    const state = new Uint8Array(CPU_STATE_SIZE);
    this.#engine.save(state);
    this.#current = random.below(this.#engines.length);
    this.#engine.load(state);
  }

  #handle(session: Session, reason: ExitReason): void {
    const { state } = this.#engine;
    const { events, image, slices } = session;
    const ended = (end: Run['end'], note = ''): void => {
      session.result = { end, note, events, bytes: image.read() };
    };
    if (reason === ExitReason.budget || reason === ExitReason.pause) {
      if (slices.branches >= MAX_BRANCHES) ended('timeout', `rip 0x${state.rip.toString(16)}`);
      return;
    }
    if (reason !== ExitReason.exception && reason !== ExitReason.softwareInterrupt) {
      ended('unknown', exitName(reason));
      return;
    }
    const event = this.#event(reason);
    events.push(event);
    const at = imageOffset(RESUME_CELL) ?? 0;
    const resume = image.quadword(at);
    if (event.vector === BREAKPOINT || events.length === MAX_EVENTS || resume === 0n) {
      ended('done');
      return;
    }
    image.setQuadword(at, 0n);
    state.rip = resume;
    state.rflags &= ~BigInt(ALL_FLAGS);
  }

  #forAll(act: (engine: Engine) => void): void {
    this.#engines.forEach(act);
  }

  /** Something that a hypervisor does between two slices. Returns how the program stands then: mostly as before. */
  #disturb({ image, slices: { random } }: Session): ExitReason {
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
        engine.invalidateCode(random.pick(image.frames));
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
        for (const frame of this.#codeFrames[this.#current] ?? []) engine.dropWriteTranslations(frame);
        break;
      case 5:
      case 6: {
        const overwrites = random.chance(2);
        const { addresses, oldFrame, newFrame } = image.migrate(
          random.below(random.chance(2) ? CODE_PAGES : IMAGE_PAGES),
          overwrites,
        );
        for (const address of addresses) this.#forAll((each) => { each.invalidatePage(BigInt(address)); }); // prettier-ignore
        // Written from outside.
        this.#forAll((each) => {
          if (overwrites) each.invalidateCode(oldFrame);
          each.invalidateCode(newFrame);
        });
        break;
      }
      case 7:
        return this.#singleStep(image);
      default:
        engine.stateChanged();
    }
    return ExitReason.budget;
  }

  /** One instruction by TF, as a debugger does it. */
  #singleStep(image: MappedImage): ExitReason {
    const { state, exit } = this.#engine;
    // PUSHF would show it.
    if (image.byte(imageOffset(Number(state.rip)) ?? 0) === PUSHF) return ExitReason.budget;
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
      ymmHigh: saveYmmHigh(state),
    };
  }
}
