/** A jump fused into the comparison before it decides as SETcc, which is never fused, does. */
import { CONDITIONS } from '../isa/index.ts';
import { CODE, DATA, TestMachine } from './machine.fixture.ts';

const SETTERS = [
  'cmp rax, rbx', 'cmp eax, ebx', 'cmp al, bl', 'cmp eax, -3', 'cmp rax, [rdi]', 'cmp [rdi], eax', 'cmp byte [rdi], 5',
  'test rax, rbx', 'test eax, eax', 'test al, 0x81', 'sub rax, rbx', 'sub eax, 1', 'and eax, ebx', 'or rax, rbx',
  'add eax, ebx', 'inc eax', 'dec rax',
]; // prettier-ignore
const EDGES = [0n, 1n, 5n, 0x7fn, 0x80n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 63n, (1n << 64n) - 1n];

test.each(SETTERS)('%s', (setter) => {
  const m = new TestMachine();
  const { state } = m.engine;
  for (const condition of CONDITIONS) {
    m.code(`
      mov rax, r10
      ${setter}
      set${condition} r8b
      mov rax, r10
      ${setter}
      j${condition} taken
      mov r9d, 0
      syscall
taken: mov r9d, 1
      syscall`);
    for (const a of EDGES)
      for (const b of EDGES) {
        state.rip = BigInt(CODE);
        state.r8 = 0n;
        state.r10 = a;
        state.rbx = b;
        state.rdi = BigInt(DATA);
        m.view.setBigUint64(DATA, b, true);
        m.run();
        if (state.r8 !== state.r9) throw new Error(`${setter}; j${condition} of ${a} and ${b}: ${state.r9}`);
      }
  }
  expect(state.r8).toBe(state.r9);
});
