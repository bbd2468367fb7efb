/**
 * Privileged and system instructions: cases with what the manual says of them (`system-cases-*.ts`), run on the
 * interpreter and on the oracle. Each is compared with the case and both with each other, whole state and memory.
 */
import { ExitReason, createEngine, exitName, type InterpreterEngine } from '@xenhost/cpu';
import { CPU_STATE_SIZE, CpuState, SEG, SEGMENTS, type CpuField } from '../../packages/cpu/src/engine/state.ts';
import { is64Bit, isLongMode } from '../../packages/cpu/src/semantics/helpers/addressing.ts';
import { SystemOracle } from './system-oracle.ts';
import { HANDLERS, MACHINE_BYTES, VMCALL_LENGTH, caseCode, codeAddress, initialMemory, initialState, segmentOf, type World } from './system-world.ts'; // prettier-ignore

type Selector = (typeof SEGMENTS)[number];
/** A field by its name, RFLAGS as a whole, or a segment register: its selector, and by that what the tables hold of it. */
export type Fields = Partial<Record<CpuField | 'rflags' | Selector, bigint | number>>;
type Bytes = readonly (readonly [address: number, size: number, value: bigint | number])[];

export interface SystemCase {
  readonly title: string;
  /** Where the manual says so. */
  readonly section: string;
  readonly world: World;
  /** Assembly; a VMCALL, which ends the run, is put behind it. */
  readonly code: string;
  readonly trapMode?: 'architectural' | 'monitor';
  readonly set?: Fields;
  readonly memory?: Bytes;
  /** What is not as before. RIP, when it is not told, is that of the end of the code (of its start after a fault). */
  readonly want?: Fields;
  readonly wantMemory?: Bytes;
  /** The fault that is to reach its handler (architectural) or to end the run (monitor): vector and error code. */
  readonly fault?: readonly [vector: number, errorCode?: number];
  /** The exit, where it is another than that of the VMCALL. */
  readonly exit?: keyof typeof ExitReason;
  /** Details of that exit. */
  readonly details?: Readonly<Partial<Record<'port' | 'size' | 'msr' | 'vector', number>>>;
  /** Why the oracle does not run it. */
  readonly interpreterOnly?: string;
}

interface Outcome {
  readonly reason: ExitReason;
  readonly details: Readonly<Record<string, unknown>>;
  readonly state: CpuState;
  readonly memory: Uint8Array;
}

const BUDGET = 1000;
const PAGE = 4096;
const SCALARS: readonly CpuField[] = [
  'rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip',
  'gdtrBase', 'idtrBase', 'gdtrLimit', 'idtrLimit', 'cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'xcr0', 'efer', 'star', 'lstar',
  'cstar', 'sfmask', 'kernelGsBase', 'sysenterCs', 'sysenterEsp', 'sysenterEip', 'pat', 'apicBase', 'tscAux',
  'dr0', 'dr1', 'dr2', 'dr3', 'dr6', 'dr7', 'cpl',
]; // prettier-ignore
const RESUME = 1n << 16n;

class Interpreter {
  private readonly engine: InterpreterEngine;
  private readonly bytes: Uint8Array;
  private readonly codeFrames = new Set<number>();

  constructor(trapMode: 'architectural' | 'monitor') {
    const pages = MACHINE_BYTES / 65536;
    const machineMemory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.bytes = new Uint8Array(machineMemory.buffer);
    const { codeFrames } = this;
    this.engine = createEngine(
      { trapMode, nrFrames: MACHINE_BYTES / PAGE },
      {
        machineMemory,
        host: {
          cpuid: (leaf, subleaf) => ({ eax: leaf, ebx: subleaf, ecx: 3, edx: 4 }),
          readTsc: () => 0x1_0000_0002n,
          codeFrameAdded: (frame) => codeFrames.add(frame),
          codeFrameWritten: () => undefined,
          isCodeFrame: (frame) => codeFrames.has(frame),
        },
      },
    );
  }
  run(state: CpuState, memory: Uint8Array): Outcome {
    const { engine, bytes } = this;
    bytes.set(memory);
    for (let frame = 0; frame < MACHINE_BYTES / PAGE; frame++) engine.invalidateCode(frame);
    engine.load(state.u8.subarray(state.base, state.base + CPU_STATE_SIZE));
    engine.flushTlb(true);
    const reason = engine.run(BUDGET);
    const after = new Uint8Array(CPU_STATE_SIZE);
    engine.save(after);
    const { exit } = engine;
    const details = { ...exit, errorCode: exit.hasErrorCode ? exit.errorCode : undefined };
    return { reason, details, state: new CpuState(after), memory: bytes.slice() };
  }
}

