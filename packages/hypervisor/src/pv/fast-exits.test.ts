/** Exits without the lock: each outcome is that of the ordinary path, byte by byte, or none at all. */
import { ATTR, CPU_STATE_SIZE, ExitReason, OFFSET, SEG, compileEngine, createEngine } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { FLAT_RING3_CS64, Hypercall, VGCF, VMASST } from '@xenhost/xen-abi';
import type { EventChannels } from '../event/api.ts';
import { GuestMemory } from '../hypercall/guest-memory.ts';
import { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag, VCPU_RECORD_FRAMES, VcpuFlag, VcpuLayout } from '../state/records.ts';
import { domainRef, vcpuRef } from '../state/refs.ts';
import type { PvModules } from './api.ts';
import { FlatSegment, MACHINE_CR0, MACHINE_CR4, MACHINE_EFER, Trap } from './constants.ts';
import { createPv } from './pv.ts';
import { PvCallbackFlag, PvVcpuState } from './vcpu-state.ts';

/** Frames: records, two sets of tables over the same first 2 MiB, the guest's GDT. */
const [DOMAIN, VCPU, INFO, KERNEL_L4, USER_L4, GDT] = [1, 2, 2 + VCPU_RECORD_FRAMES, 8, 12, 16];
const FIRST_PAGE = 32;
const [KERNEL_STACK, USER_STACK, READ_ONLY, MISSING] = [0x4_1000, 0x5_1000, 0x6_0000, 0x7_0000];
const HANDLER = 0xffff_ffff_8100_0040n;
const KERNEL_ONLY = 0x8_0000;
const CODE = compileEngine();
const code = { USER_CS: 0x33, USER_SS: 0x2b } as const;
/** A descriptor table with code of 64 bits at 0x30, of 32 bits at 0x20, data at 0x28, and some that are not yet accessed. */
const DESCRIPTORS: Readonly<Record<number, bigint>> = {
  0x20: 0x00cf_fb00_0000_ffffn, 0x28: 0x00cf_f300_0000_ffffn, 0x30: 0x00af_fb00_0000_ffffn, 0x38: 0x00af_fa00_0000_ffffn,
  0x40: 0x12cf_f356_789a_bcden, 0x48: 0x00cf_f100_0000_ffffn, 0x50: 0x00af_7b00_0000_ffffn,
}; // prettier-ignore

class Guest {
  readonly memory = MachineMemory.allocate(4 << 20);
  readonly domain = domainRef(this.memory, DOMAIN);
  readonly vcpu = vcpuRef(this.memory, VCPU);
  readonly engine: Engine;
  readonly pv: ReturnType<typeof createPv>;
  readonly crashes: string[] = [];

