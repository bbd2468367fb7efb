import { Errno } from '@xenhost/base';
import { ExitReason, RFLAGS, SEG } from '@xenhost/cpu';
import { FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS, Hypercall, IretContext, VGCF } from '@xenhost/xen-abi';
import { VcpuFlag } from '../state/records.ts';
import { Trap } from './constants.ts';
import {
  CODE,
  FakeVcpu,
  HANDLER,
  KERNEL_STACK,
  KERNEL_TABLE,
  USER_STACK,
  USER_TABLE,
  trapTable,
} from './fake-vcpu.test-kit.ts';

const KERNEL_CS = BigInt(FLAT_RING3_CS64);
const DS = BigInt(FLAT_RING3_DS);
const FLAGS = RFLAGS.if | RFLAGS.fixed | RFLAGS.zf;

describe('exceptions reach the trap table', () => {
  const kinds: readonly [string, number, number | undefined][] = [
    ['#DE', Trap.DE, undefined],
    ['#OF', Trap.OF, undefined],
    ['#BR', Trap.BR, undefined],
    ['#UD', Trap.UD, undefined],
    ['#DF', Trap.DF, 0],
    ['#TS', Trap.TS, 0x20],
    ['#NP', Trap.NP, 0x28],
    ['#SS', Trap.SS, 0],
    ['#GP with an error code', Trap.GP, 0x58],
    ['#GP on an instruction that is not emulated', Trap.GP, 0],
    ['#MF', Trap.MF, undefined],
    ['#AC', Trap.AC, 0],
    ['#XM', Trap.XM, undefined],
  ];
  test.each(kinds)('%s', (_name, vector, errorCode) => {
    const t = new FakeVcpu();
    t.handle(vector, 4);
    const old = t.engine.state.rsp;
    const has = errorCode !== undefined;
    expect(t.exit(ExitReason.exception, { vector, hasErrorCode: has, errorCode: errorCode ?? 0 })).toBe('resume');
    const { state } = t.engine;
    const hardware = [CODE, KERNEL_CS & ~3n, FLAGS, old, DS];
    expect(t.frame(has ? 8 : 7)).toEqual([0xccn, 0x11n, ...(has ? [BigInt(errorCode)] : []), ...hardware]);
    expect(state.rip).toBe(HANDLER + BigInt(vector));
    expect(state.selector(SEG.cs)).toBe(FLAT_RING3_CS64);
    expect(state.selector(SEG.ss)).toBe(FLAT_RING3_DS);
    expect((state.rsp + (has ? 8n : 0n)) % 16n).toBe(8n);
    expect(t.mask).toBe(1);
  });

  test('from user mode: kernel stack, kernel table, GS bases swapped, cs keeps its RPL', () => {
    const t = new FakeVcpu();
    t.handle(Trap.DE);
    t.enterUser();
    expect(t.engine.state.cr3).toBe(BigInt(USER_TABLE) << 12n);
    t.mask = 1;
    t.exit(ExitReason.exception, { vector: Trap.DE });
    expect(t.frame(7)).toEqual([
      0xccn,
      0x11n,
      CODE,
      0x33n | (1n << 32n),
      FLAGS & ~RFLAGS.if,
      USER_STACK - 0x10n,
      0x2bn,
    ]);
    expect(t.engine.state.rsp).toBe(KERNEL_STACK - 56n);
    expect(t.engine.state.cr3).toBe(BigInt(KERNEL_TABLE) << 12n);
    expect(t.engine.state.segmentBase(SEG.gs)).toBe(0x6000n);
    expect(t.engine.state.kernelGsBase).toBe(0x5000n);
    expect(t.vcpu.v.kernelMode).toBe(1);
  });

  test('TF, NT, RF, AC of the interrupted code are in the frame and clear in the handler', () => {
    const t = new FakeVcpu();
    t.handle(Trap.DE);
    t.engine.state.rflags = FLAGS | RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.ac | RFLAGS.df;
    t.exit(ExitReason.exception, { vector: Trap.DE });
    expect(t.frame(7)[4]).toBe(FLAGS | RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.ac | RFLAGS.df);
    expect(t.engine.state.rflags).toBe(FLAGS | RFLAGS.df);
  });

  test.each([
    ['kernel', false, 6, 2],
    ['user', true, 6, 6],
    ['kernel fetch', false, 0x15, 0x11],
  ])('#PF in %s mode: cr2 in vcpu_info, U bit by mode', (_name, user, code, seen) => {
    const t = new FakeVcpu();
    t.handle(Trap.PF);
    if (user) t.enterUser();
    t.exit(ExitReason.exception, { vector: Trap.PF, hasErrorCode: true, errorCode: code, address: 0xdead_b000n });
    expect(t.frame(3)[2]).toBe(BigInt(seen));
    expect(t.cr2).toBe(0xdead_b000n);
    t.fixesPageFaults = true;
    const { rip } = t.engine.state;
    expect(t.exit(ExitReason.exception, { vector: Trap.PF, hasErrorCode: true, errorCode: 2, address: 1n })).toBe(
      'resume',
    );
    expect(t.engine.state.rip).toBe(rip);
  });

  test('#NM is given once when the guest has set TS, and not at all when it has not', () => {
    const t = new FakeVcpu();
    t.handle(Trap.NM);
    expect(t.call(t.pv.hypercalls.fpu_taskswitch, [1n])).toBe(0);
    expect(t.engine.state.cr0 & 8n).toBe(8n);
    t.exit(ExitReason.exception, { vector: Trap.NM });
    expect(t.engine.state.rip).toBe(HANDLER + 7n);
    expect(t.engine.state.cr0 & 8n).toBe(0n);
    t.engine.state.rip = CODE;
    t.exit(ExitReason.exception, { vector: Trap.NM });
    expect(t.engine.state.rip).toBe(CODE);
  });

  test('#DB latches DR6 for the guest', () => {
    const t = new FakeVcpu();
    t.handle(Trap.DB);
    t.engine.state.dr6 = 0xffff_4ff1n;
    t.exit(ExitReason.exception, { vector: Trap.DB });
    expect(t.call(t.pv.hypercalls.get_debugreg, [6n])).toBe(0x4001n);
    expect(t.engine.state.dr6).toBe(0xffff_0ff0n);
  });

  test.each([
    ['no handler', (t: FakeVcpu) => t, /no guest handler/],
    ['an unmapped stack', (t: FakeVcpu) => { t.handle(0); t.engine.state.rsp = 0x1000n; return t; }, /cannot write the frame/],
    ['a stack in Xen', (t: FakeVcpu) => { t.handle(0); t.engine.state.rsp = 0xffff_8000_0000_1000n; return t; }, /kernel stack at/],
    ['a non-canonical stack', (t: FakeVcpu) => { t.handle(0); t.engine.state.rsp = 0x8000_0000_0bad_c0den; return t; }, /cannot write/],
  ])('%s crashes the domain', (_name, prepare, text) => {
    const t = prepare(new FakeVcpu());
    expect(t.exit(ExitReason.exception, { vector: Trap.DE })).toBe('stop');
    expect(t.crashes).toEqual([expect.stringMatching(text)]);
  }); // prettier-ignore
});