/** Everything of a state that software can see, by name. */
function snapshot(state: CpuState): Map<string, bigint> {
  const map = new Map<string, bigint>();
  for (const name of SCALARS) map.set(name, BigInt(state[name as 'rax' | 'cpl']));
  map.set('rflags', state.rflags);
  SEGMENTS.forEach((name, n) => {
    const { selector, attributes, limit, base } = state.segment(n);
    map.set(name, BigInt(selector));
    // Of a segment that is not usable nothing counts but, for FS and GS in 64-bit mode, its base.
    const usable = (attributes & 0x80) !== 0;
    map.set(`${name}Attributes`, usable ? BigInt(attributes) : 0n);
    map.set(`${name}Limit`, usable ? BigInt(limit) : 0n);
    map.set(`${name}Base`, usable || name === 'fs' || name === 'gs' ? base : 0n);
  });
  return map;
}

function assign(state: CpuState, fields: Fields): void {
  for (const [name, value] of Object.entries(fields)) {
    const segment = SEGMENTS.indexOf(name as Selector);
    if (segment >= 0) {
      const old = state.segment(segment);
      const found = segmentOf(Number(value));
      const isLoadable = (found.attributes & 0x80) !== 0;
      const keepsBase = !isLoadable && (segment === SEG.fs || segment === SEG.gs) && isLongMode(state);
      state.setSegment(segment, keepsBase ? { ...found, base: old.base } : found);
    } else if (name === 'rflags') state.rflags = BigInt(value);
    else Object.assign(state, { [name]: typeof state[name as 'rax'] === 'bigint' ? BigInt(value) : Number(value) });
  }
}

