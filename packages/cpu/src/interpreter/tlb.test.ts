/** Address spaces of the TLB: what is used again, and what must never be. */
import { CPU_STATE_SIZE } from '../engine/state.ts';
import { CODE, DATA, PAGE, PTE, TestMachine } from './machine.fixture.ts';
import { NR_VIEWS } from './memory-map.ts';

const RIGHTS = PTE.present | PTE.write | PTE.user;
const FIRST_ROOT = 0x1;
/** Tables for further roots lie here, 4 frames each. */
const TABLES = 0x600;

/** A machine with the number of each frame from DATA on in its first word. */
function machine(trapMode: 'monitor' | 'architectural' = 'monitor'): TestMachine {
  const m = new TestMachine(trapMode);
  for (let i = 0; i < 64; i++) m.view.setUint32(DATA + i * PAGE, i, true);
  m.code(`mov eax, [${DATA}]\nhlt`);
  return m;
}

/** A root like the first, but for `linear` which maps `frame`. Tables are changed behind the engine's back. */
function otherRoot(m: TestMachine, n: number, linear: number, frame: number): number {
  const first = TABLES + n * 4;
  const copy = (from: number, to: number): void => void m.bytes.copyWithin(to * PAGE, from * PAGE, (from + 1) * PAGE);
  const leaf = Number(m.view.getBigUint64(0x3000 + 8 * (linear >> 21), true) >> 12n) & 0xfffff;
  copy(FIRST_ROOT, first);
  copy(2, first + 1);
  copy(3, first + 2);
  copy(leaf, first + 3);
  const set = (table: number, slot: number, target: number): void => {
    m.view.setBigUint64(table * PAGE + slot * 8, BigInt(target * PAGE) | RIGHTS, true);
  };
  set(first, 0, first + 1);
  set(first + 1, 0, first + 2);
  set(first + 2, linear >> 21, first + 3);
  set(first + 3, (linear >> 12) & 511, frame);
  return first;
}
/** Changes an entry without telling the engine. */
function silently(m: TestMachine, root: number, linear: number, entry: bigint): void {
  const leaf = root === FIRST_ROOT ? Number(m.view.getBigUint64(0x3000 + 8 * (linear >> 21), true) >> 12n) & 0xfffff : root + 3; // prettier-ignore
  m.view.setBigUint64(leaf * PAGE + ((linear >> 12) & 511) * 8, entry, true);
}
const frameEntry = (i: number): bigint => BigInt(DATA + i * PAGE) | RIGHTS;

/** What the loaded vCPU reads at DATA, by generated code; -1 for a page fault. */
function read(m: TestMachine): number {
  const { state } = m.engine;
  state.rip = BigInt(CODE);
  state.rax = 0n;
  m.engine.run(1000);
  return m.engine.exit.vector === 14 ? -1 : Number(state.rax);
}
const saved = (m: TestMachine): Uint8Array => {
  const bytes = new Uint8Array(CPU_STATE_SIZE);
  m.engine.save(bytes);
  return bytes;
};

test('a root that comes back finds its translations: nothing is walked again', () => {
  const m = machine();
  const other = otherRoot(m, 0, DATA, (DATA >> 12) + 5);
  expect(read(m)).toBe(0);
  m.engine.switchRoot(other);
  expect(read(m)).toBe(5);
  const { tlbMisses } = m.engine.counters;
  m.engine.switchRoot(FIRST_ROOT);
  expect(read(m)).toBe(0);
  m.engine.switchRoot(other);
  expect(read(m)).toBe(5);
  expect(m.engine.counters.tlbMisses).toBe(tlbMisses);
});

test('switchRoot sets CR3, and faults are those of the new root', () => {
  const m = machine();
  const other = otherRoot(m, 0, DATA, (DATA >> 12) + 5);
  expect(read(m)).toBe(0);
  silently(m, other, DATA, 0n);
  m.engine.switchRoot(other);
  expect(m.engine.state.cr3).toBe(BigInt(other * PAGE));
  expect(read(m)).toBe(-1);
});