describe('software interrupts', () => {
  const run = (vector: number, flags: number, user: boolean, length = 2) => {
    const t = new FakeVcpu();
    t.handle(Trap.GP);
    if (flags >= 0) t.handle(vector, flags);
    if (user) t.enterUser();
    t.exit(ExitReason.softwareInterrupt, { vector, length });
    return t;
  };
  test.each([
    ['int 0x20, DPL 3, user', 0x20, 3, true],
    ['int 0x20, DPL 1, kernel', 0x20, 1, false],
    ['int 0x80, DPL 0, user: a gate of its own', 0x80, 0, true],
  ])('%s: delivered, rip after it', (_name, vector, flags, user) => {
    const t = run(vector, flags, user);
    expect(t.engine.state.rip).toBe(HANDLER + BigInt(vector));
    expect(t.frame(3)[2]).toBe(CODE + 2n);
  });
  test.each([
    ['int 0x20, DPL 1, user', 0x20, 1, true],
    ['int 0x20, DPL 0, kernel', 0x20, 0, false],
    ['int 0x80 without a handler', 0x80, -1, false],
    ['int 0x82', 0x82, -1, false],
  ])('%s: #GP with the IDT error code, rip on it', (_name, vector, flags, user) => {
    const t = run(vector, flags, user);
    expect(t.engine.state.rip).toBe(HANDLER + 13n);
    expect(t.frame(4).slice(2)).toEqual([BigInt((vector << 3) | 2), CODE]);
  });
  test('int3 is a #BP without a question of DPL', () => {
    const t = run(3, 0, true, 1);
    expect(t.engine.state.rip).toBe(HANDLER + 3n);
    expect(t.frame(3)[2]).toBe(CODE + 1n);
  });
});

