/** The short way of stores to page tables comes out as the general way, whatever the instruction and its operands are. */
import { CPU_STATE_SIZE, CpuState } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import fc from 'fast-check';
import { MmuExt } from '@xenhost/xen-abi';
import { P, pte, RW, US, World } from './world.test-kit.ts';

/** Where the kernel has its L1 table, read-only, and its code. */
const TABLE = 0n;
const CODE = 0x1000n;
const SLOT = 5;
const PAGE_FAULT = 3;
/** What the address is made of: it wraps around, and an index of scale 2 makes 8. */
const BASE = BigInt.asUintN(64, TABLE - 16n);
const INDEX = 4n;
const displacementOf = (offset: number): number => SLOT * 8 + offset + 16;
const REGISTERS = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const;

/** A domain that runs on an L1 with its data in slots 8 to 10; `tlb`: the engine answers what the short way asks. */
function guest(tlb: boolean) {
  const w = new World(256 + 512);
  const d = w.domain(1);
  const [code = 0, ...data] = w.frames(d, 4);
  const t = w.tables(d);
  w.poke(t.l1, 0, pte(t.l1, P | US));
  w.poke(t.l1, 1, pte(code, P | US));
  for (const [i, mfn] of data.entries()) w.poke(t.l1, 8 + i, pte(mfn, P | RW | US));
  expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
  expect(w.ext(d, MmuExt.NEW_BASEPTR, t.l4)).toBe(0);
  const state = new CpuState(new Uint8Array(CPU_STATE_SIZE));
  const place = (address: bigint): number => {
    const frame = address >> 12n === TABLE >> 12n ? t.l1 : address >> 12n === CODE >> 12n ? code : 0;
    return frame === 0 ? -1 : frame * 4096 + Number(address & 4095n);
  };
  let asked = 0;
  const engine = {
    state,
    readVirtual(address: bigint, into: Uint8Array) {
      asked++;
      const at = place(address);
      if (at < 0) return { address, errorCode: 0 };
      into.set(w.memory.u8.subarray(at, at + into.length));
      return undefined;
    },
    hostAddress: (low: number, high: number, isWrite: boolean) =>
      tlb && !isWrite ? place((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) : -1,
  } as unknown as Engine;
  const fault = (address: bigint): boolean => w.mm.fixPageFault(w.vcpu(d), engine, address, PAGE_FAULT);
  return { w, d, t, code, data, state, fault, walks: () => asked };
}

interface Case {
  readonly bytes: readonly number[];
  readonly registers: readonly bigint[];
  readonly entry: bigint;
  readonly flags: number;
  /** RAX is what the operand of so many bytes holds: for CMPXCHG. */
  readonly matches: boolean;
  readonly offset: number;
}

const FLAGS = [0, 1, 3, 7, 0x27, 0x67, 0x21, 0x200, 0x107, 0x87];
/** Frames by number among the data frames, or the table itself. */
const value = fc.oneof(
  { weight: 3, arbitrary: fc.record({ frame: fc.integer({ min: -1, max: 2 }), flags: fc.constantFrom(...FLAGS), nx: fc.boolean() }) },
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
); // prettier-ignore
type Value = bigint | { readonly frame: number; readonly flags: number; readonly nx: boolean };

/** Opcodes that store to memory: prefixes, opcode, /digit or -1 for a register, bytes of immediate, REX.W or not. */
const OPCODES: readonly (readonly [number[], number[], number, number])[] = [
  [[], [0x89], -1, 0], [[], [0x88], -1, 0], [[0x66], [0x89], -1, 0], [[], [0xc7], 0, 4], [[], [0xc6], 0, 1],
  [[], [0x87], -1, 0], [[], [0x86], -1, 0], [[0x66], [0x87], -1, 0],
  [[0xf0], [0x0f, 0xb1], -1, 0], [[0xf0], [0x0f, 0xb0], -1, 0],
  [[0xf0], [0x21], -1, 0], [[0xf0], [0x09], -1, 0], [[], [0x31], -1, 0], [[0xf0], [0x20], -1, 0],
  [[0xf0], [0x81], 4, 4], [[0xf0], [0x83], 1, 1], [[0xf0], [0x80], 4, 1], [[0xf0], [0x83], 4, 1], [[], [0x80], 6, 1],
  [[0xf0], [0x0f, 0xba], 6, 1], [[0xf0], [0x0f, 0xab], -1, 0], [[], [0x01], -1, 0], [[], [0x8b], -1, 0],
]; // prettier-ignore

const instruction = fc
  .record({
    row: fc.constantFrom(...OPCODES),
    rex: fc.constantFrom(0x48, 0x48, 0x48, 0x40, 0),
    register: fc.nat(7),
    immediate: fc.array(fc.nat(255), { minLength: 4, maxLength: 4 }),
    form: fc.constantFrom('base', 'base', 'index', 'rip', 'fs'),
    offset: fc.constantFrom(0, 0, 0, 0, 4, 1, 2, 6, 7),
  })
  .map(({ row: [prefixes, opcode, digit, immediateBytes], rex, register, immediate, form, offset }) => {
    const reg = (digit < 0 ? register : digit) << 3;
    const head = [...(form === 'fs' ? [0x64] : []), ...prefixes, ...(rex === 0 ? [] : [rex]), ...opcode];
    const tail = immediate.slice(0, immediateBytes);
    const length = head.length + 5 + tail.length;
    const to = SLOT * 8 + offset - (0x1000 + length);
    const address =
      form === 'rip'
        ? [reg | 5, to & 255, (to >> 8) & 255, (to >> 16) & 255, (to >> 24) & 255]
        : form === 'index' ? [0x44 | reg, 0x77, displacementOf(offset) - 8] : [0x47 | reg, displacementOf(offset)]; // prettier-ignore
    return { bytes: [...head, ...address, ...tail], offset };
  });

const cases = fc
  .record({ i: instruction, values: fc.array(value, { minLength: 9, maxLength: 9 }), flags: fc.nat(0x8d5), matches: fc.boolean(), clear: fc.boolean() })
  .map(({ i, values, flags, matches, clear }) => ({ ...i, values: clear ? [0n, ...values.slice(1)] : values, flags, matches })); // prettier-ignore

function prepare(g: ReturnType<typeof guest>, c: Case): void {
  g.w.memory.u8.fill(0x90, g.code * 4096, g.code * 4096 + 32);
  g.w.memory.u8.set(c.bytes, g.code * 4096);
  for (const [i, name] of REGISTERS.entries()) g.state[name] = c.registers[i] ?? 0n;
  g.state.rdi = BASE;
  if (c.matches) g.state.rax = g.w.peek(g.t.l1, SLOT) >> BigInt(c.offset * 8);
  g.state.rsi = INDEX;
  g.state.rip = CODE;
  g.state.flags32 = c.flags;
}

test('any instruction, any entry', () => {
  const [short, general] = [guest(true), guest(false)];
  const raw = (v: Value, at: ReturnType<typeof guest>): bigint =>
    typeof v === 'bigint'
      ? v
      : pte(v.frame < 0 ? at.t.l1 : (at.data[v.frame] ?? 0), BigInt(v.flags)) | (v.nx ? 1n << 63n : 0n);
  const done = { short: 0, walked: 0 };
  fc.assert(
    fc.property(cases, ({ bytes, values, flags, matches, offset }) => {
      const outcome = [short, general].map((g) => {
        const [entry = 0n, ...registers] = values.map((v) => raw(v, g));
        // As the guest would have it: an update that is refused leaves what was there.
        g.w.update(g.d, g.t.l1, SLOT, entry);
        prepare(g, { bytes, registers, entry, flags, matches, offset });
        const before = g.walks();
        const fixed = g.fault(BigInt(SLOT * 8 + offset));
        if (fixed && g === short) done[g.walks() === before ? 'short' : 'walked']++;
        const { state } = g;
        return {
          fixed,
          registers: REGISTERS.map((name) => state[name]),
          rip: state.rip,
          flags: state.flags32,
          entry: g.w.peek(g.t.l1, SLOT),
          counts: g.data.map((mfn) => [g.w.mm.frames.count(mfn), g.w.mm.frames.typeCount(mfn)]),
          changes: g.w.changes.splice(0),
        };
      });
      expect(outcome[0]).toEqual(outcome[1]);
    }),
    { numRuns: 4000 },
  );
  expect([short.w.audit(), general.w.audit()]).toEqual([[], []]);
  // Most of what is done is done the short way; BTS and the like are not.
  expect(done.short).toBeGreaterThan(200);
  expect(done.walked).toBeGreaterThan(0);
});

test('an instruction that was replaced at its place is another one', () => {
  const g = guest(true);
  const run = (bytes: readonly number[]): bigint => {
    prepare(g, { bytes, registers: [0x200n, 0x400n], entry: 0n, flags: 0, matches: false, offset: 0 });
    expect(g.fault(BigInt(SLOT * 8))).toBe(true);
    return g.w.peek(g.t.l1, SLOT);
  };
  expect(run([0x48, 0x89, 0x47, displacementOf(0)])).toBe(0x200n);
  expect(run([0x48, 0x89, 0x4f, displacementOf(0)])).toBe(0x400n);
  expect(run([0x48, 0x09, 0x47, displacementOf(0)])).toBe(0x600n);
});