test('one frame in two roots: a page invalidated goes from both', () => {
  const m = machine();
  const other = otherRoot(m, 0, DATA, DATA >> 12);
  expect(read(m)).toBe(0);
  m.engine.switchRoot(other);
  expect(read(m)).toBe(0);
  silently(m, FIRST_ROOT, DATA, frameEntry(1));
  silently(m, other, DATA, frameEntry(2));
  m.engine.invalidatePage(BigInt(DATA + 123));
  expect(read(m)).toBe(2);
  m.engine.switchRoot(FIRST_ROOT);
  expect(read(m)).toBe(1);
});

test('a flush takes all roots of the vCPU', () => {
  const m = machine();
  const other = otherRoot(m, 0, DATA, (DATA >> 12) + 5);
  read(m);
  m.engine.switchRoot(other);
  read(m);
  silently(m, FIRST_ROOT, DATA, 0n);
  silently(m, other, DATA, frameEntry(7));
  m.engine.flushTlb(true);
  expect(read(m)).toBe(7);
  m.engine.switchRoot(FIRST_ROOT);
  expect(read(m)).toBe(-1);
});

test('a flush without global pages keeps those and only those', () => {
  const m = machine();
  const GLOBAL = 0x100n;
  m.map(DATA, DATA >> 12, RIGHTS | GLOBAL);
  expect(read(m)).toBe(0);
  silently(m, FIRST_ROOT, DATA, frameEntry(3));
  m.engine.flushTlb(false);
  expect(read(m)).toBe(0);
  m.engine.flushTlb(true);
  expect(read(m)).toBe(3);
  silently(m, FIRST_ROOT, DATA, frameEntry(4));
  m.engine.flushTlb(false);
  expect(read(m)).toBe(4);
});

test('another vCPU never sees translations of the first, under the same root', () => {
  const m = machine();
  const state = saved(m);
  m.engine.load(state, 1);
  expect(read(m)).toBe(0);
  silently(m, FIRST_ROOT, DATA, frameEntry(9));
  m.engine.load(state, 2, true);
  expect(read(m)).toBe(9);
});

test('a vCPU that is loaded again keeps its translations only when told so', () => {
  const m = machine();
  const state = saved(m);
  m.engine.load(state, 1);
  expect(read(m)).toBe(0);
  silently(m, FIRST_ROOT, DATA, frameEntry(9));
  m.engine.load(state, 2);
  m.engine.load(state, 1, true);
  expect(read(m)).toBe(0);
  m.engine.load(state, 2);
  m.engine.load(state, 1, false);
  expect(read(m)).toBe(9);
});

test('a flush of one vCPU leaves the others theirs; flushAllTranslations does not', () => {
  const m = machine();
  const state = saved(m);
  m.engine.load(state, 1);
  read(m);
  m.engine.load(state, 2);
  read(m);
  silently(m, FIRST_ROOT, DATA, frameEntry(9));
  m.engine.flushTlb(true);
  expect(read(m)).toBe(9);
  m.engine.load(state, 1, true);
  expect(read(m)).toBe(0);
  m.engine.flushAllTranslations();
  expect(read(m)).toBe(9);
});

test('a view that is recycled for another root is empty', () => {
  const m = machine();
  const roots = Array.from({ length: NR_VIEWS + 4 }, (_, n) => otherRoot(m, n, DATA, (DATA >> 12) + n));
  for (const [n, root] of roots.entries()) {
    m.engine.switchRoot(root);
    expect(read(m)).toBe(n);
  }
  for (const [n, root] of roots.entries()) silently(m, root, DATA, frameEntry(n + 30));
  m.engine.flushTlb(true);
  for (const [n, root] of roots.entries()) {
    m.engine.switchRoot(root);
    expect(read(m)).toBe(n + 30);
  }
});

