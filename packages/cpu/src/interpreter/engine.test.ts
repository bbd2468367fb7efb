import { ExitReason } from '../engine/exit-reason.ts';
import { CPU_STATE_SIZE, CpuState, SEG } from '../engine/state.ts';
import { CODE, DATA, PAGE, PTE, STACK, TestMachine, UNMAPPED } from './machine.fixture.ts';

const RW = PTE.present | PTE.write | PTE.user;

describe('programs', () => {
  test('loops, calls, the stack and string instructions', () => {
    const m = new TestMachine();
    const reason = m.run(`
      mov ecx, 10
      xor eax, eax
again: add rax, rcx
      dec ecx
      jnz again
      call double
      mov rdi, ${DATA}
      mov ecx, 3
      rep stosq
      push rax
      pop rbx
      syscall
double: shl rax, 1
      ret`);
    expect(reason).toBe(ExitReason.syscall);
    expect(m.engine.state.rbx).toBe(110n);
    expect(m.engine.state.rsp).toBe(BigInt(STACK));
    expect(m.view.getBigUint64(DATA + 16, true)).toBe(110n);
    expect(m.view.getBigUint64(DATA + 24, true)).toBe(0n);
  });

  test('the budget ends a loop, and the next run goes on', () => {
    const m = new TestMachine();
    expect(m.run('mov ecx, 1000\nagain: dec ecx\njnz again\nsyscall', 100)).toBe(ExitReason.budget);
    expect(m.engine.state.rcx).toBeGreaterThan(800n);
    expect(m.run(undefined, 10_000)).toBe(ExitReason.syscall);
    expect(m.engine.state.rcx).toBe(0n);
  });

  test('an instruction that crosses into the next page, run twice', () => {
    const m = new TestMachine();
    m.code(`mov rax, 0x1122334455667788\ndec ecx\njnz ${CODE + PAGE - 5}\nsyscall`, CODE + PAGE - 5);
    m.engine.state.rcx = 3n;
    m.engine.state.rip = BigInt(CODE + PAGE - 5);
    expect(m.engine.run(1000)).toBe(ExitReason.syscall);
    expect(m.engine.state.rax).toBe(0x1122334455667788n);
  });

  test('save and load carry the state, flags included', () => {
    const m = new TestMachine();
    m.run('mov eax, 5\ncmp eax, 6\nsyscall');
    const saved = new Uint8Array(CPU_STATE_SIZE);
    m.engine.save(saved);
    expect(new CpuState(saved).rflags & 0x8d5n).toBe(0x95n);
    m.engine.state.reset();
    m.engine.load(saved);
    expect(m.engine.state.rax).toBe(5n);
    expect(m.engine.state.rflags & 0x8d5n).toBe(0x95n);
  });
});