describe('syscall and sysenter', () => {
  test('from kernel mode it is a hypercall: rcx and r11 as the instruction leaves them', () => {
    const t = new FakeVcpu();
    t.engine.state.rax = 17n;
    expect(t.exit(ExitReason.syscall)).toBe('resume');
    expect(t.dispatched).toEqual([17n]);
    expect([t.engine.state.rcx, t.engine.state.r11]).toEqual([CODE, FLAGS]);
  });
  test.each([
    ['masking events', 1, 1],
    ['not masking', 0, 0],
  ])('from user mode: the syscall callback, %s; DF is clear', (_name, flags, mask) => {
    const t = new FakeVcpu();
    expect(t.call(t.pv.hypercalls.callback_op, [0n, 1n], callback(2, flags))).toBe(0);
    t.enterUser();
    t.engine.state.rflags = FLAGS | RFLAGS.df;
    t.exit(ExitReason.syscall);
    expect(t.frame(7)).toEqual([CODE, FLAGS | RFLAGS.df, CODE, KERNEL_CS, FLAGS | RFLAGS.df, USER_STACK - 0x10n, DS]);
    expect(t.engine.state.rip).toBe(HANDLER);
    expect(t.engine.state.rflags).toBe(FLAGS);
    expect(t.mask).toBe(mask);
  });
  test('32-bit code in user mode has a callback of its own', () => {
    const t = new FakeVcpu();
    expect(t.call(t.pv.hypercalls.callback_op, [0n, 1n], callback(7, 0))).toBe(0);
    t.enterUser();
    t.engine.state.setSegment(SEG.cs, { ...t.engine.state.segment(SEG.cs), attributes: 0xc0fb });
    t.exit(ExitReason.syscall);
    expect(t.engine.state.rip).toBe(HANDLER);
    expect(t.frame(4)[3]).toBe(BigInt(FLAT_RING3_CS32));
  });
  test('without a callback: #UD on the instruction; sysenter: #GP with nothing known of the caller', () => {
    const t = new FakeVcpu();
    t.handle(Trap.UD);
    t.handle(Trap.GP);
    t.enterUser();
    t.exit(ExitReason.syscall);
    expect(t.engine.state.rip).toBe(HANDLER + 6n);
    expect(t.frame(3)[2]).toBe(CODE - 2n);
    t.enterUser();
    t.exit(ExitReason.sysenter);
    expect(t.engine.state.rip).toBe(HANDLER + 13n);
    expect(t.frame(8).slice(2)).toEqual([0n, 0n, 3n, expect.any(BigInt), 0n, DS]);
  });
  test('sysenter callback', () => {
    const t = new FakeVcpu();
    expect(t.call(t.pv.hypercalls.callback_op, [0n, 1n], callback(5, 1))).toBe(0);
    t.enterUser();
    t.engine.state.rflags = FLAGS | RFLAGS.nt;
    t.exit(ExitReason.sysenter);
    expect(t.frame(7).slice(2)).toEqual([0n, 3n, FLAGS | RFLAGS.nt, 0n, DS]);
    expect(t.mask).toBe(1);
  });
  test('vmcall is no instruction of a PV guest', () => {
    const t = new FakeVcpu();
    t.handle(Trap.UD);
    t.exit(ExitReason.hypercall);
    expect(t.frame(3)[2]).toBe(CODE - 3n);
  });
});

function callback(type: number, flags: number, address = HANDLER): Uint8Array {
  const bytes = new Uint8Array(16);
  const dv = new DataView(bytes.buffer);
  dv.setUint16(0, type, true);
  dv.setUint16(2, flags, true);
  dv.setBigUint64(8, address, true);
  return bytes;
}