describe('pages that share an index', () => {
  /** As many pages further, so that index and slot are the same. */
  const FAR = 4 << 20;
  function pair(): { m: TestMachine; both: () => bigint[] } {
    const m = machine();
    m.map(DATA + FAR, (DATA >> 12) + 5, RIGHTS);
    m.code(`mov ecx, 100
again: mov eax, [${DATA}]
mov ebx, [${DATA + FAR}]
mov [${DATA + 8}], ecx
mov [${DATA + FAR + 8}], ecx
add dword ptr [${DATA + 12}], 1
add dword ptr [${DATA + FAR + 12}], 1
dec ecx
jnz again
hlt`);
    const both = (): bigint[] => {
      m.engine.state.rip = BigInt(CODE);
      m.engine.run(1000);
      return [m.engine.state.rax, m.engine.state.rbx];
    };
    return { m, both };
  }

  test('are not walked each time they take turns, and keep apart', () => {
    const { m, both } = pair();
    expect(both()).toEqual([0n, 5n]);
    expect(m.engine.counters.tlbMisses).toBeLessThan(12);
    expect(m.view.getUint32(DATA + 12, true)).toBe(100);
    expect(m.view.getUint32(DATA + 5 * PAGE + 12, true)).toBe(100);
  });

  const ways: [string, (m: TestMachine) => void][] = [
    ['invalidatePage', (m) => [DATA, DATA + FAR].forEach((at) => { m.engine.invalidatePage(BigInt(at)); })], // prettier-ignore
    ['dropMapping', (m) => [0, 5].forEach((n) => { m.engine.dropMapping((DATA >> 12) & 511, (DATA >> 12) + n); })], // prettier-ignore
    ['flushTlb', (m) => { m.engine.flushTlb(false); }], // prettier-ignore
    ['flushAllTranslations', (m) => { m.engine.flushAllTranslations(); }], // prettier-ignore
    ['dropRoot', (m) => { m.engine.dropRoot(FIRST_ROOT); }], // prettier-ignore
  ];
  test.each(ways)('%s takes the one that is out of its place, too', (_name, forget) => {
    const { m, both } = pair();
    both();
    silently(m, FIRST_ROOT, DATA, frameEntry(6));
    silently(m, FIRST_ROOT, DATA + FAR, frameEntry(7));
    forget(m);
    expect(both()).toEqual([6n, 7n]);
  });

  test('write translations of both go', () => {
    const { m, both } = pair();
    both();
    for (const n of [0, 5]) {
      m.engine.dropWriteTranslations((DATA >> 12) + n);
      m.codeFrames.add((DATA >> 12) + n);
    }
    m.codeFramesWritten.length = 0;
    both();
    expect(new Set(m.codeFramesWritten)).toEqual(new Set([DATA >> 12, (DATA >> 12) + 5]));
  });
});

describe('a new root with the same upper half', () => {
  const UPPER = 0xffff_ff80_0000_0000n;
  /** Code in the upper half that reads a page there and DATA here. */
  function upper(): { m: TestMachine; readBoth: () => bigint[] } {
    const m = machine();
    m.view.setBigUint64(FIRST_ROOT * PAGE + 511 * 8, 0x2000n | RIGHTS, true);
    m.code(`mov rsi, ${UPPER + BigInt(DATA + PAGE)}
mov eax, [rsi]
mov ebx, [${DATA}]
hlt`);
    const readBoth = (): bigint[] => {
      m.engine.state.rip = UPPER + BigInt(CODE);
      m.engine.run(1000);
      return [m.engine.state.rax, m.engine.state.rbx];
    };
    return { m, readBoth };
  }

  test('starts with what is known of it, and of nothing else', () => {
    const { m, readBoth } = upper();
    const other = otherRoot(m, 0, DATA, (DATA >> 12) + 5);
    m.view.setBigUint64(other * PAGE + 511 * 8, 0x2000n | RIGHTS | PTE.accessed, true);
    expect(readBoth()).toEqual([1n, 0n]);
    const { tlbMisses } = m.engine.counters;
    m.engine.switchRoot(other);
    expect(readBoth()).toEqual([1n, 5n]);
    expect(m.engine.counters.tlbMisses).toBe(tlbMisses + 1);
    m.engine.flushTlb(true);
    silently(m, FIRST_ROOT, DATA + PAGE, frameEntry(3));
    expect(readBoth()).toEqual([3n, 5n]);
  });

  test('with another table there, or other rights, starts with nothing', () => {
    const { m, readBoth } = upper();
    const other = otherRoot(m, 0, DATA + PAGE, (DATA >> 12) + 5);
    m.view.setBigUint64(other * PAGE + 511 * 8, BigInt((other + 1) * PAGE) | RIGHTS, true);
    expect(readBoth()).toEqual([1n, 0n]);
    m.engine.switchRoot(other);
    expect(readBoth()).toEqual([5n, 0n]);
    const third = otherRoot(m, 1, DATA, DATA >> 12);
    m.view.setBigUint64(third * PAGE + 511 * 8, BigInt((other + 1) * PAGE) | PTE.present | PTE.user, true);
    const { tlbMisses } = m.engine.counters;
    m.engine.switchRoot(third);
    expect(readBoth()).toEqual([5n, 0n]);
    expect(m.engine.counters.tlbMisses).toBe(tlbMisses + 2);
  });

  test('of another vCPU starts with nothing', () => {
    const { m, readBoth } = upper();
    const other = otherRoot(m, 0, DATA, (DATA >> 12) + 5);
    m.view.setBigUint64(other * PAGE + 511 * 8, 0x2000n | RIGHTS, true);
    const state = saved(m);
    m.engine.load(state, 1);
    expect(readBoth()).toEqual([1n, 0n]);
    silently(m, FIRST_ROOT, DATA + PAGE, frameEntry(3));
    m.engine.load(state, 2);
    m.engine.switchRoot(other);
    expect(readBoth()).toEqual([3n, 5n]);
  });
});

