import { CpuState, CPU_STATE_SIZE } from '../engine/state.ts';
import { ACCESS_FETCH, ACCESS_USER, ACCESS_WRITE, Mmu, highHalf, lowHalf } from './walk.ts';

const NR_FRAMES = 64;
const P = 1n;
const W = 2n;
const U = 4n;
const A = 0x20n;
const D = 0x40n;
const LARGE = 0x80n;
const NX = 1n << 63n;

/** Memory, state and walker; entries are written by table frame and index. */
class World {
  readonly buffer = new SharedArrayBuffer(NR_FRAMES * 4096);
  readonly view = new DataView(this.buffer);
  readonly state = new CpuState(new Uint8Array(CPU_STATE_SIZE));
  readonly mmu = new Mmu(this.buffer, NR_FRAMES);

  constructor(mode: 'four-level' | 'pae' | 'two-level') {
    const { state } = this;
    state.cr0 = 0x8001_0001n;
    state.cr3 = 0x1000n;
    state.cr4 = mode === 'two-level' ? 0x10n : 0x20n;
    state.efer = mode === 'four-level' ? 0xd00n : 0x800n;
    this.mmu.configure(state);
  }
  entry64(table: number, index: number, value?: bigint): bigint {
    if (value !== undefined) this.view.setBigUint64(table * 4096 + index * 8, value, true);
    return this.view.getBigUint64(table * 4096 + index * 8, true);
  }
  entry32(table: number, index: number, value?: number): number {
    if (value !== undefined) this.view.setUint32(table * 4096 + index * 4, value, true);
    return this.view.getUint32(table * 4096 + index * 4, true);
  }
  /** Frame, or the error code negated less one. */
  walk(address: bigint, access = 0): number {
    const found = this.mmu.walk(lowHalf(address), highHalf(address), access, false);
    return found ? this.mmu.last.frame : -1 - this.mmu.errorCode;
  }
}
const error = (code: number): number => -1 - code;

describe('four levels', () => {
  const ADDRESS = 0xffff_8000_0040_3123n;
  function world(leaf: bigint): World {
    const w = new World('four-level');
    w.entry64(1, 256, 0x2000n | P | W | U);
    w.entry64(2, 0, 0x3000n | P | W | U);
    w.entry64(3, 2, 0x4000n | P | W | U);
    w.entry64(4, 3, leaf);
    return w;
  }
  test('translates and sets A on the way, D on writes', () => {
    const w = world(0x9000n | P | W | U);
    expect(w.walk(ADDRESS, ACCESS_USER)).toBe(9);
    expect([w.entry64(1, 256), w.entry64(2, 0), w.entry64(3, 2)].every((e) => (e & A) !== 0n)).toBe(true);
    expect(w.entry64(4, 3) & (A | D)).toBe(A);
    expect(w.mmu.last.writable).toBe(false);
    expect(w.walk(ADDRESS, ACCESS_USER | ACCESS_WRITE)).toBe(9);
    expect(w.entry64(4, 3) & (A | D)).toBe(A | D);
    expect(w.mmu.last.writable).toBe(true);
  });
  test.each([
    ['not present', 0n, ACCESS_USER | ACCESS_WRITE, 6],
    ['write protected', 0x9000n | P | U, ACCESS_USER | ACCESS_WRITE, 7],
    ['supervisor page', 0x9000n | P | W, ACCESS_USER, 5],
    ['not executable', 0x9000n | P | U | NX, ACCESS_USER | ACCESS_FETCH, 0x15],
    ['supervisor write with WP', 0x9000n | P, ACCESS_WRITE, 3],
  ])('%s', (_, leaf, access, code) => {
    const w = world(leaf);
    expect(w.walk(ADDRESS, access)).toBe(error(code));
    expect(w.entry64(4, 3)).toBe(leaf);
  });
  test('an upper level takes rights away', () => {
    const w = world(0x9000n | P | W | U);
    w.entry64(2, 0, 0x3000n | P | U);
    expect(w.walk(ADDRESS, ACCESS_USER | ACCESS_WRITE)).toBe(error(7));
  });
  test('pages of 2 MiB and 1 GiB; their reserved bits', () => {
    const w = world(0n);
    w.entry64(3, 2, P | W | U | LARGE);
    expect(w.walk(ADDRESS)).toBe(3);
    w.entry64(3, 2, 0x2000n | P | W | U | LARGE);
    expect(w.walk(ADDRESS)).toBe(error(9));
    w.entry64(2, 0, P | W | LARGE);
    expect(w.walk(ADDRESS)).toBe(0x403);
    w.entry64(1, 256, 0x2000n | P | LARGE);
    expect(w.walk(ADDRESS)).toBe(error(9));
  });
  test('SMEP and SMAP', () => {
    const w = world(0x9000n | P | W | U);
    w.state.cr4 |= (1n << 20n) | (1n << 21n);
    w.mmu.configure(w.state);
    expect(w.walk(ADDRESS, ACCESS_FETCH)).toBe(error(0x11));
    expect(w.walk(ADDRESS, 0)).toBe(error(1));
    expect(w.mmu.walk(lowHalf(ADDRESS), highHalf(ADDRESS), 0, true)).toBe(true);
  });
  test('a table beyond memory is not present', () => {
    const w = world(0n);
    w.entry64(3, 2, (1n << 40n) | P | W | U);
    expect(w.walk(ADDRESS)).toBe(error(0));
  });
});

test('PAE: pointers come from the state, entries of 64 bits', () => {
  const w = new World('pae');
  w.state.setPdpte(3, 0x2000n | P);
  w.mmu.configure(w.state);
  w.entry64(2, 1, 0x3000n | P | W);
  w.entry64(3, 5, 0x7000n | P | W);
  expect(w.walk(0xc020_5000n, ACCESS_WRITE)).toBe(7);
  expect(w.walk(0x0020_5000n)).toBe(error(0));
  w.entry64(2, 2, P | W | LARGE);
  expect(w.walk(0xc040_6000n)).toBe(6);
});

test('two levels: 4 KiB and 4 MiB pages', () => {
  const w = new World('two-level');
  w.entry32(1, 0x300, 0x2000 | 7);
  w.entry32(2, 4, 0x5000 | 5);
  expect(w.walk(0xc000_4000n, ACCESS_USER)).toBe(5);
  expect(w.walk(0xc000_4000n, ACCESS_USER | ACCESS_WRITE)).toBe(error(7));
  expect(w.entry32(2, 4) & 0x20).toBe(0x20);
  w.entry32(1, 1, 0x87);
  expect(w.walk(0x0040_6000n)).toBe(6);
  w.entry32(1, 1, 0x20_0087);
  expect(w.walk(0x0040_6000n)).toBe(error(9));
});