  constructor() {
    const { memory, domain, vcpu } = this;
    for (const root of [KERNEL_L4, USER_L4]) {
      for (let level = 0; level < 3; level++) this.put(root + level, 0, (BigInt(root + level + 1) << 12n) | 7n);
      for (let page = FIRST_PAGE; page < 512; page++) {
        const kernelOnly = root === USER_L4 && (page << 12 === KERNEL_ONLY || page << 12 === KERNEL_STACK - 4096);
        if (page << 12 === MISSING || kernelOnly) continue;
        this.put(root + 3, page, (BigInt(page) << 12n) | (page << 12 === READ_ONLY ? 5n : 7n));
      }
      this.put(root + 3, GDT, (BigInt(GDT) << 12n) | 3n);
    }
    for (const [at, descriptor] of Object.entries(DESCRIPTORS)) this.put(GDT, Number(at) / 8, descriptor);
    domain.v.flags = DomainFlag.pv;
    Object.assign(vcpu.v, {
      infoMfn: INFO, infoOffset: 64, kernelMode: 0, guestTable: KERNEL_L4, guestTableUser: USER_L4, gdtEntries: 512,
      kernelSp: BigInt(KERNEL_STACK), syscallCallback: HANDLER,
    }); // prettier-ignore
    memory.u32[(vcpu.address + VcpuLayout.offsets.gdtFrames) / 4] = GDT;
    new PvVcpuState(memory).setTrap(vcpu, Trap.PF, { address: HANDLER + 64n, cs: FLAT_RING3_CS64, flags: 4 });
    this.engine = createEngine(
      { trapMode: 'monitor', nrFrames: memory.nrFrames },
      {
        machineMemory: memory.memory,
        code: CODE,
        host: {
          cpuid: () => ({ eax: 1, ebx: 2, ecx: 3, edx: 4 }),
          readTsc: () => 5n,
          codeFrameAdded: () => undefined,
          codeFrameWritten: () => undefined,
          isCodeFrame: () => false,
        },
      },
    );
    const modules: Partial<PvModules> = {
      memory,
      mm: {
        fixPageFault: () => false,
        switchTables: (v: typeof vcpu, e: Engine) => {
          e.switchRoot(v.v.kernelMode ? v.v.guestTable : v.v.guestTableUser);
        },
        gdtBase: () => BigInt(GDT) << 12n,
        ldtBase: () => 0n,
      } as unknown as PvModules['mm'],
      events: { hasDeliverable: () => false } as unknown as EventChannels,
      domainOf: () => domain,
      vcpu: () => vcpu,
      crashDomain: (_d, _v, text) => this.crashes.push(text),
      dispatchHypercall: (v, e) => {
        if (e.state.rax !== BigInt(Hypercall.iret)) return;
        const rest = { domid: domain.domid, domain, vcpu: v, engine: e, memory: new GuestMemory(e, this.memory) };
        this.pv.hypercalls.iret({ kind: 'pv64', args: [], shouldPreempt: () => false, ...rest });
      },
    };
    this.pv = createPv(modules as PvModules);
    const { state } = this.engine;
    state.reset();
    state.cr0 = MACHINE_CR0;
    state.cr3 = BigInt(USER_L4) << 12n;
    state.cr4 = MACHINE_CR4;
    state.efer = MACHINE_EFER;
    state.cpl = 3;
    state.gdtrBase = BigInt(GDT) << 12n;
    state.gdtrLimit = 0xfff;
    state.setSegment(SEG.cs, { ...FlatSegment.code64, selector: code.USER_CS });
    state.setSegment(SEG.ss, { ...FlatSegment.data, selector: code.USER_SS });
    state.setSegment(SEG.gs, { ...FlatSegment.data, base: 0x7f00_1234_5678n });
    state.kernelGsBase = 0xffff_8880_0fed_cba9n;
    state.rip = 0x40_1002n;
    state.rsp = BigInt(USER_STACK + 8);
    state.rflags = 0x10ad7n;
    for (const [n, name] of (['rax', 'rcx', 'rdx', 'r11', 'r15'] as const).entries()) state[name] = 0x1111_2222_3333_4440n + BigInt(n); // prettier-ignore
    this.engine.stateChanged();
  }

  put(frame: number, index: number, value: bigint): void {
    this.memory.dv.setBigUint64(frame * 4096 + 8 * index, value, true);
  }
  /** The guest's kernel runs, as after an entry. */
  enterKernel(): void {
    const { state } = this.engine;
    this.pv.toggleMode(this.vcpu, this.engine);
    state.setSegment(SEG.cs, FlatSegment.code64);
    state.setSegment(SEG.ss, FlatSegment.data);
    state.rflags = 0x202n;
    state.rip = 0xffff_ffff_8100_1234n;
    state.rsp = BigInt(KERNEL_STACK - 256);
    this.engine.stateChanged();
  }
  /** An iret frame at the stack pointer, which the hypercall is to take. */
  iretFrame(
    fields: Partial<Record<'rax' | 'r11' | 'rcx' | 'flags' | 'rip' | 'cs' | 'rflags' | 'rsp' | 'ss', bigint>>,
  ): void {
    // prettier-ignore
    this.enterKernel();
    const frame = { rax: 0xaaa0_0000_0001n, r11: 11n, rcx: 0xccc0_0000_0002n, flags: 0n, rip: 0x40_2000n, cs: 0x33n, rflags: 0x246n, rsp: 0x7fff_ffff_e000n, ss: 0x2bn, ...fields }; // prettier-ignore
    Object.values(frame).forEach((word, i) => {
      this.memory.dv.setBigUint64(Number(this.engine.state.rsp) + 8 * i, word, true);
    });
    this.engine.state.rax = BigInt(Hypercall.iret);
  }
  exit(reason: ExitReason, fields: Partial<Engine['exit']> = {}): void {
    Object.assign(this.engine.exit, { vector: 0, errorCode: 0, hasErrorCode: false, address: 0n, ...fields, reason });
  }
  slow(): void {
    this.pv.handleExit(this.vcpu, this.engine, this.engine.exit);
  }
  fast(): boolean {
    return this.pv.fastExit(this.vcpu, this.engine);
  }