test('code is looked up in the address space that runs', () => {
  const m = machine();
  m.code('mov eax, 1\nhlt', DATA + 16 * PAGE);
  m.code('mov eax, 2\nhlt', DATA + 17 * PAGE);
  const at = DATA + 16 * PAGE;
  const other = otherRoot(m, 0, at, (at >> 12) + 1);
  const call = (): bigint => {
    m.engine.state.rip = BigInt(at);
    m.engine.run(1000);
    return m.engine.state.rax;
  };
  expect(call()).toBe(1n);
  m.engine.switchRoot(other);
  expect(call()).toBe(2n);
  m.engine.switchRoot(FIRST_ROOT);
  expect(call()).toBe(1n);
  silently(m, FIRST_ROOT, at, BigInt(at + PAGE) | RIGHTS);
  m.engine.invalidatePage(BigInt(at));
  expect(call()).toBe(2n);
});

test('write translations of a frame go from the views of every vCPU and root', () => {
  const m = machine();
  const state = saved(m);
  const other = otherRoot(m, 0, DATA + PAGE, DATA >> 12);
  m.code(`mov dword ptr [${DATA}], 77\nhlt`);
  m.engine.load(state, 1);
  read(m);
  m.code(`mov dword ptr [${DATA + PAGE}], 78\nhlt`);
  m.engine.switchRoot(other);
  read(m);
  m.engine.load(state, 2);
  m.engine.dropWriteTranslations(DATA >> 12);
  m.codeFrames.add(DATA >> 12);
  m.codeFramesWritten.length = 0;
  m.engine.load(state, 1, true);
  m.engine.switchRoot(other);
  read(m);
  m.code(`mov dword ptr [${DATA}], 77\nhlt`);
  m.engine.switchRoot(FIRST_ROOT);
  read(m);
  expect(m.codeFramesWritten).toEqual([DATA >> 12, DATA >> 12]);
});

test('what a slot gave to a frame goes from all vCPUs and roots, and nothing else does', () => {
  const m = machine();
  const state = saved(m);
  const slot = (DATA >> 12) & 511;
  const other = otherRoot(m, 0, DATA, (DATA >> 12) + 5);
  m.engine.load(state, 1);
  read(m);
  m.engine.switchRoot(other);
  read(m);
  m.engine.load(state, 2);
  read(m);
  for (const root of [FIRST_ROOT, other]) silently(m, root, DATA, frameEntry(9));
  m.engine.dropMapping(slot, DATA >> 12);
  expect(read(m)).toBe(9);
  m.engine.load(state, 1, true);
  expect(read(m)).toBe(9);
  m.engine.switchRoot(other);
  expect(read(m)).toBe(5);
  m.engine.dropMapping(slot, (DATA >> 12) + 5);
  expect(read(m)).toBe(9);
});

test('a page whose address differs above its slot is found as well', () => {
  const m = machine();
  // 2 MiB further: the same slot of another table, another index of the TLB.
  const far = DATA + (1 << 21);
  m.map(far, DATA >> 12, RIGHTS);
  const readFar = (): bigint => (m.run(`mov eax, [${far}]\nhlt`), m.engine.state.rax);
  expect(readFar()).toBe(0n);
  silently(m, FIRST_ROOT, far, frameEntry(4));
  m.engine.dropMapping((far >> 12) & 511, DATA >> 12);
  expect(readFar()).toBe(4n);
});

