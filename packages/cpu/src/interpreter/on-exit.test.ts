/** What the owner of an engine deals with in the middle of a run. */
import { ExitReason } from '../engine/exit-reason.ts';
import type { ExitAnswer, JitMode } from '../engine/api.ts';
import { CODE, TestMachine, UNMAPPED } from './machine.fixture.ts';

const EFER_SCE = 1n;
/** Three system calls with their numbers in RAX, each counted in RBX on the way back; then HLT, which leaves. */
const CALLS = `
  mov rcx, 0
  mov rdx, 1
again:
  mov rax, rdx
  syscall
  add rbx, rax
  inc rdx
  cmp rdx, 4
  jne again
  hlt`;

function machine(answer: (m: TestMachine, nr: number) => ExitAnswer, jit?: JitMode) {
  const m = new TestMachine('monitor', {}, jit);
  let asked = 0;
  m.engine.onExit = () => answer(m, ++asked);
  return { m, state: m.engine.state, exit: m.engine.exit, asked: () => asked };
}

describe.each<JitMode>(['off', 'force'])('onExit, JIT %s', (jit) => {
  test('a system call that is dealt with does not end the run', () => {
    const reasons: ExitReason[] = [];
    const { m, state, asked } = machine(({ engine }) => {
      reasons.push(engine.exit.reason);
      if (engine.exit.reason !== ExitReason.syscall) return 'refuse';
      engine.state.rax *= 10n;
      return 'resume';
    }, jit);
    expect(m.run(CALLS)).toBe(ExitReason.exception);
    expect(reasons).toEqual([ExitReason.syscall, ExitReason.syscall, ExitReason.syscall, ExitReason.exception]);
    expect(asked()).toBe(4);
    expect(state.rbx).toBe(60n);
    expect(state.rdx).toBe(4n);
  });

  test('the state is as after the exit: RIP behind the instruction, also in the last bytes of a page', () => {
    const rips: bigint[] = [];
    const { m } = machine(({ engine }) => {
      rips.push(engine.state.rip);
      return 'refuse';
    }, jit);
    m.code('syscall', CODE + 4094);
    m.engine.state.rip = BigInt(CODE + 4094);
    expect(m.engine.run(100)).toBe(ExitReason.syscall);
    expect(m.engine.exit.length).toBe(2);
    expect([...rips, m.engine.state.rip]).toEqual([BigInt(CODE + 4096), BigInt(CODE + 4096)]);
  });

  test('the run goes on wherever the owner has put RIP, and ends with its reason', () => {
    const { m, state } = machine(({ engine }, nr) => {
      if (nr === 1) engine.state.rip = BigInt(CODE + 0x800);
      return nr === 1 ? 'resume' : ExitReason.interruptWindow;
    }, jit);
    m.code('mov rsi, 7\nsyscall', CODE + 0x800);
    expect(m.run('syscall\nhlt')).toBe(ExitReason.interruptWindow);
    expect(state.rsi).toBe(7n);
    expect(state.rip).toBe(BigInt(CODE + 0x800 + 9));
  });

  test('a fault that is repaired is tried again', () => {
    const { m, state } = machine(({ engine }) => {
      if (engine.exit.vector !== 14) return 'refuse';
      expect(engine.exit.address).toBe(BigInt(UNMAPPED));
      engine.state.rdi -= 8n;
      return 'resume';
    }, jit);
    expect(m.run(`mov rdi, ${UNMAPPED}\nmov qword [rdi], 5\nhlt`)).toBe(ExitReason.exception);
    expect(m.view.getBigUint64(UNMAPPED - 8, true)).toBe(5n);
    expect(state.rdi).toBe(BigInt(UNMAPPED - 8));
  });

  test('it is not asked in single steps, nor where SYSCALL is not enabled', () => {
    const { m, state, asked } = machine(() => 'resume', jit);
    m.code('syscall');
    state.rflags |= 0x100n;
    expect(m.run()).toBe(ExitReason.syscall);
    expect(asked()).toBe(0);

    const other = machine(() => 'refuse', jit);
    other.state.efer &= ~EFER_SCE;
    other.m.engine.stateChanged();
    expect(other.m.run('syscall')).toBe(ExitReason.exception);
    expect(other.exit.vector).toBe(6);
    expect(other.asked()).toBe(1);
  });
});

test('an architectural machine deals with its traps itself', () => {
  const m = new TestMachine('architectural');
  let asked = 0;
  m.engine.onExit = () => (asked++, 'resume');
  m.enterLongMode(0);
  m.engine.state.lstar = BigInt(CODE + 0x100);
  m.engine.state.star = 8n << 32n;
  m.code('mov rsi, 9\nhlt', CODE + 0x100);
  expect(m.run('syscall')).toBe(ExitReason.halt);
  expect(m.engine.state.rsi).toBe(9n);
  expect(asked).toBe(0);
});
