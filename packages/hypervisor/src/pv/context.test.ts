import { Errno, bytesOf } from '@xenhost/base';
import { CpuState, SEG } from '@xenhost/cpu';
import { CpuUserRegs, VGCF, VcpuGuestContext } from '@xenhost/xen-abi';
import { VCPU_CPU_STATE, VcpuFlag } from '../state/records.ts';
import { PvCallbackFlag } from './vcpu-state.ts';
import { FakeVcpu } from './fake-vcpu.test-kit.ts';

const AT = VcpuGuestContext.offsets;

/** A context as the domain builder or a kernel starting a vCPU makes it. */
function context() {
  const { bytes, view } = VcpuGuestContext.create({
    flags: BigInt(VGCF.IN_KERNEL | VGCF.online | VGCF.I387_VALID | VGCF.syscall_disables_events),
    kernel_ss: 0xe02bn,
    kernel_sp: 0xffff_8880_0000_8000n,
    event_callback_eip: 0x1000n,
    failsafe_callback_eip: 0x2000n,
    syscall_callback_eip: 0x3000n,
    fs_base: 0x4000n,
    gs_base_kernel: 0x5000n,
    gs_base_user: 0x6000n,
    gdt_ents: 600n,
    vm_assist: 0x21n,
  });
  const { dv } = bytesOf(bytes);
  const regs = CpuUserRegs.view(bytesOf(bytes), AT.user_regs);
  Object.assign(regs, { rip: 0xffff_ffff_8300_0000n, rsp: 0xffff_ffff_8300_8000n, rsi: 7n, r15: 15n, rflags: 0x1202n });
  Object.assign(regs, { cs: 0xe030, ss: 0xe028, ds: 0x2b, fs: 0, gs: 0 });
  const put = (offset: number, n: number, value: bigint): void => {
    dv.setBigUint64(offset + 8 * n, value, true);
  };
  put(AT.ctrlreg, 3, 0x123n << 12n);
  put(AT.ctrlreg, 1, 0x124n << 12n);
  put(AT.ctrlreg, 0, 8n);
  put(AT.ctrlreg, 4, 4n);
  put(AT.gdt_frames, 0, 77n);
  put(AT.gdt_frames, 1, 78n);
  put(AT.debugreg, 0, 0x99n);
  put(AT.debugreg, 7, 0xf0001n);
  put(AT.trap_ctxt, 2 * 14 + 1, 0xffff_ffff_8100_0e00n);
  dv.setUint8(AT.trap_ctxt + 14 * 16 + 1, 4);
  dv.setUint16(AT.fpu_ctxt, 0x27f, true);
  dv.setUint32(AT.fpu_ctxt + 24, 0x1fa0, true);
  dv.setUint16(AT.fpu_ctxt + 2, 3 << 11, true);
  bytes.fill(0xaa, AT.fpu_ctxt + 32, AT.fpu_ctxt + 42);
  bytes.fill(0xbb, AT.fpu_ctxt + 160, AT.fpu_ctxt + 176);
  return { bytes, view, regs, put };
}

const fresh = (): FakeVcpu => {
  const t = new FakeVcpu();
  t.vcpu.v.flags = VcpuFlag.down;
  t.vcpu.v.guestTableUser = 0;
  return t;
};

test('a context becomes registers, tables, callbacks, traps and flags', () => {
  const t = fresh();
  expect(t.pv.initContext(t.vcpu, context().bytes)).toBe(0);
  const state = new CpuState(t.memory, t.vcpu.address + VCPU_CPU_STATE);
  expect([state.rip, state.rsp, state.rsi, state.r15]).toEqual([
    0xffff_ffff_8300_0000n,
    0xffff_ffff_8300_8000n,
    7n,
    15n,
  ]);
  expect(state.rflags).toBe(0x202n);
  expect([state.selector(SEG.cs), state.selector(SEG.ss), state.selector(SEG.ds)]).toEqual([0xe033, 0xe02b, 0x2b]);
  expect([state.cr0, state.cr4, state.efer, state.cpl]).toEqual([0x8005_003bn, 0x6e4n, 0xd01n, 3]);
  expect([state.segmentBase(SEG.fs), state.segmentBase(SEG.gs), state.kernelGsBase]).toEqual([
    0x4000n,
    0x5000n,
    0x6000n,
  ]);
  expect([state.gdtrBase, state.gdtrLimit]).toEqual([0xffff_8200_0000_0000n, 0xefff]);
  expect([state.fcw, state.mxcsr, state.dr0, state.dr7]).toEqual([0x27f, 0x1fa0, 0x99n, 0xf0401n]);
  expect(state.fpr(3)[9]).toBe(0xaa);
  expect(state.xmm(0)[15]).toBe(0xbb);
  const { v } = t.vcpu;
  expect([v.guestTable, v.guestTableUser, v.kernelMode, v.iopl]).toEqual([0x123, 0x124, 1, 1]);
  expect([v.eventCallback, v.failsafeCallback, v.syscallCallback]).toEqual([0x1000n, 0x2000n, 0x3000n]);
  expect(v.flags & (VcpuFlag.down | VcpuFlag.initialised)).toBe(VcpuFlag.initialised);
  expect(t.domain.v.vmAssist).toBe(0x21);
  expect(t.log).toEqual(['gdt 77,78 600']);
});

