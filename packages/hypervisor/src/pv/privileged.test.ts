import { ExitReason, RFLAGS, SEG } from '@xenhost/cpu';
import { Trap } from './constants.ts';
import { decodePrivileged } from './decode.ts';
import { CODE, FakeVcpu, HANDLER } from './fake-vcpu.test-kit.ts';

/** Runs one instruction that faulted with #GP(0). */
function emulate(t: FakeVcpu, code: readonly number[]): 'done' | 'gp' | 'ud' | 'db' | 'pf' {
  for (const vector of [Trap.GP, Trap.UD, Trap.DB, Trap.PF]) t.handle(vector);
  t.engine.state.rip = CODE;
  t.engine.put(CODE, code);
  expect(t.exit(ExitReason.exception, { vector: Trap.GP, hasErrorCode: true, errorCode: 0 })).toBe('resume');
  const at = t.engine.state.rip - HANDLER;
  if (t.engine.state.rip === CODE + BigInt(code.length)) return 'done';
  return ({ 13: 'gp', 6: 'ud', 1: 'db', 14: 'pf' } as const)[Number(at) as 13 | 6 | 1 | 14];
}
const MOV_CR = (to: boolean, cr: number, gpr = 0): number[] => [0x0f, to ? 0x22 : 0x20, 0xc0 | (cr << 3) | gpr];
const MOV_DR = (to: boolean, dr: number, gpr = 0): number[] => [0x0f, to ? 0x23 : 0x21, 0xc0 | (dr << 3) | gpr];
const RDMSR = [0x0f, 0x32];
const WRMSR = [0x0f, 0x30];

type Setup = (t: FakeVcpu) => void;
const rax =
  (value: bigint): Setup =>
  (t) =>
    (t.engine.state.rax = value);
const msr =
  (index: number, value = 0n): Setup =>
  (t) =>
    Object.assign(t.engine.state, { rcx: BigInt(index), rax: value & 0xffff_ffffn, rdx: value >> 32n });
const nothing: Setup = () => undefined;

