/** Regions that are compiled elsewhere while the engine goes on. */
import type { CompileOrder, CompiledOrder } from '../engine/api.ts';
import { CPU_STATE_SIZE } from '../engine/state.ts';
import { CODE, TestMachine } from '../interpreter/machine.fixture.ts';
import { compileOrder } from './order.ts';

/** Calls over the edge of a page, a loop in a loop, flags that live across blocks: RAX is what it computes. */
const PROGRAM = `
  mov rbx, 0
outer:
  mov rcx, 100
inner:
  mov rdi, rcx
  call work
  add rax, rdi
  dec rcx
  jnz inner
  inc rbx
  cmp rbx, 1000
  jb outer
  hlt`;
const WORK = `
work:
  imul rdi, rdi, 3
  test dil, 1
  jz even
  adc rdi, 5
even:
  ret`;

function machine() {
  const orders: CompileOrder[] = [];
  const done: CompiledOrder[] = [];
  const host = {
    orderCompilation: (order: CompileOrder) => void orders.push(structuredClone(order)),
    takeCompiled: () => done.shift(),
  };
  const m = new TestMachine('monitor', host, 'on');
  // The last instruction of the loop lies in two pages.
  m.code(PROGRAM.replace('call work', `call ${CODE + 0x1800}`), CODE + 0xfe0);
  m.code(WORK.replace('work:', ''), CODE + 0x1800);
  m.engine.state.rip = BigInt(CODE + 0xfe0);
  m.engine.state.rax = 0n;
  return { m, orders, done, counters: m.engine.counters };
}
/** To the end in slices; `between` them. */
function finish(m: TestMachine, between: () => void): bigint {
  for (let i = 0; i < 10_000; i++) {
    if (m.engine.run(2000) !== 0) return m.engine.state.rax;
    between();
  }
  throw new Error('it does not end');
}
const expected = ((): bigint => {
  const m = new TestMachine('monitor', {}, 'off');
  m.code(PROGRAM.replace('call work', `call ${CODE + 0x1800}`), CODE + 0xfe0);
  m.code(WORK.replace('work:', ''), CODE + 0x1800);
  m.engine.state.rip = BigInt(CODE + 0xfe0);
  m.engine.state.rax = 0n;
  return finish(m, () => undefined);
})();

test('an order compiled elsewhere runs here', () => {
  const { m, orders, done, counters } = machine();
  const result = finish(m, () => {
    for (const order of orders.splice(0)) done.push(compileOrder(order));
  });
  expect(result).toBe(expected);
  expect(counters.regionsCompiled).toBeGreaterThan(0);
  expect(counters.regionEntries).toBeGreaterThan(0);
  expect(counters.compiledSlices).toBeGreaterThan(0);
});

test('nothing waits for an order, and one place is ordered once', () => {
  const { m, orders, counters } = machine();
  expect(finish(m, () => undefined)).toBe(expected);
  expect(counters.regionsCompiled).toBe(0);
  const starts = orders.flatMap(({ regions }) => regions.flatMap(({ blocks }) => blocks.map(({ at }) => at)));
  expect(orders.length).toBeGreaterThan(0);
  expect(orders.length).toBeLessThanOrEqual(8);
  expect(starts.length).toBeLessThan(100);
});

test('code that was written meanwhile is not entered', () => {
  const { m, orders, done } = machine();
  while (orders.length === 0) m.engine.run(2000);
  // ADD RAX, RDI becomes SUB RAX, RDI: what is compiled is what was there before.
  const [order] = orders.splice(0);
  const sources = m.bytes.slice(CODE + 0xfe0, CODE + 0x1020);
  const at = sources.findIndex((byte, i) => byte === 0x48 && sources[i + 1] === 0x01 && sources[i + 2] === 0xf8);
  m.bytes[CODE + 0xfe0 + at + 1] = 0x29;
  m.engine.invalidateCode((CODE + 0xfe0 + at) >> 12);
  if (order) done.push(compileOrder(order));
  const twin = new TestMachine('monitor', {}, 'off');
  const state = new Uint8Array(CPU_STATE_SIZE);
  m.engine.save(state);
  twin.bytes.set(m.bytes);
  twin.engine.load(state);
  expect(finish(m, () => undefined)).toBe(finish(twin, () => undefined));
});

test('what cannot be compiled stays interpreted and is not ordered again', () => {
  const { m, orders, done } = machine();
  let answered = 0;
  const result = finish(m, () => {
    for (const { id } of orders.splice(0)) {
      answered++;
      done.push({ id, module: undefined, bytes: 0, compileNs: 0 });
    }
  });
  expect(result).toBe(expected);
  expect(answered).toBeGreaterThan(0);
  expect(answered).toBeLessThanOrEqual(8);
});
