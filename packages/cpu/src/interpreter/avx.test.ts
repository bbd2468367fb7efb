import type { JitMode } from '../engine/api.ts';
import { ExitReason } from '../engine/exit-reason.ts';
import { DATA, PAGE, PTE, TestMachine } from './machine.fixture.ts';

const OSXSAVE = 1n << 18n;
const XCR0_AVX = 7n;
const INVALID_OPCODE = 6;
const PAGE_FAULT = 14;
const READ_ONLY = PTE.present | PTE.user;

function machine(jit: JitMode = 'off'): TestMachine {
  const m = new TestMachine('monitor', {}, jit);
  m.engine.state.cr4 |= OSXSAVE;
  m.engine.state.xcr0 = XCR0_AVX;
  m.engine.stateChanged();
  for (let n = 0; n < 64; n++) m.bytes[DATA + n] = n;
  return m;
}

const row = (m: TestMachine, at: number): number[] => [...m.bytes.subarray(at, at + 32)];

describe.each<JitMode>(['off', 'force'])('with the JIT %s', (jit) => {
  test('a loop over 256-bit vectors, then VZEROUPPER keeps the lower halves', () => {
    const m = machine(jit);
    const reason = m.run(`
      mov rsi, ${DATA}
      mov rdi, ${DATA + 0x200}
      mov ecx, 1000
again: vmovdqu ymm0, [rsi]
      vpaddb ymm1, ymm0, [rsi+32]
      vpshufb ymm2, ymm1, ymm0
      vmovdqu [rdi], ymm2
      dec ecx
      jnz again
      vzeroupper
      syscall`);
    expect(reason).toBe(ExitReason.syscall);
    const sums = Array.from({ length: 32 }, (_, n) => (n + n + 32) & 255);
    const expected = sums.map((_, n) => sums[(n & 16) | (n & 15)] ?? 0);
    expect(row(m, DATA + 0x200)).toEqual(expected);
    expect([...m.engine.state.xmm(1)]).toEqual(sums.slice(0, 16));
    expect([...m.engine.state.ymmHigh(1)]).toEqual(new Array(16).fill(0));
  });

  test('legacy SSE keeps the upper half, VEX.128 clears it', () => {
    const m = machine(jit);
    const program = (add: string): string => `mov rsi, ${DATA}\nvmovdqu ymm0, [rsi]\n${add}\nsyscall`;
    m.run(program('paddb xmm0, xmm0'));
    expect([...m.engine.state.ymmHigh(0)]).toEqual(row(m, DATA + 16).slice(0, 16));
    m.run(program('vpaddb xmm0, xmm0, xmm0'));
    expect([...m.engine.state.ymmHigh(0)]).toEqual(new Array(16).fill(0));
  });
});

test('a 32-byte store into a page that cannot be written writes nothing before it', () => {
  const m = machine();
  const last = DATA + 2 * PAGE;
  m.map(last, last >> 12, READ_ONLY);
  const before = row(m, last - 16);
  expect(m.run(`mov rdi, ${last - 16}\nmov rsi, ${DATA}\nvmovdqu ymm3, [rsi]\nvmovdqu [rdi], ymm3`)).toBe(ExitReason.exception); // prettier-ignore
  expect(m.engine.exit.vector).toBe(PAGE_FAULT);
  expect(m.engine.exit.address).toBe(BigInt(last));
  expect(row(m, last - 16)).toEqual(before);
});

test('a masked load does not touch what is masked out, a masked store faults whole', () => {
  const m = machine();
  const last = DATA + 2 * PAGE;
  m.map(last, last >> 12, 0n);
  m.view.setInt32(DATA, -1, true);
  m.view.setInt32(DATA + 4, 0, true);
  m.view.setInt32(last - 4, 77, true);
  expect(m.run(`mov rsi, ${DATA}\nvmovq xmm1, [rsi]\nmov rdi, ${last - 4}\nvmaskmovps xmm2, xmm1, [rdi]\nsyscall`)).toBe(ExitReason.syscall); // prettier-ignore
  expect([...m.engine.state.xmm(2)]).toEqual([77, ...new Array<number>(15).fill(0)]);
  m.view.setInt32(DATA + 4, -1, true);
  expect(m.run(`vmovq xmm1, [rsi]\nvmaskmovps [rdi], xmm1, xmm1`)).toBe(ExitReason.exception);
  expect(m.engine.exit.vector).toBe(PAGE_FAULT);
  expect(m.view.getInt32(last - 4, true)).toBe(77);
});

test('without AVX in XCR0 there are no AVX instructions, but BMI ones', () => {
  const m = machine();
  m.engine.state.xcr0 = 3n;
  m.engine.stateChanged();
  m.engine.state.rbx = 0b1100n;
  expect(m.run('blsr rax, rbx\nvaddps xmm0, xmm0, xmm0')).toBe(ExitReason.exception);
  expect(m.engine.exit.vector).toBe(INVALID_OPCODE);
  expect(m.engine.state.rax).toBe(0b1000n);
});