describe('faults are precise', () => {
  interface FaultCase {
    title: string;
    source: string;
    vector: number;
    errorCode?: number;
    address?: bigint;
    prepare?: (m: TestMachine) => void;
    unchanged?: boolean;
  }
  const cases: FaultCase[] = [
    { title: 'read of a page that is not there', source: `mov rax, [${UNMAPPED}]`, vector: 14, errorCode: 4, address: BigInt(UNMAPPED) },
    { title: 'write of a page that is not there', source: `mov rdi, ${UNMAPPED}\nmov [rdi+8], rax`, vector: 14, errorCode: 6, address: BigInt(UNMAPPED + 8) },
    { title: 'write of a read-only page', source: `mov [${DATA}], rax`, vector: 14, errorCode: 7, prepare: (m) => { m.map(DATA, DATA >> 12, PTE.present | PTE.user); } },
    { title: 'read-modify-write of a missing page says write', source: `add dword [${UNMAPPED}], 1`, vector: 14, errorCode: 6 },
    { title: 'a page of the supervisor', source: `mov rax, [${DATA}]`, vector: 14, errorCode: 5, prepare: (m) => { m.map(DATA, DATA >> 12, PTE.present | PTE.write); } },
    { title: 'fetch from a page without execute', source: `jmp ${DATA}`, vector: 14, errorCode: 0x15, address: BigInt(DATA), prepare: (m) => { m.map(DATA, DATA >> 12, RW | PTE.noExecute); } },
    { title: 'reserved bit', source: `mov rax, [${DATA}]`, vector: 14, errorCode: 0xd, prepare: (m) => { m.engine.state.efer = 0x501n; m.map(DATA, DATA >> 12, RW | PTE.noExecute); m.engine.stateChanged(); } },
    { title: 'address that is not canonical', source: 'mov rdi, 0x8000000000000000\nmov rax, [rdi]', vector: 13, errorCode: 0 },
    { title: 'the same through RSP', source: 'mov rsp, 0x8000000000000000\npop rax', vector: 12, errorCode: 0 },
    { title: 'division by zero', source: 'xor ecx, ecx\ndiv rcx', vector: 0 },
    { title: 'quotient too large', source: 'mov edx, 5\nmov ecx, 5\ndiv rcx', vector: 0 },
    { title: 'UD2', source: 'ud2', vector: 6 },
    { title: 'HLT in ring 3', source: 'hlt', vector: 13, errorCode: 0 },
    { title: 'CLI without I/O privilege', source: 'cli', vector: 13, errorCode: 0 },
    { title: 'MOV to CR3 in ring 3', source: 'mov cr3, rax', vector: 13, errorCode: 0 },
    { title: 'IN without I/O privilege', source: 'in al, 0x60', vector: 13, errorCode: 0 },
    { title: 'data segment of a selector outside the table', source: 'mov eax, 0x40\nmov ds, ax', vector: 13, errorCode: 0x40 },
  ]; // prettier-ignore

  test.each(cases)('$title', ({ source, vector, errorCode, address, prepare }) => {
    const m = new TestMachine();
    prepare?.(m);
    expect(m.run(source)).toBe(ExitReason.exception);
    const { exit } = m.engine;
    expect(exit.vector).toBe(vector);
    expect(exit.hasErrorCode).toBe(errorCode !== undefined);
    if (errorCode !== undefined) expect(exit.errorCode).toBe(errorCode);
    if (address !== undefined) expect(exit.address).toBe(address);
  });

  test('registers and RIP are those of before', () => {
    const m = new TestMachine();
    const symbols = m.code(`mov rsp, ${UNMAPPED + 8}\nmov eax, 7\nhere: push rax\nsyscall`);
    expect(m.run()).toBe(ExitReason.exception);
    expect(m.engine.state.rip).toBe(symbols.get('here'));
    expect(m.engine.state.rsp).toBe(BigInt(UNMAPPED + 8));
  });

  test('a store into two pages of which the second is missing writes nothing', () => {
    const m = new TestMachine();
    expect(m.run(`mov rax, -1\nmov [${UNMAPPED - 4}], rax`)).toBe(ExitReason.exception);
    expect(m.engine.exit.address).toBe(BigInt(UNMAPPED));
    expect(m.view.getUint32(UNMAPPED - 4, true)).toBe(0);
  });

  test('REP MOVS that runs into a missing page has its registers at the element that failed', () => {
    const m = new TestMachine();
    expect(m.run(`mov rsi, ${DATA}\nmov rdi, ${UNMAPPED - 32}\nmov ecx, 10\nrep movsq`)).toBe(ExitReason.exception);
    expect(m.engine.state.rcx).toBe(6n);
    expect(m.engine.state.rdi).toBe(BigInt(UNMAPPED));
    expect(m.engine.exit.errorCode).toBe(6);
  });
});

describe('accessed and dirty bits', () => {
  test('reads set A, writes set A and D', () => {
    const m = new TestMachine();
    m.run(`mov rax, [${DATA}]\nmov [${DATA + PAGE}], rax\nsyscall`);
    expect(m.entry(DATA) & (PTE.accessed | PTE.dirty)).toBe(PTE.accessed);
    expect(m.entry(DATA + PAGE) & (PTE.accessed | PTE.dirty)).toBe(PTE.accessed | PTE.dirty);
  });
  test('a write after a read of the same page still sets D', () => {
    const m = new TestMachine();
    m.run(`mov rax, [${DATA}]\nmov [${DATA}], rax\nsyscall`);
    expect(m.entry(DATA) & PTE.dirty).toBe(PTE.dirty);
  });
});

