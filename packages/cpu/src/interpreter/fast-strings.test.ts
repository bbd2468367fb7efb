/**
 * Repeated string instructions on the engine against a model that does one element after another: sizes, directions,
 * overlaps, page borders, faults in the middle, code at the destination.
 */
import { ExitReason } from '../engine/exit-reason.ts';
import { CODE, DATA, PAGE, TestMachine, UNMAPPED } from './machine.fixture.ts';

const DF = 0x400n;
const ZF = 0x40n;
const AREA = 4 * PAGE;
const SIZES = [1, 2, 4, 8] as const;
const OPCODE = { movs: 0xa4, cmps: 0xa6, stos: 0xaa, scas: 0xae } as const;
type Name = keyof typeof OPCODE;
type Repeat = 'rep' | 'repne';

/** The names are ambiguous to an assembler: MOVSD and CMPSD are SSE instructions too. */
function encode(name: Name, size: (typeof SIZES)[number], repeat: Repeat): string {
  const prefixes = [repeat === 'rep' ? 0xf3 : 0xf2, ...(size === 2 ? [0x66] : []), ...(size === 8 ? [0x48] : [])];
  return `db ${[...prefixes, OPCODE[name] + (size === 1 ? 0 : 1)].join(', ')}`;
}

interface Registers {
  readonly rax?: bigint;
  readonly rcx: bigint;
  readonly rsi: number;
  readonly rdi: number;
  readonly backwards?: boolean;
}
interface Outcome {
  rcx: bigint;
  rsi: number;
  rdi: number;
  /** What a comparison left. */
  equal: boolean | undefined;
}

const machine = new TestMachine();
const model = new Uint8Array(machine.bytes.length);
const modelView = new DataView(model.buffer);
let seed = 12345;
const random = (below: number): number => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % below;
};

function element(address: number, size: number): bigint {
  return BigInt.asUintN(8 * size, size === 8 ? modelView.getBigUint64(address, true) : BigInt(size === 4 ? modelView.getUint32(address, true) : size === 2 ? modelView.getUint16(address, true) : modelView.getUint8(address))); // prettier-ignore
}
function put(address: number, size: number, value: bigint): void {
  for (let i = 0; i < size; i++) model[address + i] = Number((value >> BigInt(8 * i)) & 0xffn);
}

/** The manual's loop, one element after another. */
function expected(name: Name, size: number, repeat: Repeat, registers: Registers): Outcome {
  const { rax = 0n, backwards = false } = registers;
  let { rcx, rsi, rdi } = registers;
  let equal: boolean | undefined;
  const step = backwards ? -size : size;
  for (; rcx > 0n; rcx--) {
    if (name === 'movs') put(rdi, size, element(rsi, size));
    else if (name === 'stos') put(rdi, size, rax);
    else equal = element(rdi, size) === (name === 'cmps' ? element(rsi, size) : BigInt.asUintN(8 * size, rax));
    if (name === 'movs' || name === 'cmps') rsi += step;
    rdi += step;
    if (equal !== undefined && equal === (repeat === 'repne')) {
      rcx--;
      break;
    }
  }
  return { rcx, rsi, rdi, equal };
}

function fillArea(alphabet = 256): void {
  for (let i = 0; i < AREA; i++) machine.bytes[DATA + i] = random(alphabet);
  model.set(machine.bytes.subarray(DATA, DATA + AREA), DATA);
}

function load(code: string, { rax = 0n, rcx, rsi, rdi, backwards = false }: Registers): void {
  const { state } = machine.engine;
  machine.code(`${code}\nsyscall`);
  state.rip = BigInt(CODE);
  state.rflags = backwards ? 0x202n | DF : 0x202n;
  state.rax = rax;
  state.rcx = rcx;
  state.rsi = BigInt(rsi);
  state.rdi = BigInt(rdi);
}
function runToSyscall(): void {
  let reason: ExitReason;
  do reason = machine.engine.run(1000);
  while (reason === ExitReason.budget);
  expect(reason).toBe(ExitReason.syscall);
}

function check(name: Name, size: (typeof SIZES)[number], repeat: Repeat, registers: Registers): void {
  load(encode(name, size, repeat), registers);
  runToSyscall();
  const { state } = machine.engine;
  const want = expected(name, size, repeat, registers);
  const what = `${repeat} ${name} ${size} ${JSON.stringify({ ...registers, rcx: Number(registers.rcx), rax: String(registers.rax) })}`;
  // SYSCALL leaves in monitor mode before it changes RCX.
  expect([what, state.rcx, state.rsi, state.rdi]).toEqual([what, want.rcx, BigInt(want.rsi), BigInt(want.rdi)]);
  if (want.equal !== undefined) expect([what, (state.rflags & ZF) !== 0n]).toEqual([what, want.equal]);
  const same = Buffer.compare(machine.bytes.subarray(DATA, DATA + AREA), model.subarray(DATA, DATA + AREA)) === 0;
  expect([what, same]).toEqual([what, true]);
}

const direction = [false, true];

