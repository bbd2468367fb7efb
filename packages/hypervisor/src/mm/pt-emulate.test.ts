import { CPU_STATE_SIZE, CpuState, RFLAGS } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { PtWriteResult } from './api.ts';
import { hasWritableTables, PtEmulator } from './pt-emulate.ts';

const CODE = 0x40_0000n;
const ENTRY = 0x50_0018n;
const OLD = 0x1234_5067n;

/** One instruction at CODE, an entry at ENTRY; stores are noted and answered with `answer`. */
function run(code: readonly number[], registers: Partial<Pick<CpuState, 'rax' | 'rcx' | 'rdi'>>, answer: PtWriteResult = { kind: 'stored' }) {
  const state = new CpuState(new Uint8Array(CPU_STATE_SIZE));
  state.rip = CODE;
  state.rdi = ENTRY;
  Object.assign(state, registers);
  const engine = {
    state,
    readVirtual(address: bigint, into: Uint8Array) {
      if (address === CODE) into.set(code.slice(0, into.length));
      else if (address === ENTRY) new DataView(into.buffer).setBigUint64(0, OLD, true);
      else return { address, errorCode: 0 };
      return undefined;
    },
  } as unknown as Engine;
  const stores: { linear: bigint; size: number; value: bigint; expected: bigint | undefined }[] = [];
  const emulator = new PtEmulator((_, linear, size, value, expected) => {
    stores.push({ linear, size, value, expected });
    return answer;
  });
  const done = emulator.emulate({} as VcpuRef, engine, ENTRY);
  return { done, state, store: stores[0] };
} // prettier-ignore

test.each<[string, number[], Partial<CpuState>, bigint, boolean]>([
  ['mov %rax,(%rdi)', [0x48, 0x89, 0x07], { rax: 0x77n }, 0x77n, false],
  ['movq $5,(%rdi)', [0x48, 0xc7, 0x07, 5, 0, 0, 0], {}, 5n, false],
  ['xchg %rax,(%rdi)', [0x48, 0x87, 0x07], { rax: 0x77n }, 0x77n, true],
  ['lock and %rax,(%rdi)', [0xf0, 0x48, 0x21, 0x07], { rax: ~2n & 0xffffffffffffffffn }, OLD & ~2n, true],
  ['lock btr $1,(%rdi)', [0xf0, 0x48, 0x0f, 0xba, 0x37, 1], {}, OLD & ~2n, true],
  ['lock bts %rcx,(%rdi)', [0xf0, 0x48, 0x0f, 0xab, 0x0f], { rcx: 9n }, OLD | 0x200n, true],
  ['lock cmpxchg %rcx,(%rdi), equal', [0xf0, 0x48, 0x0f, 0xb1, 0x0f], { rax: OLD, rcx: 1n }, 1n, true],
  ['lock cmpxchg %rcx,(%rdi), unequal', [0xf0, 0x48, 0x0f, 0xb1, 0x0f], { rax: 3n, rcx: 1n }, OLD, true],
])('%s', (_, code, registers, value, isExchange) => {
  const { done, state, store } = run(code, registers);
  expect(done).toBe(true);
  expect(store).toEqual({ linear: ENTRY, size: 8, value, expected: isExchange ? OLD : undefined });
  expect(state.rip).toBe(CODE + BigInt(code.length));
});

test('what comes back in registers and flags', () => {
  expect(run([0x48, 0x87, 0x07], { rax: 7n }).state.rax).toBe(OLD);
  expect(run([0xf0, 0x48, 0x0f, 0xba, 0x37, 1], {}).state.rflags & RFLAGS.cf).toBe(RFLAGS.cf);
  const equal = run([0xf0, 0x48, 0x0f, 0xb1, 0x0f], { rax: OLD, rcx: 1n }).state;
  expect(equal.rflags & RFLAGS.zf).toBe(RFLAGS.zf);
  const unequal = run([0xf0, 0x48, 0x0f, 0xb1, 0x0f], { rax: 3n, rcx: 1n }).state;
  expect([unequal.rflags & RFLAGS.zf, unequal.rax]).toEqual([0n, OLD]);
});

test('an entry that changed meanwhile: the instruction is tried again', () => {
  const { done, state } = run([0x48, 0x87, 0x07], { rax: 7n }, { kind: 'mismatch', current: 0n });
  expect([done, state.rip, state.rax]).toEqual([true, CODE, 7n]);
});

test('a domain without the assist has no such stores', () => {
  expect(hasWritableTables({ v: { vmAssist: 4 } } as DomainRef)).toBe(true);
  expect(hasWritableTables({ v: { vmAssist: ~4 >>> 0 } } as DomainRef)).toBe(false);
});

test.each<[string, number[], PtWriteResult]>([
  ['a refused store', [0x48, 0x89, 0x07], { kind: 'refused' }],
  ['a load', [0x48, 0x8b, 0x07], { kind: 'stored' }],
  ['an instruction that is not dealt with', [0x48, 0xff, 0x07], { kind: 'stored' }],
  ['another address', [0x48, 0x89, 0x87, 0, 0x10, 0, 0], { kind: 'stored' }],
  ['16 bytes', [0xf3, 0x0f, 0x7f, 0x07], { kind: 'stored' }],
])("%s is the guest's fault", (_, code, answer) => {
  const { done, state } = run(code, {}, answer);
  expect([done, state.rip]).toEqual([false, CODE]);
});