const cases: readonly [string, readonly number[], Setup, 'done' | 'gp' | 'ud' | 'db', ((t: FakeVcpu) => unknown)?, unknown?][] = [
  ['mov rax, cr0', MOV_CR(false, 0), nothing, 'done', (t) => t.engine.state.rax, 0x8005_0033n],
  ['mov cr0 with TS', MOV_CR(true, 0), rax(0x8005_003bn), 'done', (t) => t.engine.state.cr0 & 8n, 8n],
  ['mov cr0 with another bit', MOV_CR(true, 0), rax(0x8005_0037n), 'gp'],
  ['mov cr2', MOV_CR(true, 2), rax(0x1234n), 'done', (t) => t.cr2, 0x1234n],
  ['mov rbx, cr3', MOV_CR(false, 3, 3), nothing, 'done', (t) => t.engine.state.rbx, 700n << 12n],
  ['mov cr3', MOV_CR(true, 3), rax(0x333000n), 'done', (t) => t.vcpu.v.guestTable, 0x333],
  ['mov cr4 takes the guest bits', MOV_CR(true, 4), rax(0xffff_ffffn), 'done', (t) => t.engine.state.cr4, 0x5_06ecn],
  ['mov r15, cr4', [0x41, 0x0f, 0x20, 0xe7], (t) => { emulate(t, MOV_CR(true, 4)); }, 'done', (t) => t.engine.state.r15, 0x660n],
  ['mov cr8', [0x44, 0x0f, 0x22, 0xc0], nothing, 'gp'],
  ['clts', [0x0f, 0x06], (t) => { t.call(t.pv.hypercalls.fpu_taskswitch, [1n]); }, 'done', (t) => t.engine.state.cr0 & 8n, 0n],
  ['wbinvd', [0x0f, 0x09], nothing, 'done'],
  ['rdtsc', [0x0f, 0x31], nothing, 'done', (t) => [t.engine.state.rax, t.engine.state.rdx], [0x2233_4455n, 0x11n]],
  ['rdtscp', [0x0f, 0x01, 0xf9], (t) => (t.engine.state.tscAux = 5n), 'done', (t) => t.engine.state.rcx, 5n],
  ['cpuid', [0x0f, 0xa2], nothing, 'done', (t) => t.engine.state.rax, 0x1234_5678n],
  ['hlt', [0xf4], nothing, 'gp'],
  ['invlpg', [0x0f, 0x01, 0x38], nothing, 'gp'],
  ['lgdt', [0x0f, 0x01, 0x10], nothing, 'gp'],
  ['swapgs', [0x0f, 0x01, 0xf8], nothing, 'gp'],
  ['lock clts', [0xf0, 0x0f, 0x06], nothing, 'gp'],
  ['xsetbv without OSXSAVE', [0x0f, 0x01, 0xd1], nothing, 'ud'],
  ['rdmsr EFER', RDMSR, msr(0xc0000080), 'done', (t) => t.engine.state.rax, 0xd01n],
  ['wrmsr EFER unchanged', WRMSR, msr(0xc0000080, 0xd01n), 'done'],
  ['wrmsr EFER changed', WRMSR, msr(0xc0000080, 0xd00n), 'gp'],
  ['rdmsr PAT', RDMSR, msr(0x277), 'done', (t) => [t.engine.state.rax, t.engine.state.rdx], [0x70406n, 0x501n]],
  ['wrmsr FS base', WRMSR, msr(0xc0000100, 0x7f00_1234_5678n), 'done', (t) => t.engine.state.segmentBase(SEG.fs), 0x7f00_1234_5678n],
  ['wrmsr GS base', WRMSR, msr(0xc0000101, 0xffff_8880_0000_0000n), 'done', (t) => t.engine.state.segmentBase(SEG.gs), 0xffff_8880_0000_0000n],
  ['wrmsr shadow GS base', WRMSR, msr(0xc0000102, 4n), 'done', (t) => t.engine.state.kernelGsBase, 4n],
  ['wrmsr FS base, not canonical (XSA-193)', WRMSR, msr(0xc0000100, 1n << 63n), 'gp'],
  ['wrmsr GS base, not canonical', WRMSR, msr(0xc0000101, 1n << 63n), 'gp'],
  ['wrmsr shadow GS base, not canonical', WRMSR, msr(0xc0000102, 1n << 63n), 'gp'],
  ['rdmsr APIC_BASE', RDMSR, msr(0x1b), 'done', (t) => t.engine.state.rax, 0x900n],
  ['rdmsr MISC_ENABLE (XSA-333)', RDMSR, msr(0x1a0), 'done', (t) => t.engine.state.rax, 0x80_1801n],
  ['wrmsr MISC_ENABLE changed: dropped', WRMSR, msr(0x1a0, 0n), 'done'],
  ['rdmsr of an unknown one', RDMSR, msr(0x9999), 'gp'],
  ['wrmsr of an unknown one', WRMSR, msr(0x9999), 'gp'],
  ['mov rax, dr7', MOV_DR(false, 7), (t) => { t.call(t.pv.hypercalls.set_debugreg, [7n, 0n]); }, 'done', (t) => t.engine.state.rax, 0x400n],
  ['mov dr0', MOV_DR(true, 0), rax(0x77n), 'done', (t) => t.engine.state.dr0, 0x77n],
  ['mov dr7 with GD', MOV_DR(true, 7), rax(0x2000n), 'gp'],
  ['mov dr4 with CR4.DE', MOV_DR(true, 4), (t) => { rax(8n)(t); emulate(t, MOV_CR(true, 4)); }, 'ud'],
  ['mov rax, dr5 without CR4.DE', MOV_DR(false, 5), (t) => { t.call(t.pv.hypercalls.set_debugreg, [7n, 0n]); }, 'done', (t) => t.engine.state.rax, 0x400n],
  ['cli with IOPL 0', [0xfa], nothing, 'gp'],
  ['sti with IOPL 1', [0xfb], (t) => (t.vcpu.v.iopl = 1), 'done'],
  ['cli with architectural IOPL', [0xfa], (t) => (t.domain.v.vmAssist = 1 << 4), 'done'],
  ['out 0x80 with IOPL 0', [0xe6, 0x80], nothing, 'gp'],
  ['out 0x80 with IOPL 1', [0xe6, 0x80], (t) => (t.vcpu.v.iopl = 1), 'done'],
  ['in al, dx: all ones', [0xec], (t) => { t.vcpu.v.iopl = 1; rax(0x1100n)(t); }, 'done', (t) => t.engine.state.rax, 0x11ffn],
  ['in ax, 0x20', [0x66, 0xe5, 0x20], (t) => { t.vcpu.v.iopl = 1; rax(0x1_0000n)(t); }, 'done', (t) => t.engine.state.rax, 0x1_ffffn],
  ['in eax, dx', [0xed], (t) => { t.vcpu.v.iopl = 1; rax(1n << 40n)(t); }, 'done', (t) => t.engine.state.rax, 0xffff_ffffn],
]; // prettier-ignore