describe('iret', () => {
  const base = {
    rax: 1n, r11: 2n, rcx: 3n, flags: 0n, rip: 0x40_0000n, cs: 0x33n, rflags: RFLAGS.if | RFLAGS.cf | RFLAGS.iopl,
    rsp: 0x7ffe_0000n, ss: 0x2bn,
  }; // prettier-ignore
  const iret = (t: FakeVcpu, frame: Partial<typeof base>) => {
    const { bytes } = IretContext.create({ ...base, ...frame });
    t.engine.state.rsp = KERNEL_STACK - 0x200n;
    t.engine.writeVirtual(t.engine.state.rsp, bytes);
    expect(t.call(t.pv.hypercalls.iret, [])).toBe('noResult');
    return t.engine.state;
  };
  test('to user mode: everything from the frame, IOPL forced out, user table and GS base', () => {
    const t = new FakeVcpu();
    t.mask = 1;
    const state = iret(t, {});
    expect([state.rax, state.r11, state.rcx, state.rip, state.rsp]).toEqual([1n, 2n, 3n, 0x40_0000n, 0x7ffe_0000n]);
    expect(state.rflags).toBe(RFLAGS.if | RFLAGS.cf | RFLAGS.fixed);
    expect([state.selector(SEG.cs), state.selector(SEG.ss)]).toEqual([0x33, 0x2b]);
    expect([t.vcpu.v.kernelMode, state.cr3, state.segmentBase(SEG.gs)]).toEqual([
      0,
      BigInt(USER_TABLE) << 12n,
      0x5000n,
    ]);
    expect(t.mask).toBe(0);
    expect(t.vcpu.v.iopl).toBe(0);
  });
  test('to kernel mode (RPL 0 in the frame): no switch, RPL forced to 3, mask from IF', () => {
    const t = new FakeVcpu();
    const state = iret(t, { cs: 0xe030n, ss: 0xe028n, rflags: 0n });
    expect([t.vcpu.v.kernelMode, state.selector(SEG.cs), state.selector(SEG.ss)]).toEqual([1, 0xe033, 0xe02b]);
    expect(t.mask).toBe(1);
    expect(state.rflags & RFLAGS.if).toBe(RFLAGS.if);
  });
  test('in_syscall: SYSRET selectors, rcx is rip, r11 rflags', () => {
    const t = new FakeVcpu();
    const state = iret(t, { flags: BigInt(VGCF.in_syscall) });
    expect([state.rcx, state.r11]).toEqual([0x40_0000n, state.rflags]);
    expect([state.selector(SEG.cs), state.selector(SEG.ss)]).toEqual([FLAT_RING3_CS64, FLAT_RING3_DS]);
    expect(iret(new FakeVcpu(), { flags: 256n, cs: 0xe023n }).selector(SEG.cs)).toBe(FLAT_RING3_CS32);
  });
  test('architectural_iopl takes IOPL from the frame and shows it in later frames', () => {
    const t = new FakeVcpu();
    t.domain.v.vmAssist = 1 << 4;
    t.handle(Trap.DE);
    iret(t, {});
    expect(t.vcpu.v.iopl).toBe(3);
    t.exit(ExitReason.exception, { vector: Trap.DE });
    expect(t.frame(5)[4]! & RFLAGS.iopl).toBe(RFLAGS.iopl);
  });
  test.each([
    ['cs', { cs: 0x5bn }, 0x58n],
    ['ss', { ss: 0x63n }, 0x60n],
  ])('a bad %s is a #GP of the guest with that selector', (_name, frame, code) => {
    const t = new FakeVcpu();
    t.handle(Trap.GP);
    iret(t, frame);
    expect(t.engine.state.rip).toBe(HANDLER + 13n);
    expect(t.frame(5).slice(2)).toEqual([code, base.rip, 'cs' in frame ? frame.cs : 0x33n]);
  });
  test('user mode without a user table, or an unreadable frame, crash the domain', () => {
    const t = new FakeVcpu();
    t.vcpu.v.guestTableUser = 0;
    iret(t, {});
    t.engine.state.rsp = 0x1000n;
    expect(t.call(t.pv.hypercalls.iret, [])).toBe('noResult');
    expect(t.crashes).toEqual([expect.stringMatching(/without user page tables/), expect.stringMatching(/iret frame/)]);
  });
});