test.each(SIZES)('movs of %i bytes: overlaps at every distance', (size) => {
  for (const backwards of direction)
    for (let distance = -40; distance <= 40; distance++) {
      fillArea();
      const count = 1 + random(90);
      const start = DATA + PAGE + (backwards ? count * size : 0);
      check('movs', size, 'rep', { rcx: BigInt(count), rsi: start, rdi: start + distance, backwards });
    }
});

test.each(SIZES)('movs and stos of %i bytes over page borders', (size) => {
  for (let i = 0; i < 150; i++) {
    fillArea();
    const backwards = random(2) === 1;
    const count = 1 + random(Math.floor(AREA / 3 / size));
    const near = (): number => DATA + PAGE * (1 + random(2)) + random(48) - 24;
    const place = (): number => (backwards ? near() + PAGE : near());
    const registers = { rcx: BigInt(count), rsi: place(), rdi: place(), backwards };
    const span = count * size;
    const lowest = (at: number): number => (backwards ? at - span : at);
    if ([registers.rsi, registers.rdi].some((at) => lowest(at) < DATA || lowest(at) + span + 16 > DATA + AREA))
      continue;
    const rax = random(2) === 1 ? 0n : BigInt(random(1 << 24)) * 0x1_0001_0003n;
    check(random(2) === 1 ? 'movs' : 'stos', size, 'rep', { ...registers, rax });
  }
});

test.each(SIZES)('scas and cmps of %i bytes stop where they should', (size) => {
  for (let i = 0; i < 300; i++) {
    const repeat = random(2) === 1 ? 'rep' : 'repne';
    fillArea(repeat === 'rep' ? 1 : 256);
    const backwards = random(8) === 0;
    const count = 1 + random(600);
    const base = DATA + 2 * PAGE;
    const registers = { rcx: BigInt(count), rsi: base + random(64), rdi: base + PAGE / 2 + random(64), backwards };
    const rax = element(registers.rdi, size);
    if (repeat === 'rep') {
      const odd = registers.rdi + random(2 * count) * size * (backwards ? -1 : 1);
      if (odd < DATA + AREA) machine.bytes[odd] = model[odd] = 1;
    } else if (random(2) === 1) {
      const at = random(count) * size;
      machine.bytes.copyWithin(registers.rdi + at, registers.rsi + at, registers.rsi + at + size);
      model.copyWithin(registers.rdi + at, registers.rsi + at, registers.rsi + at + size);
    }
    check(random(2) === 1 ? 'scas' : 'cmps', size, repeat, { ...registers, rax: repeat === 'rep' ? 0n : rax + 1n });
  }
});

test('a count of zero does nothing, a count of one an element', () => {
  for (const name of ['movs', 'stos', 'scas', 'cmps'] as const)
    for (const size of SIZES)
      for (const rcx of [0n, 1n]) {
        fillArea();
        check(name, size, 'rep', { rcx, rsi: DATA, rdi: DATA + 100, rax: 7n });
      }
});

test('a fault in the middle leaves the registers at the element that faults', () => {
  const { state } = machine.engine;
  const room = 100;
  for (const [name, size, write] of [
    ['stos', 4, 2],
    ['movs', 8, 2],
    ['scas', 1, 0],
    ['cmps', 2, 0],
  ] as const) {
    machine.bytes.fill(0, UNMAPPED - PAGE, UNMAPPED);
    machine.bytes.fill(0, DATA, DATA + AREA);
    load(encode(name, size, 'rep'), { rcx: 5000n, rsi: DATA, rdi: UNMAPPED - room * size });
    expect(machine.engine.run(1000)).toBe(ExitReason.exception);
    const { exit } = machine.engine;
    expect([name, exit.vector, exit.errorCode & 7, exit.address]).toEqual([name, 14, 4 | write, BigInt(UNMAPPED)]);
    expect([name, state.rip, state.rcx, state.rdi]).toEqual([
      name,
      BigInt(CODE),
      5000n - BigInt(room),
      BigInt(UNMAPPED),
    ]);
  }
});

test('a long one lets the run loop look, with its registers right', () => {
  const { state } = machine.engine;
  const count = 3 << 20;
  load('rep stosb', { rcx: BigInt(count), rsi: 0, rdi: DATA, rax: 5n });
  expect(machine.engine.run(10)).toBe(ExitReason.budget);
  expect(state.rip).toBe(BigInt(CODE));
  expect(state.rcx + (state.rdi - BigInt(DATA))).toBe(BigInt(count));
  expect(state.rdi).toBeGreaterThan(BigInt(DATA));
});

test('filling a page of code makes it forget its instructions', () => {
  const at = DATA + 3 * PAGE;
  machine.code('mov eax, 1\nret', at);
  const source = `mov edi, ${at}\ncall rdi\nmov ebx, eax\nmov al, 0xc3\nmov edi, ${at}\nmov ecx, 64\nrep stosb\nxor eax, eax\nmov edi, ${at}\ncall rdi\nsyscall`;
  machine.code(source);
  machine.engine.state.rip = BigInt(CODE);
  machine.engine.state.rflags = 0x202n;
  runToSyscall();
  expect([machine.engine.state.rbx, machine.engine.state.rax]).toEqual([1n, 0n]);
});
