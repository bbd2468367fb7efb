/** The evaluator of `conformance/cpu` as a contestant: instruction by instruction, slow, and without any cache. */
/* eslint-disable @typescript-eslint/only-throw-error -- a guest's fault travels as GuestFault, as in the engines */
import { decodeInstruction } from '@xenhost/cpu';
import { GuestFault } from '../../packages/cpu/src/semantics/helper.ts';
import { Evaluator, type ProbedMemory } from '../cpu/evaluator.ts';
import { loadFx, loadUserMode, loadYmmHigh, saveFx, saveYmmHigh } from '../cpu/reference.ts';
import { ALL_FLAGS } from './compare.ts';
import { BREAKPOINT, FX_COMPARED, MAX_EVENTS, PAGE, REGIONS, RESUME_CELL, type Contestant, type Event, type Image, type Run } from './world.ts'; // prettier-ignore

const PAGE_FAULT = 14;
const GENERAL_PROTECTION = 13;
const OTHER_EXIT = 0x100;
const PF_PRESENT = 1;
const PF_WRITE = 2;
const PF_USER = 4;
const PF_FETCH = 16;
const MAX_INSTRUCTION_BYTES = 15;
const ALL_ONES = (1n << 64n) - 1n;

type Access = 'read' | 'write' | 'fetch';

interface MappedPage {
  readonly offset: number;
  readonly write: boolean;
  readonly execute: boolean;
}

const pages = new Map<number, MappedPage>();
for (const { address, page, pages: count, write, execute } of REGIONS)
  for (let n = 0; n < count; n++) pages.set(address / PAGE + n, { offset: (page + n) * PAGE, write, execute });

class ImageMemory implements ProbedMemory {
  bytes = new Uint8Array(0);

  /** Offset in the image of one byte, or the fault of touching it. */
  locate(address: bigint, access: Access): number {
    const canonical = BigInt.asIntN(64, address) >> 47n;
    if (canonical !== 0n && canonical !== -1n) throw new GuestFault(GENERAL_PROTECTION, 0, address);
    const page = pages.get(Number(address / BigInt(PAGE)));
    const code = PF_USER | (access === 'write' ? PF_WRITE : access === 'fetch' ? PF_FETCH : 0);
    if (!page) throw new GuestFault(PAGE_FAULT, code, address);
    if ((access === 'write' && !page.write) || (access === 'fetch' && !page.execute))
      throw new GuestFault(PAGE_FAULT, code | PF_PRESENT, address);
    return page.offset + Number(address % BigInt(PAGE));
  }

  /** The fault address is that of the access, or of the page it runs into. */
  probe(address: bigint, size: number, isWrite: boolean): void {
    const access = isWrite ? 'write' : 'read';
    this.locate(address, access);
    const last = BigInt.asUintN(64, address + BigInt(size - 1));
    if (last / BigInt(PAGE) !== address / BigInt(PAGE)) this.locate(last - (last % BigInt(PAGE)), access);
  }
  span(address: bigint, length: number, isWrite: boolean): undefined {
    this.probe(address, length, isWrite);
    return undefined;
  }
  read(address: bigint, size: number): bigint {
    const into = new Uint8Array(size);
    this.readBytes(address, into);
    return into.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }
  write(address: bigint, size: number, value: bigint): void {
    this.writeBytes(
      address,
      Uint8Array.from({ length: size }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn)),
    );
  }
  readBytes(address: bigint, into: Uint8Array): void {
    this.probe(address, into.length, false);
    for (let n = 0; n < into.length; n++) into[n] = this.bytes[this.locate(address + BigInt(n), 'read')] ?? 0;
  }
  writeBytes(address: bigint, from: Uint8Array): void {
    this.probe(address, from.length, true);
    from.forEach((byte, n) => {
      this.bytes[this.locate(address + BigInt(n), 'write')] = byte;
    });
  }

  /** The bytes from `rip` on, as many as can be fetched, and the fault of the first that cannot. */
  fetch(rip: bigint): { code: Uint8Array; fault: GuestFault | undefined } {
    const code: number[] = [];
    try {
      for (let n = 0; n < MAX_INSTRUCTION_BYTES; n++)
        code.push(this.bytes[this.locate(BigInt.asUintN(64, rip + BigInt(n)), 'fetch')] ?? 0);
    } catch (e) {
      if (!(e instanceof GuestFault)) throw e;
      return { code: Uint8Array.from(code), fault: e };
    }
    return { code: Uint8Array.from(code), fault: undefined };
  }
}

export class OracleMachine implements Contestant {
  readonly name = 'oracle';
  readonly ours = true;
  readonly #memory = new ImageMemory();
  readonly #evaluator = new Evaluator(this.#memory);
  readonly #maxSteps: number;

  constructor(maxSteps: number) {
    this.#maxSteps = maxSteps;
  }

  run(images: readonly Image[]): Run[] {
    return images.map((image) => this.#one(image));
  }

  #one(image: Image): Run {
    const { state } = this.#evaluator;
    const memory = this.#memory;
    memory.bytes = Uint8Array.from(image.bytes);
    loadUserMode(state);
    for (let n = 0; n < 16; n++) state.setGpr(n, image.gpr[n] ?? 0n);
    state.rflags = image.rflags | 0x202n;
    state.rip = BigInt(image.entry);
    state.stackMask = ALL_ONES;
    state.ripMask = ALL_ONES;
    loadFx(state, image.fx);
    loadYmmHigh(state, image.ymmHigh);
    const events: Event[] = [];
    const end = (how: Run['end'], note = ''): Run => ({ end: how, note, events, bytes: memory.bytes });
    for (let steps = 0; steps < this.#maxSteps; steps++) {
      const outcome = this.#step();
      if (outcome.vector < 0) continue;
      if (outcome.vector >= OTHER_EXIT) return end('unknown', `exit ${outcome.vector - OTHER_EXIT}`);
      const event = this.#event(outcome);
      events.push(event);
      if (event.vector === BREAKPOINT || events.length === MAX_EVENTS) return end('done');
      const resume = memory.read(BigInt(RESUME_CELL), 8);
      if (resume === 0n) return end('done');
      memory.write(BigInt(RESUME_CELL), 8, 0n);
      state.rip = resume;
      state.rflags &= ~BigInt(ALL_FLAGS);
    }
    return end('timeout');
  }

  #step(): { vector: number; errorCode: number; address: bigint } {
    const { code, fault } = this.#memory.fetch(this.#evaluator.state.rip);
    const fetchFault = fault && { vector: fault.vector, errorCode: fault.errorCode, address: fault.address };
    if (fetchFault && code.length === 0) return fetchFault;
    // An instruction that lacks its end faults for that.
    if (fetchFault && decodeInstruction(code, 64) === 'truncated') return fetchFault;
    const outcome = this.#evaluator.step(code);
    if (outcome.vector === BREAKPOINT) this.#evaluator.state.rip += 1n;
    return outcome;
  }

  #event({ vector, errorCode, address }: { vector: number; errorCode: number; address: bigint }): Event {
    const { state } = this.#evaluator;
    const gpr = new BigUint64Array(16);
    for (let n = 0; n < 16; n++) gpr[n] = state.gpr(n);
    return {
      vector,
      errorCode: BigInt(Math.max(0, errorCode)),
      address: vector === PAGE_FAULT ? address : 0n,
      rip: state.rip,
      gpr,
      rflags: state.rflags,
      fx: saveFx(state).subarray(0, FX_COMPARED),
      ymmHigh: saveYmmHigh(state),
    };
  }
}