describe('code that is written', () => {
  test('the next instruction of the same run', () => {
    const m = new TestMachine();
    expect(m.run('mov byte [rel patched+1], 9\npatched: mov al, 1\nsyscall')).toBe(ExitReason.syscall);
    expect(m.engine.state.rax & 0xffn).toBe(9n);
  });
  test('behind SERIALIZE', () => {
    const m = new TestMachine();
    expect(m.run('mov byte [rel patched+1], 9\nserialize\npatched: mov al, 1\nsyscall')).toBe(ExitReason.syscall);
    expect(m.engine.state.rax & 0xffn).toBe(9n);
  });
  test('through another mapping of the page', () => {
    const m = new TestMachine();
    m.map(DATA, CODE >> 12, RW);
    const f = CODE + 0x100;
    m.code('mov al, 1\nret', f);
    m.code(`call ${f}\nmov byte [${f - CODE + DATA + 1}], 9\ncall ${f}\nsyscall`);
    expect(m.run()).toBe(ExitReason.syscall);
    expect(m.engine.state.rax & 0xffn).toBe(9n);
  });
  test('an instruction whose second half lies in the next page', () => {
    const m = new TestMachine();
    const at = CODE + PAGE - 3;
    m.code('mov eax, 0x11111111\nret', at);
    expect(m.run(`mov rbx, ${at}\ncall rbx\nmov byte [${CODE + PAGE + 1}], 0x22\ncall rbx\nsyscall`)).toBe(
      ExitReason.syscall,
    );
    expect(m.engine.state.rax).toBe(0x22111111n);
  });
  test('by the owner, through writeVirtual', () => {
    const m = new TestMachine();
    m.run('mov al, 1\nsyscall');
    expect(m.engine.writeVirtual(BigInt(CODE + 1), Uint8Array.of(7), false)).toBeUndefined();
    m.engine.state.rip = BigInt(CODE);
    m.run();
    expect(m.engine.state.rax & 0xffn).toBe(7n);
  });
  test('data beside code in the page neither slows nor breaks it for good', () => {
    const m = new TestMachine();
    const before = m.engine.counters.codeInvalidations;
    expect(m.run(`mov ecx, 100\nagain: mov [${CODE + 0x800}], ecx\ndec ecx\njnz again\nsyscall`)).toBe(
      ExitReason.syscall,
    );
    expect(m.engine.counters.codeInvalidations).toBe(before);
    expect(m.view.getUint32(CODE + 0x800, true)).toBe(1);
  });
});

describe('monitor mode leaves with every trap', () => {
  test.each([
    ['syscall', ExitReason.syscall, 2],
    ['int 0x82', ExitReason.softwareInterrupt, 0],
    ['int3', ExitReason.softwareInterrupt, 0],
  ] as const)('%s', (source, reason, advance) => {
    const m = new TestMachine();
    expect(m.run(source)).toBe(reason);
    expect(m.engine.state.rip).toBe(BigInt(CODE + advance));
  });
  test('CPUID and RDTSC ask the host', () => {
    const m = new TestMachine();
    m.run('mov eax, 7\nmov ecx, 1\ncpuid\nmov esi, ebx\nrdtsc\nsyscall');
    expect(m.engine.state.rsi).toBe(1n);
    expect(m.engine.state.rax).toBe(2n);
    expect(m.engine.state.rdx).toBe(1n);
  });
  test('TF traps after each instruction', () => {
    const m = new TestMachine();
    m.code('nop\nnop\nsyscall');
    m.engine.state.rflags = 0x302n;
    expect(m.run()).toBe(ExitReason.exception);
    expect(m.engine.exit.vector).toBe(1);
    expect(m.engine.state.rip).toBe(BigInt(CODE + 1));
    expect(m.engine.state.dr6 & 0x4000n).toBe(0x4000n);
  });
  test('POPF that sets TF traps after the instruction behind it', () => {
    const m = new TestMachine();
    m.code('pushfq\nor qword [rsp], 0x100\npopfq\nhere: nop\nnop\nsyscall');
    expect(m.run()).toBe(ExitReason.exception);
    expect(m.engine.exit.vector).toBe(1);
    expect(m.bytes[Number(m.engine.state.rip) - 1]).toBe(0x90);
    expect(m.bytes[Number(m.engine.state.rip)]).toBe(0x90);
  });
  test('a breakpoint on data traps after the access', () => {
    const m = new TestMachine();
    m.code(`mov rax, [${DATA + 8}]\nmov [${DATA}], rax\nnop\nsyscall`);
    m.engine.state.dr0 = BigInt(DATA);
    m.engine.state.dr7 = 0xd0401n;
    m.engine.stateChanged();
    expect(m.run()).toBe(ExitReason.exception);
    expect(m.engine.exit.vector).toBe(1);
    expect(m.engine.state.dr6 & 15n).toBe(1n);
    expect(m.bytes[Number(m.engine.state.rip)]).toBe(0x90);
  });
  test('alignment checks in ring 3', () => {
    const m = new TestMachine();
    m.engine.state.rflags = 0x40202n;
    m.engine.stateChanged();
    expect(m.run(`mov rax, [${DATA}]\nmov rax, [${DATA + 1}]\nsyscall`)).toBe(ExitReason.exception);
    expect(m.engine.exit.vector).toBe(17);
  });
  test('32-bit code runs beside 64-bit tables', () => {
    const m = new TestMachine();
    const { state } = m.engine;
    state.setSegment(SEG.cs, { selector: 0x1b, attributes: 0xc0fb, limit: 0xffff_ffff, base: 0n });
    m.engine.stateChanged();
    state.rsp = 0xffff_ffff_0030_0000n;
    // mov eax, [ebx - 0x10]; inc ecx; push eax; pop edx; jmp short +1; ud2; int 0x82
    m.view.setUint32(DATA, 0x12345678, true);
    state.rbx = BigInt(DATA + 0x10);
    m.raw([0x8b, 0x43, 0xf0, 0x41, 0x50, 0x5a, 0xeb, 0x02, 0x0f, 0x0b, 0xcd, 0x82]);
    expect(m.run()).toBe(ExitReason.softwareInterrupt);
    expect(m.engine.exit.vector).toBe(0x82);
    expect(state.rdx).toBe(0x12345678n);
    expect(state.rcx).toBe(1n);
    expect(state.rip).toBe(BigInt(CODE + 10));
  });
  test('a segment limit of 32-bit code', () => {
    const m = new TestMachine();
    const { state } = m.engine;
    state.setSegment(SEG.cs, { selector: 0x1b, attributes: 0xc0fb, limit: 0xffff_ffff, base: 0n });
    state.setSegment(SEG.ds, { selector: 0x23, attributes: 0x40f3, limit: 0xfff, base: BigInt(DATA) });
    m.engine.stateChanged();
    m.view.setUint32(DATA + 0xffc, 0x55, true);
    // mov eax, [0xffc]; mov eax, [0xffd]
    m.raw([0xa1, 0xfc, 0x0f, 0, 0, 0xa1, 0xfd, 0x0f, 0, 0]);
    expect(m.run()).toBe(ExitReason.exception);
    expect(m.engine.exit.vector).toBe(13);
    expect(state.rax).toBe(0x55n);
    expect(state.rip).toBe(BigInt(CODE + 5));
  });
});