test('what was set is what is read, and may be set again; other tables may not', () => {
  const t = fresh();
  const { bytes, put } = context();
  t.pv.initContext(t.vcpu, bytes);
  const read = t.pv.readContext(t.vcpu);
  const view = VcpuGuestContext.view(bytesOf(read), 0);
  const regs = CpuUserRegs.view(bytesOf(read), AT.user_regs);
  expect([view.kernel_sp, view.fs_base, view.gs_base_kernel, view.gs_base_user]).toEqual([
    0xffff_8880_0000_8000n, 0x4000n, 0x5000n, 0x6000n,
  ]); // prettier-ignore
  expect([regs.rip, regs.rflags, regs.cs, regs.ds]).toEqual([0xffff_ffff_8300_0000n, 0x1202n, 0xe033, 0x2b]);
  expect(read[AT.trap_ctxt + 14 * 16]).toBe(14);
  expect(read.subarray(AT.fpu_ctxt + 32, AT.fpu_ctxt + 42)).toEqual(bytes.subarray(AT.fpu_ctxt + 32, AT.fpu_ctxt + 42));
  expect(view.flags).toBe(BigInt(VGCF.IN_KERNEL | VGCF.online | VGCF.I387_VALID | VGCF.syscall_disables_events));
  put(AT.ctrlreg, 3, 0x999n << 12n);
  expect(t.pv.initContext(t.vcpu, bytes)).toBe(-Errno.EOPNOTSUPP);
});

test('a vCPU that is told to go on where it is keeps what a context does not hold', () => {
  const t = fresh();
  const { bytes } = context();
  t.vcpu.v.xcr0Accum = 7n;
  const state = new CpuState(t.memory, t.vcpu.address + VCPU_CPU_STATE);
  state.xcr0 = 7n;
  state.ymmHigh(3).fill(9);
  expect(t.pv.initContext(t.vcpu, bytes)).toBe(0);
  expect([state.xcr0, state.ymmHigh(3)[0]]).toEqual([7n, 0]);
  state.ymmHigh(15).fill(9);
  t.vcpu.v.callbackFlags |= PvCallbackFlag.sysenter;
  expect(t.pv.initContext(t.vcpu, t.pv.readContext(t.vcpu))).toBe(0);
  expect([state.xcr0, state.ymmHigh(15)[0], state.xmm(0)[0]]).toEqual([7n, 9, 0xbb]);
  expect(t.vcpu.v.callbackFlags).toBe(PvCallbackFlag.sysenter | PvCallbackFlag.syscall);
});

type Context = ReturnType<typeof context>;
test.each<[string, (c: Context) => void, number]>([
  ['rip not canonical', (c) => (c.regs.rip = 1n << 50n), -Errno.EINVAL],
  ['rsp not canonical', (c) => (c.regs.rsp = 1n << 50n), -Errno.EINVAL],
  ['kernel_sp not canonical', (c) => (c.view.kernel_sp = 1n << 50n), -Errno.EINVAL],
  ['gs base not canonical', (c) => (c.view.gs_base_user = 1n << 50n), -Errno.EINVAL],
  ['callback not canonical', (c) => (c.view.event_callback_eip = 1n << 50n), -Errno.EINVAL],
  ['trap not canonical', (c) => c.put(AT.trap_ctxt, 3, 1n << 50n), -Errno.EINVAL],
  ['LDT not page-aligned', (c) => (c.view.ldt_base = 8n), -Errno.EINVAL],
  ['LDT too long', (c) => (c.view.ldt_ents = 8193n), -Errno.EINVAL],
  ['GDT too long', (c) => (c.view.gdt_ents = 7169n), -Errno.EINVAL],
  ['unknown vm_assist', (c) => (c.view.vm_assist = 1n << 40n), -Errno.EINVAL],
  ['user mode without a user table', (c) => { c.view.flags = 0n; c.put(AT.ctrlreg, 1, 0n); }, -Errno.EINVAL],
  ['a kernel table that is none', (c) => c.put(AT.ctrlreg, 3, 0xbadn << 12n), -Errno.EINVAL],
])('refuses: %s', (_name, spoil, errno) => {
  const t = fresh();
  const c = context();
  spoil(c);
  expect(t.pv.initContext(t.vcpu, c.bytes)).toBe(errno);
  expect(t.vcpu.v.flags & VcpuFlag.initialised).toBe(0);
}); // prettier-ignore

test('refuses bytes that are too few; without the online flag the vCPU stays down; user mode starts on the user table', () => {
  const t = fresh();
  expect(t.pv.initContext(t.vcpu, new Uint8Array(100))).toBe(-Errno.EINVAL);
  const { bytes, view } = context();
  view.flags = 0n;
  expect(t.pv.initContext(t.vcpu, bytes)).toBe(0);
  expect(t.vcpu.v.flags & VcpuFlag.down).toBe(VcpuFlag.down);
  expect(t.vcpu.v.kernelMode).toBe(0);
  const state = new CpuState(t.memory, t.vcpu.address + VCPU_CPU_STATE);
  expect([state.segmentBase(SEG.gs), state.kernelGsBase, state.fcw]).toEqual([0x6000n, 0x5000n, 0x37f]);
});