describe('exits that are brief', () => {
  test.each<[string, bigint, boolean]>([
    ['mmu_update', BigInt(Hypercall.mmu_update), true],
    ['stack_switch', BigInt(Hypercall.stack_switch), true],
    ['iret, which may want single steps', BigInt(Hypercall.iret), false],
    ['sched_op', BigInt(Hypercall.sched_op), false],
    ['a multicall, which may hold any of them', BigInt(Hypercall.multicall), false],
    ['a number whose low half is one', BigInt(Hypercall.mmu_update) + (1n << 32n), false],
  ])('a hypercall: %s', (_, rax, isBrief) => {
    const t = new FakeVcpu();
    t.engine.exit.reason = ExitReason.syscall;
    t.engine.state.rax = rax;
    expect(t.pv.isBrief(t.vcpu, t.engine)).toBe(isBrief);
    t.enterUser();
    expect(t.pv.isBrief(t.vcpu, t.engine)).toBe(false);
  });
  test.each<[string, number, number, boolean]>([
    ["a kernel's store to a read-only page", Trap.PF, 3, true],
    ['a load from it', Trap.PF, 1, false],
    ['a store to a page that is not there', Trap.PF, 2, false],
    ['another exception', Trap.GP, 3, false],
  ])('an exception: %s', (_, vector, errorCode, isBrief) => {
    const t = new FakeVcpu();
    Object.assign(t.engine.exit, { reason: ExitReason.exception, vector, errorCode });
    expect(t.pv.isBrief(t.vcpu, t.engine)).toBe(isBrief);
    t.enterUser();
    expect(t.pv.isBrief(t.vcpu, t.engine)).toBe(false);
  });
});

describe('before entry', () => {
  test('an event upcall: frame without an error code, mask set on entry', () => {
    const t = new FakeVcpu();
    t.call(t.pv.hypercalls.callback_op, [0n, 1n], callback(0, 0));
    expect(t.pv.beforeEntry(t.vcpu, t.engine)).toBe('resume');
    expect(t.engine.state.rip).toBe(CODE);
    t.deliverable = true;
    expect(t.pv.beforeEntry(t.vcpu, t.engine)).toBe('resume');
    expect(t.engine.state.rip).toBe(HANDLER);
    expect(t.frame(3)).toEqual([0xccn, 0x11n, CODE]);
    expect(t.mask).toBe(1);
  });
  test('an upcall without a callback crashes', () => {
    const t = new FakeVcpu();
    t.deliverable = true;
    expect(t.pv.beforeEntry(t.vcpu, t.engine)).toBe('stop');
  });
  test('an NMI is delivered once and held until iret; lost without a handler', () => {
    const t = new FakeVcpu();
    t.pv.sendNmi(t.vcpu);
    t.pv.beforeEntry(t.vcpu, t.engine);
    expect(t.engine.state.rip).toBe(CODE);
    expect(t.vcpu.v.flags & VcpuFlag.nmiPending).toBe(0);
    const nmi = new Uint8Array(16);
    new DataView(nmi.buffer).setBigUint64(0, HANDLER, true);
    expect(t.call(t.pv.hypercalls.nmi_op, [0n, 1n], nmi)).toBe(0);
    t.pv.sendNmi(t.vcpu);
    t.pv.beforeEntry(t.vcpu, t.engine);
    expect(t.engine.state.rip).toBe(HANDLER);
    t.engine.state.rip = CODE;
    t.pv.sendNmi(t.vcpu);
    t.pv.beforeEntry(t.vcpu, t.engine);
    expect(t.engine.state.rip).toBe(CODE);
    expect(t.log).toEqual(['kick', 'kick', 'kick']);
  });
  test('a switch that cannot load a data segment enters the failsafe callback', () => {
    const t = new FakeVcpu();
    t.call(t.pv.hypercalls.callback_op, [0n, 1n], callback(1, 1));
    const { state } = t.engine;
    state.setSegment(SEG.ds, { ...state.segment(SEG.ds), selector: 0x2b });
    state.setSegment(SEG.es, { ...state.segment(SEG.es), selector: 0x73 });
    expect(t.pv.switchedIn(t.vcpu, t.engine)).toBe('resume');
    expect(state.rip).toBe(HANDLER);
    expect(t.frame(8)).toEqual([0xccn, 0x11n, 0x2bn, 0x73n, 0n, 0n, CODE, KERNEL_CS & ~3n]);
    expect(state.selector(SEG.es)).toBe(0);
    expect([state.segmentBase(SEG.gs), t.mask]).toEqual([0x6000n, 1]);
  });
});