  /** All that one path may change and the other not: registers, memory of records and guest. Tables have A and D bits. */
  snapshot(): { registers: unknown; flags: bigint; memory: Uint8Array; walks: (number | undefined)[] } {
    const { state, engine } = this;
    const bytes = new Uint8Array(CPU_STATE_SIZE);
    engine.save(bytes);
    const registers = Object.fromEntries(
      Object.entries(OFFSET)
        .filter(([name]) => !SCRATCH.has(name))
        .map(([name, at]) => [name, new DataView(bytes.buffer).getBigUint64(at, true)]),
    );
    const memory = this.memory.u8.slice();
    memory.fill(0, KERNEL_L4 * 4096, GDT * 4096);
    return { registers, flags: state.rflags, memory, walks: [engine.hostAddress(USER_STACK, 0, false), engine.hostAddress(KERNEL_ONLY, 0, false)] }; // prettier-ignore
  }
  private get state(): Engine['state'] {
    return this.engine.state;
  }
}
/** Lazily kept flags may differ in form; views are numbered by when they were first used. */
const SCRATCH = new Set(['ccKind', 'ccResult', 'ccA', 'ccB', 'signal', 'faultVector', 'attention', 'tlbView', 'codeView', 'zero', 'interruptShadow', 'fpuBlock', 'simdBlock', 'segmentCheck', 'mode', 'ripMask', 'stackMask', 'eflags', 'nextRecord', 'faultAddress', 'slowAddress', 'bounce']); // prettier-ignore

type Setup = (guest: Guest) => void;
const syscall: Setup = (g) => {
  g.exit(ExitReason.syscall);
};
const fault =
  (address: number | bigint, errorCode: number): Setup =>
  (g) => {
    g.exit(ExitReason.exception, { vector: Trap.PF, hasErrorCode: true, errorCode, address: BigInt(address) });
  };
const iret =
  (fields: Parameters<Guest['iretFrame']>[0]): Setup =>
  (g) => {
    g.iretFrame(fields);
    g.exit(ExitReason.syscall);
  };
const after =
  (...setups: Setup[]): Setup =>
  (g) => {
    for (const setup of setups) setup(g);
  };
const masked: Setup = (g) => void (g.memory.u8[INFO * 4096 + 64 + 1] = 1); // prettier-ignore
const ioplAssist: Setup = (g) => {
  g.domain.v.vmAssist = 1 << VMASST.ARCHITECTURAL_IOPL;
  g.vcpu.v.iopl = 2;
};
const kernel: Setup = (g) => {
  g.enterKernel();
};