test.each(cases.map(([name, ...row]) => [name, row] as const))('%s', (_name, [code, setup, outcome, seen, value]) => {
  const t = new FakeVcpu();
  setup(t);
  expect(emulate(t, code)).toBe(outcome);
  if (seen) expect(seen(t)).toEqual(value);
});

test.each([
  ['mov cr0', MOV_CR(false, 0), 'gp'],
  ['wrmsr', WRMSR, 'gp'],
  ['rdtsc (CR4.TSD)', [0x0f, 0x31], 'gp'],
  ['clts', [0x0f, 0x06], 'gp'],
  ['cpuid (faulting)', [0x0f, 0xa2], 'done'],
  ['cli with IOPL 1', [0xfa], 'gp'],
] as const)('user mode: %s', (_name, code, outcome) => {
  const t = new FakeVcpu();
  t.vcpu.v.iopl = 1;
  t.enterUser();
  expect(emulate(t, code)).toBe(outcome);
});

test('user mode with IOPL 3 and through the bitmap of the kernel', () => {
  const t = new FakeVcpu();
  t.vcpu.v.iopl = 3;
  t.enterUser();
  expect(emulate(t, [0xfa])).toBe('done');
  t.vcpu.v.iopl = 0;
  expect(emulate(t, [0xe6, 0x09])).toBe('gp');
  t.vcpu.v.ioBitmapVa = CODE + 0x800n;
  t.vcpu.v.ioBitmapPorts = 16;
  t.engine.put(CODE + 0x800n, [0xff, 0xfd]);
  t.enterUser();
  expect(emulate(t, [0xe6, 0x09])).toBe('done');
  expect(t.vcpu.v.kernelMode).toBe(0);
  expect(emulate(t, [0xe6, 0x0a])).toBe('gp');
  t.enterUser();
  expect(emulate(t, [0xe6, 0x10])).toBe('gp');
});

test('a single step over an emulated instruction traps after it', () => {
  const t = new FakeVcpu();
  t.engine.state.rflags |= RFLAGS.tf;
  expect(emulate(t, [0x0f, 0x09])).toBe('db');
  expect(t.frame(3)[2]).toBe(CODE + 2n);
  expect(t.call(t.pv.hypercalls.get_debugreg, [6n])).toBe(0xffff_4ff0n);
});

test('xsetbv within the policy', () => {
  const t = new FakeVcpu();
  rax(1n << 18n)(t);
  emulate(t, MOV_CR(true, 4));
  Object.assign(t.engine.state, { rcx: 0n, rdx: 0n, rax: 7n });
  expect(emulate(t, [0x0f, 0x01, 0xd1])).toBe('done');
  expect(t.engine.state.xcr0).toBe(7n);
  for (const bad of [6n, 5n, 0x1fn]) {
    t.engine.state.rax = bad;
    expect(emulate(t, [0x0f, 0x01, 0xd1])).toBe('gp');
    t.engine.state.rcx = 0n;
  }
});