function putAll(memory: Uint8Array, bytes: Bytes): void {
  for (const [address, size, value] of bytes)
    for (let n = 0; n < size; n++)
      memory[address + n] = Number((BigInt.asUintN(64, BigInt(value)) >> BigInt(8 * n)) & 0xffn);
}
function readMemory(memory: Uint8Array, address: number, size: number): bigint {
  let value = 0n;
  for (let n = size - 1; n >= 0; n--) value = (value << 8n) | BigInt(memory[address + n] ?? 0);
  return value;
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** A delivered fault taken back: the state that it found, by the frame on the handler's stack. Or what is wrong with it. */
function undeliver(outcome: Outcome, one: SystemCase, before: CpuState): string | undefined {
  const [vector, errorCode = -1] = one.fault ?? [0];
  const { state, memory } = outcome;
  const handler = (state.rip - VMCALL_LENGTH - BigInt(HANDLERS)) / 16n;
  if (handler !== BigInt(vector)) return `it ended at ${hex(state.rip)}, the handler of ${handler}, not of ${vector}`;
  const long = isLongMode(state);
  const size = long ? 8 : 4;
  let at = Number(state.rsp);
  const pull = (): bigint => {
    const value = readMemory(memory, at, size);
    at += size;
    return value;
  };
  if (errorCode >= 0) {
    const pushed = pull();
    if (pushed !== BigInt(errorCode)) return `the error code is ${hex(pushed)}, not ${hex(errorCode)}`;
  }
  state.rip = pull();
  const cs = Number(pull() & 0xffffn);
  const flags = pull();
  if (!(flags & RESUME) && vector !== 1 && vector !== 8) return 'the pushed flags have no RF';
  const outer = (cs & 3) !== state.cpl;
  state.cpl = cs & 3;
  if (long || outer) {
    state.rsp = pull();
    const ss = Number(pull() & 0xffffn);
    state.setSegment(SEG.ss, ss === before.ssSelector ? before.segment(SEG.ss) : segmentOf(ss));
  } else state.rsp = BigInt(at);
  state.setSegment(SEG.cs, cs === before.csSelector ? before.segment(SEG.cs) : segmentOf(cs));
  state.rflags = flags & ~RESUME;
  return undefined;
}

/** What differs from the case, if anything. */
function check(one: SystemCase, before: CpuState, end: bigint, outcome: Outcome): string | undefined {
  const monitor = one.trapMode === 'monitor';
  const { reason, state, details } = outcome;
  const usual = monitor ? 'exception' : 'hypercall';
  const wanted = ExitReason[one.exit ?? usual];
  if (reason !== wanted) return `it ended with ${exitName(reason)} at ${hex(state.rip)}, not with ${exitName(wanted)}`;
  let rip = end;
  if (one.exit) {
    for (const [name, value] of Object.entries(one.details ?? {}))
      if (details[name] !== value) return `${name} of the exit is ${String(details[name])}, not ${value}`;
  } else if (monitor) {
    const [vector, errorCode] = one.fault ?? [6];
    if (details['vector'] !== vector || details['errorCode'] !== errorCode)
      return `exception ${String(details['vector'])} (${String(details['errorCode'])}), not ${vector} (${String(errorCode)})`;
    if (one.fault) rip = before.rip;
  } else if (one.fault) {
    const wrong = undeliver(outcome, one, before);
    if (wrong !== undefined) return wrong;
    rip = before.rip;
  } else state.rip -= VMCALL_LENGTH;
  const expected = new CpuState(before.u8.slice(before.base, before.base + CPU_STATE_SIZE));
  expected.rip = rip;
  assign(expected, one.want ?? {});
  const actual = snapshot(state);
  for (const [name, value] of snapshot(expected))
    if (actual.get(name) !== value) return `${name} is ${hex(actual.get(name) ?? 0n)}, not ${hex(value)}`;
  for (const [address, size, value] of one.wantMemory ?? []) {
    const found = readMemory(outcome.memory, address, size);
    if (found !== BigInt.asUintN(8 * size, BigInt(value)))
      return `memory at ${hex(address)} is ${hex(found)}, not ${hex(value)}`;
  }
  return undefined;
}

/** Where interpreter and oracle part. */
function difference(a: Outcome, b: Outcome): string | undefined {
  const other = snapshot(b.state);
  for (const [name, value] of snapshot(a.state))
    if (other.get(name) !== value) return `${name}: interpreter ${hex(value)}, oracle ${hex(other.get(name) ?? 0n)}`;
  for (let at = 0; at < MACHINE_BYTES; at++)
    if (a.memory[at] !== b.memory[at])
      return `memory at ${hex(at)}: interpreter ${hex(a.memory[at] ?? 0)}, oracle ${hex(b.memory[at] ?? 0)}`;
  return undefined;
}

function copyOf(outcome: Outcome): Outcome {
  const { state } = outcome;
  return { ...outcome, state: new CpuState(state.u8.slice(state.base, state.base + CPU_STATE_SIZE)) };
}

export interface SystemResult {
  passed: number;
  failed: number;
  /** Cases that ran on the oracle too. */
  both: number;
  readonly messages: string[];
}

export class SystemSuite {
  private readonly image = initialMemory();
  private readonly interpreters = {
    architectural: new Interpreter('architectural'),
    monitor: new Interpreter('monitor'),
  };
  private readonly oracles = { architectural: new SystemOracle(false), monitor: new SystemOracle(true) };

  run(cases: readonly SystemCase[]): SystemResult {
    const result: SystemResult = { passed: 0, failed: 0, both: 0, messages: [] };
    for (const one of cases) {
      const problems = this.one(one);
      if (one.interpreterOnly === undefined) result.both++;
      if (problems.length === 0) result.passed++;
      else result.failed++;
      for (const problem of problems)
        result.messages.push(`    ${one.world} ${one.title} (${one.section}): ${problem}`);
    }
    return result;
  }

  private one(one: SystemCase): string[] {
    const mode = one.trapMode ?? 'architectural';
    const memory = this.image.slice();
    const { bytes, end } = caseCode(one.code, one.world);
    memory.set(bytes, codeAddress(one.world));
    putAll(memory, one.memory ?? []);
    const before = initialState(one.world);
    assign(before, one.set ?? {});
    if (is64Bit(before) !== (one.world === 'k64' || one.world === 'u64')) throw new Error(`${one.title}: wrong world`);
    const problems: string[] = [];
    const judge = (engine: string, outcome: Outcome): void => {
      const wrong = check(one, before, end, copyOf(outcome));
      if (wrong !== undefined) problems.push(`${engine}: ${wrong}`);
    };
    const actual = this.interpreters[mode].run(before, memory);
    judge('interpreter', actual);
    if (one.interpreterOnly !== undefined) return problems;
    const oracle = this.oracles[mode];
    oracle.start(before, memory);
    const { reason, details } = oracle.run();
    const reference: Outcome = { reason, details: { ...details }, state: oracle.state, memory: oracle.machine.bytes };
    judge('oracle', reference);
    const apart = difference(actual, reference);
    if (apart !== undefined) problems.push(apart);
    return problems;
  }
}