const alike: readonly [string, Setup][] = [
  ['a system call', syscall],
  ['a system call that masks events', after((g) => (g.vcpu.v.callbackFlags = PvCallbackFlag.syscall), syscall)],
  ['a system call with events masked', after(masked, syscall)],
  ['a system call with an IOPL', after(ioplAssist, syscall)],
  ['a system call at an odd kernel stack', after((g) => (g.vcpu.v.kernelSp = BigInt(KERNEL_STACK - 8)), syscall)],
  ['a system call with DF, NT and RF', after((g) => (g.engine.state.rflags = 0x1_4602n), syscall)],
  ['a fault of user code', fault(MISSING, 6)],
  ['a fault of user code with an event mask', after((g) => { new PvVcpuState(g.memory).setTrap(g.vcpu, Trap.PF, { address: HANDLER, cs: FLAT_RING3_CS64, flags: 0 }); }, fault(MISSING, 6))], // prettier-ignore
  ['a write of user code to a page that it may only read', fault(READ_ONLY, 7)],
  ['a fault of the kernel', after(kernel, fault(MISSING + 123, 4))],
  ['a fault of the kernel in upper memory', after(kernel, fault(0xffff_8880_0000_1000n, 2))],
  ['iret to user mode', iret({})],
  ['iret to user mode with flat selectors', iret({ cs: 0xe033n, ss: 0xe02bn })],
  ['iret to user mode with a stack segment that has base and limit', iret({ ss: 0x43n })],
  ['iret to user mode by SYSRET', iret({ flags: BigInt(VGCF.in_syscall) })],
  ['iret to the kernel', iret({ cs: 0xe030n, ss: 0xe028n, rip: 0xffff_ffff_8100_5555n, rflags: 0x12n })],
  ['iret with an IOPL', after(ioplAssist, iret({ rflags: 0x3203n }))],
  ['iret with flags beyond RFLAGS', iret({ rflags: 0xffff_ffff_0000_0ed7n })],
  ['iret to a non-canonical address', iret({ rip: 0x1234_5678_9abc_def0n })],
];
test.each(alike)('%s is as by the ordinary path', (_name, setup) => {
  const [a, b] = [new Guest(), new Guest()];
  setup(a);
  setup(b);
  a.slow();
  expect(b.fast()).toBe(true);
  const [slow, fast] = [a.snapshot(), b.snapshot()];
  expect(fast.registers).toEqual(slow.registers);
  expect(fast.flags).toBe(slow.flags);
  expect(Buffer.compare(fast.memory, slow.memory)).toBe(0);
  expect(fast.walks).toEqual(slow.walks);
  expect([...a.crashes, ...b.crashes]).toEqual([]);
});