describe('hypercalls', () => {
  test('set_trap_table: replaces, keeps, clears; bad address and unreadable memory', () => {
    const t = new FakeVcpu();
    const { set_trap_table } = t.pv.hypercalls;
    expect(t.call(set_trap_table, [1n], trapTable([[0, 4], [6, 0]]))).toBe(0); // prettier-ignore
    t.exit(ExitReason.exception, { vector: 6 });
    expect(t.engine.state.rip).toBe(HANDLER + 6n);
    expect(t.call(set_trap_table, [1n], new Uint8Array(8))).toBe(-Errno.EFAULT);
    const bad = trapTable([[1, 0]]);
    new DataView(bad.buffer).setBigUint64(8, 0x8000_0000_0000_0000n, true);
    expect(t.call(set_trap_table, [1n], bad)).toBe(-Errno.EINVAL);
    expect(t.call(set_trap_table, [0n])).toBe(0);
    expect(t.exit(ExitReason.exception, { vector: 6 })).toBe('stop');
  });
  test('a trap table without an end is continued, not endless', () => {
    const t = new FakeVcpu();
    const endless = trapTable(Array.from({ length: 2000 }, () => [1, 0] as const));
    expect(t.call(t.pv.hypercalls.set_trap_table, [1n], endless)).toBe('continue');
  });
  test.each([
    ['event', [0n, 1n], callback(0, 0), 0],
    ['failsafe', [0n, 1n], callback(1, 0), 0],
    ['sysenter of old', [0n, 1n], callback(3, 0), -Errno.ENOSYS],
    ['unknown type', [0n, 1n], callback(9, 0), -Errno.ENOSYS],
    ['non-canonical', [0n, 1n], callback(0, 0, 1n << 50n), -Errno.EINVAL],
    ['unreadable', [0n, 1n], new Uint8Array(2), -Errno.EFAULT],
    ['unregister nmi', [1n, 1n], callback(4, 0), 0],
    ['unregister event', [1n, 1n], callback(0, 0), -Errno.EINVAL],
    ['unregister syscall', [1n, 1n], callback(2, 0), -Errno.EINVAL],
    ['unregister unknown', [1n, 1n], callback(9, 0), -Errno.ENOSYS],
    ['unknown operation', [2n, 1n], callback(0, 0), -Errno.ENOSYS],
  ])('callback_op: %s', (_name, args, bytes, result) => {
    const t = new FakeVcpu();
    expect(t.call(t.pv.hypercalls.callback_op, args, bytes)).toBe(result);
  });
  test('stack_switch and set_callbacks', () => {
    const t = new FakeVcpu();
    t.call(t.pv.hypercalls.stack_switch, [0xe028n, KERNEL_STACK - 0x400n]);
    expect([t.vcpu.v.kernelSs, t.vcpu.v.kernelSp]).toEqual([0xe02bn, KERNEL_STACK - 0x400n]);
    t.call(t.pv.hypercalls.set_callbacks, [1n, 2n, 3n]);
    expect([t.vcpu.v.eventCallback, t.vcpu.v.failsafeCallback, t.vcpu.v.syscallCallback]).toEqual([1n, 2n, 3n]);
  });
  test('set_gdt reads its frames, refuses too many entries; update_descriptor is handed on', () => {
    const t = new FakeVcpu();
    const frames = new Uint8Array(new BigUint64Array([41n, 42n]).buffer);
    expect(t.call(t.pv.hypercalls.set_gdt, [1n, 513n], frames)).toBe(0);
    expect(t.call(t.pv.hypercalls.set_gdt, [1n, 7169n], frames)).toBe(-Errno.EINVAL);
    expect(t.call(t.pv.hypercalls.set_gdt, [1n, 1025n], frames)).toBe(-Errno.EFAULT);
    expect(t.call(t.pv.hypercalls.update_descriptor, [0x29000n, 5n])).toBe(0);
    expect(t.log).toEqual(['gdt 41,42 513', `descriptor 167936 5`]);
  });
  test.each([
    ['FS', 0n, 0x7000n, 0],
    ['GS user', 1n, 0x7000n, 0],
    ['GS kernel', 2n, 0x7000n, 0],
    ['FS non-canonical', 0n, 1n << 63n, -Errno.EINVAL],
    ['GS user non-canonical', 1n, 1n << 63n, -Errno.EINVAL],
    ['unknown', 4n, 0n, -Errno.EINVAL],
    ['GS selector', 3n, 0x2bn, 0],
    ['bad GS selector', 3n, 0x99n, 0],
  ])('set_segment_base: %s', (name, which, base, result) => {
    const t = new FakeVcpu();
    expect(t.call(t.pv.hypercalls.set_segment_base, [which, base])).toBe(result);
    const { state } = t.engine;
    const bases = { fs: state.segmentBase(SEG.fs), gs: state.segmentBase(SEG.gs), user: state.kernelGsBase };
    const changed: Record<string, Partial<typeof bases>> = {
      FS: { fs: 0x7000n }, 'GS user': { user: 0x7000n }, 'GS kernel': { gs: 0x7000n },
      'GS selector': { user: 0x2bn << 32n }, 'bad GS selector': { user: 0n },
    }; // prettier-ignore
    expect(bases).toEqual({ fs: 0n, gs: 0x6000n, user: 0x5000n, ...changed[name] });
  });
  test('physdev_op: iopl and io bitmap; what needs PIRQs is refused', () => {
    const t = new FakeVcpu();
    const op = (cmd: number, word: number, size = 16): unknown => {
      const bytes = new Uint8Array(size);
      new DataView(bytes.buffer).setUint32(0, word, true);
      return t.call(t.pv.hypercalls.physdev_op, [BigInt(cmd), 1n], bytes);
    };
    expect([op(6, 1), op(6, 4), op(7, 0x1000), op(12, 9), op(5, 9), op(5, 99), op(13, 0, 40), op(99, 0)]).toEqual([
      0, -Errno.EINVAL, 0, -Errno.EINVAL, 0, -Errno.EINVAL, -Errno.EPERM, -Errno.ENOSYS,
    ]); // prettier-ignore
    expect(t.vcpu.v.iopl).toBe(1);
    expect(t.vcpu.v.ioBitmapVa).toBe(0x1000n);
  });
  test.each([
    ['DR0', 0n, 0x4000n, 0, 0x4000n],
    ['DR0 in Xen', 0n, 0xffff_8100_0000_0000n, -Errno.EPERM, 0n],
    ['DR6', 6n, 0n, 0, 0xffff_0ff0n],
    ['DR6 high', 6n, 1n << 32n, -Errno.EINVAL, 0xffff_0ff0n],
    ['DR7', 7n, 0xf0001n, 0, 0xf0401n],
    ['DR7 GD', 7n, 0x2000n, -Errno.EPERM, 0x400n],
    ['DR7 I/O without CR4.DE', 7n, 0x2_0002n, -Errno.EPERM, 0x400n],
    ['DR8', 8n, 0n, -Errno.ENODEV, -Errno.ENODEV],
    ['DR4 is DR6', 4n, 1n, 0, 0xffff_0ff1n],
  ])('set_debugreg %s', (_name, n, value, result, seen) => {
    const t = new FakeVcpu();
    t.call(t.pv.hypercalls.set_debugreg, [6n, 0n]);
    t.call(t.pv.hypercalls.set_debugreg, [7n, 0n]);
    expect(t.call(t.pv.hypercalls.set_debugreg, [n, value])).toBe(result);
    expect(t.call(t.pv.hypercalls.get_debugreg, [n])).toBe(seen);
  });
  test('the hypercall page', () => {
    const page = new Uint8Array(4096);
    new FakeVcpu().pv.fillHypercallPage(page);
    const hex = (slot: number, n: number): string =>
      Buffer.from(page.subarray(slot * 32, slot * 32 + n)).toString('hex');
    expect(hex(29, 14)).toBe('514153b81d0000000f05415b59c3');
    expect(hex(23, 11)).toBe('51415350b8170000000f05');
  });
});