test('rep outs and rep ins move through guest memory and stop at a fault with registers in step', () => {
  const t = new FakeVcpu();
  t.vcpu.v.iopl = 1;
  Object.assign(t.engine.state, { rdx: 0x80n, rcx: 4n, rdi: CODE + 0x100n });
  expect(emulate(t, [0xf3, 0x6c])).toBe('done');
  expect([t.engine.state.rcx, t.engine.state.rdi]).toEqual([0n, CODE + 0x104n]);
  expect(t.engine.word(CODE + 0x100n)).toBe(0xffff_ffffn);
  Object.assign(t.engine.state, { rcx: 4n, rdi: CODE + 0x1ffen });
  expect(emulate(t, [0xf3, 0x6c])).toBe('pf');
  expect([t.engine.state.rdi, t.cr2]).toEqual([CODE + 0x2000n, CODE + 0x2000n]);
  expect(t.frame(3)[2]).toBe(2n);
  Object.assign(t.engine.state, { rcx: 300n, rsi: CODE });
  t.engine.state.rip = CODE;
  t.engine.put(CODE, [0xf3, 0x6e]);
  t.exit(ExitReason.exception, { vector: Trap.GP, hasErrorCode: true, errorCode: 0 });
  expect([t.engine.state.rip, t.engine.state.rsi]).toEqual([CODE, CODE + 256n]);
});

test('the forced emulation prefix runs cpuid; other bytes are a #UD of the guest', () => {
  const t = new FakeVcpu();
  t.handle(Trap.UD);
  t.engine.put(CODE, [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2]);
  t.exit(ExitReason.exception, { vector: Trap.UD });
  expect(t.engine.state.rip).toBe(CODE + 7n);
  expect(t.engine.state.rdx).toBe(0x8000_0001n);
  t.engine.state.rip = CODE;
  t.engine.put(CODE + 5n, [0x90]);
  t.exit(ExitReason.exception, { vector: Trap.UD });
  expect(t.engine.state.rip).toBe(HANDLER + 6n);
});

test('channel 2 of the PIT counts by system time and shows its output on the speaker port', () => {
  const t = new FakeVcpu();
  t.vcpu.v.iopl = 1;
  const out = (port: number, value: bigint): void => {
    rax(value)(t);
    expect(emulate(t, [0xe6, port])).toBe('done');
  };
  const read = (port: number): bigint => {
    expect(emulate(t, [0xe4, port])).toBe('done');
    return t.engine.state.rax & 0xffn;
  };
  out(0x61, 1n);
  out(0x43, 0xb0n);
  out(0x42, 0x9cn);
  out(0x42, 0x2en);
  expect(read(0x61) & 0x20n).toBe(0n);
  t.nowNs += 9_000_000n;
  expect(read(0x61) & 0x20n).toBe(0n);
  out(0x43, 0x80n);
  t.nowNs += 2_000_000n;
  expect(read(0x42) | (read(0x42) << 8n)).toBe(11932n - 10738n);
  expect(read(0x61) & 0x20n).toBe(0x20n);
  out(0x70, 0x8an);
  expect([read(0x70), read(0x71), read(0x40)]).toEqual([0x0an, 0xffn, 0xffn]);
});

test('an I/O breakpoint (CR4.DE) traps after the access and is seen in DR6 and DR7', () => {
  const t = new FakeVcpu();
  t.vcpu.v.iopl = 1;
  rax(8n)(t);
  emulate(t, MOV_CR(true, 4));
  expect(t.call(t.pv.hypercalls.set_debugreg, [0n, 0x80n])).toBe(0);
  expect(t.call(t.pv.hypercalls.set_debugreg, [7n, 0x2_0002n])).toBe(0);
  expect(t.engine.state.dr7).toBe(0x2_0400n);
  expect(t.call(t.pv.hypercalls.get_debugreg, [7n])).toBe(0x2_0402n);
  expect(emulate(t, [0xe6, 0x80])).toBe('db');
  expect(t.call(t.pv.hypercalls.get_debugreg, [6n])).toBe(0xffff_0ff1n);
  expect(emulate(t, [0xe6, 0x81])).toBe('done');
});

test('the decoder takes any bytes', () => {
  for (let n = 0; n < 65536; n++) {
    const bytes = Uint8Array.of(n & 0xff, n >> 8, n & 0x55, 0x66);
    const decoded = decodePrivileged(bytes, 64);
    expect(decoded === undefined || decoded.length <= 4).toBe(true);
  }
  expect(decodePrivileged(new Uint8Array(0), 64)).toBeUndefined();
  expect(decodePrivileged(new Uint8Array(15).fill(0x66), 64)).toBeUndefined();
});