const left: readonly [string, Setup][] = [
  ['a system call without a handler', after((g) => (g.vcpu.v.syscallCallback = 0n), syscall)],
  ['a system call of 32-bit code', after((g) => { g.engine.state.setSegment(SEG.cs, { ...FlatSegment.code32, selector: 0x23 }); g.engine.stateChanged(); }, syscall)], // prettier-ignore
  [
    'a system call with a kernel stack that is not there',
    after((g) => (g.vcpu.v.kernelSp = BigInt(MISSING + 512)), syscall),
  ],
  [
    'a system call with a kernel stack that is read-only',
    after((g) => (g.vcpu.v.kernelSp = BigInt(READ_ONLY + 512)), syscall),
  ],
  ['a frame over the edge of a page', after((g) => (g.vcpu.v.kernelSp = BigInt(KERNEL_STACK + 16)), syscall)],
  ['a frame at the start of the address space', after((g) => (g.vcpu.v.kernelSp = 16n), syscall)],
  ['a kernel stack in what is Xen’s', after((g) => (g.vcpu.v.kernelSp = 0xffff_8000_0000_1000n), syscall)],
  ['a kernel stack at a non-canonical address', after((g) => (g.vcpu.v.kernelSp = 0x1_0000_0000_1000n), syscall)],
  ['a single step', after((g) => (g.engine.state.rflags = 0x302n), syscall)],
  ['alignment checks', after((g) => (g.engine.state.rflags = 0x4_0202n), syscall)],
  ['breakpoints', after((g) => { g.engine.state.dr7 = 0x401n; g.engine.stateChanged(); }, syscall)], // prettier-ignore
  ['a pending NMI', after((g) => (g.vcpu.v.flags |= VcpuFlag.nmiPending), syscall)],
  ['no vcpu_info', after((g) => (g.vcpu.v.infoMfn = 0), syscall)],
  ['a fault without a handler', after((g) => { new PvVcpuState(g.memory).clearTraps(g.vcpu); }, fault(MISSING, 6))], // prettier-ignore
  ['a fault in what is Xen’s', fault(0xffff_8200_0000_0000n, 4)],
  ['a store of the kernel to what it may only read', after(kernel, fault(READ_ONLY, 3))],
  ['another exception', (g) => { g.exit(ExitReason.exception, { vector: Trap.GP }); }], // prettier-ignore
  ['a software interrupt', (g) => { g.exit(ExitReason.softwareInterrupt, { vector: 0x80 }); }], // prettier-ignore
  ['another hypercall', after(iret({}), (g) => (g.engine.state.rax = 17n))],
  ['a hypercall number with high bits', after(iret({}), (g) => (g.engine.state.rax = (1n << 32n) | 23n))],
  ['iret from a code segment of its own', after(iret({}), (g) => { g.engine.state.setSegment(SEG.cs, { ...FlatSegment.code64, selector: 0x33 }); })], // prettier-ignore
  ['iret without a user table', after((g) => (g.vcpu.v.guestTableUser = 0), kernel, iretAgain)],
  ['iret with TF', iret({ rflags: 0x346n })],
  ['iret with AC', iret({ rflags: 0x4_0246n })],
  ['iret with RF', iret({ rflags: 0x1_0246n })],
  ['iret to 32-bit code', iret({ cs: 0x23n })],
  ['iret by SYSRET to 32-bit code', iret({ flags: BigInt(VGCF.in_syscall), cs: 0xe023n })],
  ['iret to a code segment not yet accessed', iret({ cs: 0x3bn })],
  ['iret to a code segment that is not present', iret({ cs: 0x53n })],
  ['iret to a data segment as code', iret({ cs: 0x2bn })],
  ['iret to a read-only stack', iret({ ss: 0x4bn })],
  ['iret to code as a stack', iret({ ss: 0x33n })],
  ['iret to the null stack segment', iret({ ss: 3n })],
  ['iret to a selector of the LDT', iret({ cs: 0x37n })],
  ['iret to a selector beyond the GDT’s frames', iret({ cs: 0xd003n })],
  ['an iret frame that is not there', after(iret({}), (g) => (g.engine.state.rsp = BigInt(MISSING)))],
  ['an iret frame over the edge of a page', after(iret({}), (g) => (g.engine.state.rsp = BigInt(KERNEL_STACK - 64)))],
  ['an iret frame that is not aligned', after(iret({}), (g) => (g.engine.state.rsp += 4n))],
];
/** As `iret({})`, in a guest that is in kernel mode already. */
function iretAgain(g: Guest): void {
  g.engine.state.rax = BigInt(Hypercall.iret);
  g.memory.dv.setBigUint64(Number(g.engine.state.rsp) + 40, 0x33n, true);
  g.exit(ExitReason.syscall);
}
test.each(left)('%s is left to the ordinary path, nothing changed', (_name, setup) => {
  const g = new Guest();
  if (_name === 'iret without a user table') g.vcpu.v.guestTableUser = USER_L4;
  setup(g);
  const before = g.snapshot();
  expect(g.fast()).toBe(false);
  const now = g.snapshot();
  expect(now.registers).toEqual(before.registers);
  expect(now.flags).toBe(before.flags);
  expect(Buffer.compare(now.memory, before.memory)).toBe(0);
  expect(now.walks).toEqual(before.walks);
});

test('user code has its own tables again after a round trip', () => {
  const g = new Guest();
  expect(g.engine.hostAddress(KERNEL_ONLY, 0, false)).toBe(-1);
  syscall(g);
  expect(g.fast()).toBe(true);
  expect(g.engine.hostAddress(KERNEL_ONLY, 0, false)).toBe(KERNEL_ONLY);
  expect(g.engine.state.csAttributes & ATTR.long).not.toBe(0);
  const frame = Number(g.engine.state.rsp);
  g.memory.dv.setBigUint64(frame - 32 + 40, 0x33n, true);
  g.engine.state.rsp -= 32n;
  g.memory.dv.setBigUint64(frame - 32 + 64, 0x2bn, true);
  g.engine.state.rax = BigInt(Hypercall.iret);
  g.exit(ExitReason.syscall);
  expect(g.fast()).toBe(true);
  expect(g.engine.hostAddress(KERNEL_ONLY, 0, false)).toBe(-1);
  expect(g.engine.state.kernelGsBase).toBe(0xffff_8880_0fed_cba9n);
});
