/** x87, MMX and SSE in the engine: the generated short ways against the software ones, and who may use them when. */
import fc from 'fast-check';
import { ExitReason } from '../engine/exit-reason.ts';
import { DATA, TestMachine } from '../interpreter/machine.fixture.ts';
import { FpContext } from '../softfloat/context.ts';
import { BINARY64 } from '../softfloat/format.ts';
import { sseBinary } from '../softfloat/sse.ts';
import { x87Binary, type X87Binary } from '../softfloat/x87.ts';
import { VECTOR } from './helper.ts';

const UD2 = [0x0f, 0x0b];

function execute(m: TestMachine, bytes: readonly number[]): number {
  m.raw([...bytes, ...UD2]);
  m.engine.state.rip = 0x10_0000n;
  const reason = m.engine.run(100);
  expect(reason).toBe(ExitReason.exception);
  const isDone =
    m.engine.state.rip === 0x10_0000n + BigInt(bytes.length) && m.engine.exit.vector === VECTOR.invalidOpcode;
  return isDone ? -1 : m.engine.exit.vector;
}

function setRegister(m: TestMachine, i: number, value: bigint): void {
  const register = m.engine.state.fpr(i);
  for (let n = 0; n < 10; n++) register[n] = Number((value >> BigInt(8 * n)) & 0xffn);
}
function register(m: TestMachine, i: number): bigint {
  return m.engine.state.fpr(i).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

const finite = fc
  .tuple(fc.boolean(), fc.integer({ min: 0x3f00, max: 0x4100 }), fc.bigInt({ min: 0n, max: (1n << 63n) - 1n }))
  .map(([sign, exponent, fraction]) => ((sign ? 1n : 0n) << 79n) | (BigInt(exponent) << 64n) | (1n << 63n) | fraction);

describe('the short way of x87 arithmetic gives what the long way gives', () => {
  const operations: [X87Binary, number][] = [['add', 0xc1], ['mul', 0xc9], ['sub', 0xe1], ['subr', 0xe9], ['div', 0xf1], ['divr', 0xf9]]; // prettier-ignore
  const m = new TestMachine();
  test.each(operations)('%s', (operation, modrm) => {
    fc.assert(
      fc.property(finite, finite, (a, b) => {
        const { state } = m.engine;
        [state.fcw, state.fsw, state.ftw] = [0x37f, 0, 3];
        setRegister(m, 0, a);
        setRegister(m, 1, b);
        expect(execute(m, [0xd8, modrm])).toBe(-1);
        const context = new FpContext().loadControlWord(0x37f);
        expect(register(m, 0)).toBe(x87Binary(context, operation, a, b));
        expect(state.fsw).toBe(context.flags | (context.roundedUp ? 0x200 : 0));
      }),
      { numRuns: 300 },
    );
  });
});

test('scalar SSE arithmetic gives the software result and flags in every mode of MXCSR', () => {
  const m = new TestMachine();
  const modes = fc.integer({ min: 0, max: 0xffff }).map((value) => (value & 0xe07f) | 0x1f80);
  const operand = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
  const operations = [['add', 0x58], ['mul', 0x59], ['sub', 0x5c], ['div', 0x5e], ['min', 0x5d], ['max', 0x5f]] as const;
  fc.assert(
    fc.property(fc.constantFrom(...operations), operand, operand, modes, ([operation, opcode], a, b, mxcsr) => {
      const { state } = m.engine;
      state.mxcsr = mxcsr;
      const view = (n: number): DataView => new DataView(state.xmm(n).buffer, state.xmm(n).byteOffset, 16);
      view(0).setBigUint64(0, a, true);
      view(1).setBigUint64(0, b, true);
      expect(execute(m, [0xf2, 0x0f, opcode, 0xc1])).toBe(-1);
      const context = new FpContext().loadMxcsr(mxcsr);
      expect(view(0).getBigUint64(0, true)).toBe(sseBinary(context, BINARY64, operation, a, b));
      expect(state.mxcsr).toBe(mxcsr | context.flags);
    }),
    { numRuns: 500 },
  );
}); // prettier-ignore

describe('who may use them', () => {
  const CR0 = { mp: 2n, em: 4n, ts: 8n };
  const OSFXSR = 0x200n;
  const OSXMMEXCPT = 0x400n;
  const instructions = {
    addps: [0x0f, 0x58, 0xc1],
    fadd: [0xd8, 0xc1],
    paddb: [0x0f, 0xfc, 0xc1],
    fwait: [0x9b],
    fxsave: [0x0f, 0xae, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00],
    fninit: [0xdb, 0xe3],
    divps: [0x0f, 0x5e, 0xc1],
    fnstsw: [0xdf, 0xe0],
    emms: [0x0f, 0x77],
  };
  const none = -1;
  const cases: [name: keyof typeof instructions, title: string, cr0: bigint, cr4: bigint, vector: number][] = [
    ['addps', 'all on', 0n, OSFXSR, none],
    ['addps', 'without OSFXSR', 0n, 0n, VECTOR.invalidOpcode],
    ['addps', 'with EM', CR0.em, OSFXSR, VECTOR.invalidOpcode],
    ['addps', 'with TS', CR0.ts, OSFXSR, VECTOR.deviceNotAvailable],
    ['addps', 'with EM and TS', CR0.em | CR0.ts, OSFXSR, VECTOR.invalidOpcode],
    ['fadd', 'all on', 0n, 0n, none],
    ['fadd', 'with EM', CR0.em, 0n, VECTOR.deviceNotAvailable],
    ['fadd', 'with TS', CR0.ts, 0n, VECTOR.deviceNotAvailable],
    ['paddb', 'all on', 0n, 0n, none],
    ['paddb', 'with EM', CR0.em, 0n, VECTOR.invalidOpcode],
    ['paddb', 'with TS', CR0.ts, 0n, VECTOR.deviceNotAvailable],
    ['emms', 'with TS', CR0.ts, 0n, VECTOR.deviceNotAvailable],
    ['fwait', 'with TS alone', CR0.ts, 0n, none],
    ['fwait', 'with TS and MP', CR0.ts | CR0.mp, 0n, VECTOR.deviceNotAvailable],
    ['fxsave', 'with TS', CR0.ts, OSFXSR, VECTOR.deviceNotAvailable],
    ['fxsave', 'without OSFXSR', 0n, 0n, none],
    ['fninit', 'with TS', CR0.ts, 0n, VECTOR.deviceNotAvailable],
  ];
  test.each(cases)('%s %s', (name, _, cr0, cr4, vector) => {
    const m = new TestMachine();
    const { state } = m.engine;
    state.cr0 = (state.cr0 & ~(CR0.mp | CR0.em | CR0.ts)) | cr0;
    state.cr4 = (state.cr4 & ~(OSFXSR | OSXMMEXCPT)) | cr4;
    [state.fcw, state.fsw, state.ftw] = [0x37f, 0, 3];
    state.mxcsr = 0x1f80;
    m.engine.stateChanged();
    expect(execute(m, instructions[name])).toBe(vector);
  });

  test.each([
    ['with OSXMMEXCPT', OSXMMEXCPT, VECTOR.simdError],
    ['without OSXMMEXCPT', 0n, VECTOR.invalidOpcode],
  ])('an unmasked SSE exception %s', (_, cr4, vector) => {
    const m = new TestMachine();
    const { state } = m.engine;
    state.cr4 = (state.cr4 & ~OSXMMEXCPT) | OSFXSR | cr4;
    state.mxcsr = 0x1f80 & ~0x80;
    state.xmm(0).fill(0);
    state.xmm(1).fill(0);
    m.engine.stateChanged();
    m.raw([...instructions.divps, ...UD2]);
    state.rip = 0x10_0000n;
    m.engine.run(100);
    expect([m.engine.exit.vector, state.rip, state.mxcsr & 0x3f]).toEqual([vector, 0x10_0000n, 1]);
  });

  test('an x87 exception waits for the next waiting instruction', () => {
    const m = new TestMachine();
    const { state } = m.engine;
    [state.fcw, state.fsw, state.ftw] = [0x37b, 0, 3];
    setRegister(m, 0, 0x3fff_8000_0000_0000_0000n);
    setRegister(m, 1, 0n);
    expect(execute(m, [0xd8, 0xf1])).toBe(none);
    expect(state.fsw & 0x8084).toBe(0x8084);
    expect(register(m, 0)).toBe(0x3fff_8000_0000_0000_0000n);
    expect(execute(m, instructions.fnstsw)).toBe(none);
    expect(execute(m, instructions.fadd)).toBe(VECTOR.x87Error);
    expect(execute(m, instructions.paddb)).toBe(VECTOR.x87Error);
    expect(execute(m, [0xdb, 0xe2])).toBe(none);
    expect(execute(m, instructions.fadd)).toBe(none);
  });

  test('a stack fault sets C1 by its kind', () => {
    const m = new TestMachine();
    const { state } = m.engine;
    [state.fcw, state.fsw, state.ftw] = [0x37f, 0, 0xff];
    expect(execute(m, [0xd9, 0xe8])).toBe(none);
    expect(state.fsw & 0x241).toBe(0x241);
    [state.fsw, state.ftw] = [0, 0];
    expect(execute(m, [0xd9, 0xfa])).toBe(none);
    expect(state.fsw & 0x241).toBe(0x41);
  });
});

describe('state images', () => {
  test('FXSAVE and FXRSTOR carry everything', () => {
    const m = new TestMachine();
    const { state } = m.engine;
    [state.fcw, state.fsw, state.ftw, state.mxcsr] = [0x27f, 0x3800, 0x81, 0x1fa0];
    for (let n = 0; n < 8; n++) setRegister(m, n, 0x3fff_8000_0000_0000_0000n + BigInt(n));
    for (let n = 0; n < 16; n++) state.xmm(n).fill(n + 1);
    expect(execute(m, [0x48, 0x0f, 0xae, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00])).toBe(-1);
    // ST0 is physical register 7.
    expect(m.view.getBigUint64(DATA + 32, true)).toBe(0x8000_0000_0000_0007n);
    expect(m.view.getUint32(DATA + 24, true)).toBe(0x1fa0);
    for (let n = 0; n < 16; n++) state.xmm(n).fill(0);
    expect(execute(m, [0xdb, 0xe3])).toBe(-1);
    expect(execute(m, [0x48, 0x0f, 0xae, 0x0c, 0x25, 0x00, 0x00, 0x20, 0x00])).toBe(-1);
    expect([state.fcw, state.fsw, state.ftw, state.mxcsr]).toEqual([0x27f, 0x3800, 0x81, 0x1fa0]);
    expect(register(m, 3)).toBe(0x3fff_8000_0000_0000_0003n);
    expect([...state.xmm(9)]).toEqual(Array.from({ length: 16 }, () => 10));
  });
  test('FXRSTOR and LDMXCSR refuse reserved bits of MXCSR, a misaligned image faults', () => {
    const m = new TestMachine();
    m.view.setUint32(DATA + 24, 0x10000, true);
    expect(execute(m, [0x0f, 0xae, 0x0c, 0x25, 0x00, 0x00, 0x20, 0x00])).toBe(VECTOR.generalProtection);
    expect(execute(m, [0x0f, 0xae, 0x14, 0x25, 0x18, 0x00, 0x20, 0x00])).toBe(VECTOR.generalProtection);
    expect(execute(m, [0x0f, 0xae, 0x04, 0x25, 0x08, 0x00, 0x20, 0x00])).toBe(VECTOR.generalProtection);
  });
  test('FNSAVE empties, FRSTOR brings back', () => {
    const m = new TestMachine();
    const { state } = m.engine;
    [state.fcw, state.fsw, state.ftw] = [0x27f, 0x1800, 0x18];
    setRegister(m, 3, 0x4000_c90f_daa2_2168_c235n);
    expect(execute(m, [0xdd, 0x34, 0x25, 0x00, 0x00, 0x20, 0x00])).toBe(-1);
    expect([state.fcw, state.fsw, state.ftw]).toEqual([0x37f, 0, 0]);
    setRegister(m, 3, 0n);
    expect(execute(m, [0xdd, 0x24, 0x25, 0x00, 0x00, 0x20, 0x00])).toBe(-1);
    expect([state.fcw, state.fsw, state.ftw]).toEqual([0x27f, 0x1800, 0x18]);
    expect(register(m, 3)).toBe(0x4000_c90f_daa2_2168_c235n);
  });
});