describe('architectural mode', () => {
  const GDT = DATA;
  const IDT = DATA + PAGE;
  const TSS = DATA + 2 * PAGE;
  const HANDLER = CODE + 0x800;

  /** GDT: 8 kernel code, 16 kernel data, 24 user 32, 32 user data, 40 user code, 48 TSS. */
  function machine(cpl: 0 | 3): TestMachine {
    const m = new TestMachine('architectural');
    m.enterLongMode(cpl);
    const { state } = m.engine;
    const descriptors = [
      0n,
      0x00af9b000000ffffn,
      0x00cf93000000ffffn,
      0x00cffb000000ffffn,
      0x00cff3000000ffffn,
      0x00affb000000ffffn,
    ];
    descriptors.forEach((d, i) => {
      m.view.setBigUint64(GDT + 8 * i, d, true);
    });
    state.gdtrBase = BigInt(GDT);
    state.gdtrLimit = 0xff;
    state.idtrBase = BigInt(IDT);
    state.idtrLimit = 0xfff;
    state.setSegment(SEG.tr, { selector: 48, attributes: 0x8b, limit: 0x67, base: BigInt(TSS) });
    m.view.setBigUint64(TSS + 4, BigInt(STACK + PAGE), true);
    m.view.setBigUint64(TSS + 0x24, BigInt(STACK + 2 * PAGE), true);
    if (cpl === 3) {
      state.csSelector = 43;
      state.ssSelector = 35;
    }
    m.engine.stateChanged();
    return m;
  }
  function gate(m: TestMachine, vector: number, handler: number, options: { dpl?: number; ist?: number } = {}): void {
    const low =
      BigInt(handler & 0xffff) |
      (8n << 16n) |
      (BigInt(options.ist ?? 0) << 32n) |
      (BigInt(0x8e | ((options.dpl ?? 0) << 5)) << 40n) |
      (BigInt(handler >>> 16) << 48n);
    m.view.setBigUint64(IDT + 16 * vector, low, true);
  }

  test('a page fault reaches its handler, which returns behind the cause', () => {
    const m = machine(3);
    gate(m, 14, HANDLER);
    m.code('pop rbx\nmov rcx, cr2\nadd qword [rsp], 8\niretq', HANDLER);
    m.code(`mov rax, [${UNMAPPED}]\nmov edx, 5\nint 0x80`);
    gate(m, 0x80, HANDLER + 0x100, { dpl: 3 });
    m.code('hlt', HANDLER + 0x100);
    expect(m.run()).toBe(ExitReason.halt);
    expect(m.engine.state.rbx).toBe(4n);
    expect(m.engine.state.rcx).toBe(BigInt(UNMAPPED));
    expect(m.engine.state.rdx).toBe(5n);
    expect(m.engine.state.cpl).toBe(0);
    expect(m.engine.state.rsp).toBe(BigInt(STACK + PAGE - 40));
  });
  test('IST switches stacks', () => {
    const m = machine(0);
    gate(m, 6, HANDLER, { ist: 1 });
    m.code('hlt', HANDLER);
    expect(m.run('ud2')).toBe(ExitReason.halt);
    expect(m.engine.state.rsp).toBe(BigInt(STACK + 2 * PAGE - 40));
  });
  test('INT n asks the gate for its privilege', () => {
    const m = machine(3);
    gate(m, 13, HANDLER);
    gate(m, 0x80, HANDLER + 0x100);
    m.code('pop rbx\nhlt', HANDLER);
    expect(m.run('int 0x80')).toBe(ExitReason.halt);
    expect(m.engine.state.rbx).toBe(BigInt(0x80 * 8 + 2));
  });
  test('SYSCALL and SYSRET', () => {
    const m = machine(3);
    const { state } = m.engine;
    state.star = (0x1bn << 48n) | (8n << 32n);
    state.lstar = BigInt(HANDLER);
    state.sfmask = 0x200n;
    gate(m, 3, HANDLER + 0x100, { dpl: 3 });
    m.code('mov ebx, 7\ndb 0x48, 0x0f, 0x07', HANDLER);
    m.code('hlt', HANDLER + 0x100);
    m.code('syscall\nint3');
    expect(m.run()).toBe(ExitReason.halt);
    expect(state.rbx).toBe(7n);
    // The frame of INT3 shows where SYSRET had gone back to.
    expect(m.view.getBigUint64(STACK + PAGE - 40, true)).toBe(BigInt(CODE + 3));
    expect(m.view.getBigUint64(STACK + PAGE - 32, true)).toBe(43n);
  });
  test('no gates at all end in a triple fault', () => {
    const m = machine(3);
    m.engine.state.idtrLimit = 0;
    expect(m.run('ud2')).toBe(ExitReason.tripleFault);
  });
  test('an interrupt window opens after the shadow of STI', () => {
    const m = machine(0);
    m.engine.state.rflags = 2n;
    m.engine.state.interruptWindow = 1;
    expect(m.run('sti\nmov eax, 1\nmov ebx, 1\nhlt')).toBe(ExitReason.interruptWindow);
    expect(m.engine.state.rax).toBe(1n);
    expect(m.engine.state.rbx).toBe(0n);
  });
  test('SMAP lets the supervisor at user pages only with AC', () => {
    const m = machine(0);
    const { state } = m.engine;
    state.cr4 |= 1n << 21n;
    // The code, stack and tables are the supervisor's own then.
    for (const page of [CODE, STACK - PAGE, STACK, STACK + PAGE, GDT, IDT, TSS])
      m.map(page, page >> 12, PTE.present | PTE.write);
    m.engine.stateChanged();
    gate(m, 14, HANDLER);
    m.code('hlt', HANDLER);
    m.code(`mov rdi, ${STACK + 8 * PAGE}\nstac\nmov eax, [rdi]\nmov ebx, 1\nclac\nmov eax, [rdi]\nmov ebx, 2`);
    expect(m.run()).toBe(ExitReason.halt);
    expect(state.rbx).toBe(1n);
    expect(state.cr2).toBe(BigInt(STACK + 8 * PAGE));
  });
  test('port access leaves with RIP past it', () => {
    const m = machine(0);
    expect(m.run('mov dx, 0x3f8\nout dx, al\nhlt')).toBe(ExitReason.io);
    expect(m.engine.exit).toMatchObject({ port: 0x3f8, size: 1, isWrite: true });
    expect(m.run()).toBe(ExitReason.halt);
  });
});
