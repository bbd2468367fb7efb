import { arenaProblem, ArenaMemory } from './arena.ts';

const part = (address: bigint, ...bytes: number[]) => ({ address, bytes: Uint8Array.from(bytes) });

describe('the arena of a hypercall', () => {
  test('reads and writes within a segment and over adjoining ones', () => {
    const parts = [part(16n, 1, 2, 3, 4), part(100n, 9), part(20n, 5, 6)];
    const arena = new ArenaMemory(parts);
    expect(arena.read(17n, 2)).toEqual(Uint8Array.of(2, 3));
    expect(arena.read(18n, 4)).toEqual(Uint8Array.of(3, 4, 5, 6));
    expect(arena.write(19n, Uint8Array.of(7, 8))).toBe(true);
    expect(parts.map(({ bytes }) => [...bytes])).toEqual([[1, 2, 3, 7], [9], [8, 6]]); // prettier-ignore
    expect(arena.read(100n, 1)).toEqual(Uint8Array.of(9));
    expect(arena.read(16n, 1)).toEqual(Uint8Array.of(1));
  });

  test('what was read is a copy', () => {
    const parts = [part(16n, 1, 2)];
    const copy = new ArenaMemory(parts).read(16n, 2);
    parts[0]?.bytes.fill(0);
    expect(copy).toEqual(Uint8Array.of(1, 2));
  });

  test.each([
    [15n, 1],
    [16n, 3],
    [18n, 1],
    [0n, 1],
    [(1n << 64n) - 1n, 2],
    [16n, 2 ** 31],
  ])('%s, %d bytes: a fault that leaves everything as it was', (address, length) => {
    const parts = [part(16n, 1, 2)];
    const arena = new ArenaMemory(parts);
    expect(arena.read(address, length)).toBeUndefined();
    if (length < 100) expect(arena.write(address, new Uint8Array(length))).toBe(false);
    expect([...(parts[0]?.bytes ?? [])]).toEqual([1, 2]);
  });

  test.each<[string, ReturnType<typeof part>[], string | undefined]>([
    ['nothing', [], undefined],
    ['neighbours in any order', [part(18n, 1), part(16n, 1, 2)], undefined],
    ['address 0', [part(0n, 1)], 'address 0'],
    ['an overlap', [part(16n, 1, 2), part(17n, 1)], 'overlapping'],
    ['the last byte of the address space', [part((1n << 64n) - 1n, 1)], undefined],
    ['one byte beyond it', [part((1n << 64n) - 1n, 1, 2)], 'beyond'],
  ])('%s', (_, parts, problem) => {
    if (problem === undefined) expect(arenaProblem(parts)).toBeUndefined();
    else expect(arenaProblem(parts)).toContain(problem);
  });
});