test('a slot of code is dropped with its page', () => {
  const m = machine();
  const at = DATA + 16 * PAGE;
  m.code('mov eax, 1\nhlt', at);
  m.code('mov eax, 2\nhlt', at + PAGE);
  const call = (): bigint => ((m.engine.state.rip = BigInt(at)), m.engine.run(1000), m.engine.state.rax);
  expect(call()).toBe(1n);
  silently(m, FIRST_ROOT, at, BigInt(at + PAGE) | RIGHTS);
  m.engine.dropMapping((at >> 12) & 511, at >> 12);
  expect(call()).toBe(2n);
});

test('a root that is one no longer leaves nothing behind', () => {
  const m = machine();
  const other = otherRoot(m, 0, DATA, (DATA >> 12) + 5);
  m.engine.switchRoot(other);
  expect(read(m)).toBe(5);
  m.engine.switchRoot(FIRST_ROOT);
  expect(read(m)).toBe(0);
  silently(m, other, DATA, frameEntry(7));
  silently(m, FIRST_ROOT, DATA, frameEntry(8));
  m.engine.dropRoot(other);
  expect(read(m)).toBe(0);
  m.engine.switchRoot(other);
  expect(read(m)).toBe(7);
});

test('user and supervisor rights have views of their own', () => {
  const m = machine();
  m.map(DATA, DATA >> 12, PTE.present | PTE.write);
  m.enterLongMode(0);
  expect(read(m)).toBe(0);
  m.enterLongMode(3);
  expect(read(m)).toBe(-1);
});

test('in architectural mode MOV CR3 keeps global pages and drops the rest', () => {
  const m = machine('architectural');
  const GLOBAL = 0x100n;
  m.enterLongMode(0);
  m.map(DATA, DATA >> 12, RIGHTS | GLOBAL);
  const reload = `mov rax, cr3
mov cr3, rax
mov eax, [${DATA}]
mov ebx, [${DATA + PAGE}]
hlt`;
  m.run(`mov eax, [${DATA}]\nmov ebx, [${DATA + PAGE}]\nhlt`);
  silently(m, FIRST_ROOT, DATA, frameEntry(3));
  silently(m, FIRST_ROOT, DATA + PAGE, frameEntry(4));
  m.run(reload);
  expect([m.engine.state.rax, m.engine.state.rbx]).toEqual([0n, 4n]);
  // CR4.PGE off and on drops the global ones too.
  m.run(`mov rax, cr4\nmov rcx, rax\nxor rcx, 0x80\nmov cr4, rcx\nmov cr4, rax\nmov eax, [${DATA}]\nhlt`);
  expect(m.engine.state.rax).toBe(3n);
});

test('INVLPG of any address of a large page takes the whole page', () => {
  const m = machine('architectural');
  m.enterLongMode(0);
  const LARGE = 0x80n;
  const slot = 0x3000 + 8 * (DATA >> 21);
  const small = m.view.getBigUint64(slot, true);
  m.view.setBigUint64(slot, BigInt(DATA & ~0x1f_ffff) | RIGHTS | LARGE, true);
  m.engine.flushTlb(true);
  m.run(`mov eax, [${DATA}]\nmov ebx, [${DATA + PAGE}]\nhlt`);
  expect([m.engine.state.rax, m.engine.state.rbx]).toEqual([0n, 1n]);
  m.view.setBigUint64(slot, small, true);
  silently(m, FIRST_ROOT, DATA + PAGE, frameEntry(6));
  m.run(`invlpg [${DATA + 9 * PAGE}]\nmov ebx, [${DATA + PAGE}]\nhlt`);
  expect(m.engine.state.rbx).toBe(6n);
});

test('alignment checks and breakpoints have a view that stays empty', () => {
  const m = machine();
  const { state } = m.engine;
  read(m);
  state.dr7 = 0x401n;
  m.engine.stateChanged();
  expect(state.tlbView).toBe(0);
  expect(read(m)).toBe(0);
  state.dr7 = 0x400n;
  m.engine.stateChanged();
  expect(state.tlbView).not.toBe(0);
});
