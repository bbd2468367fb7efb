/** The PV model on the real engine: one guest program that takes every kind of trap and logs what it saw. */
import { ATTR, CpuState, SEG, assemble, compileEngine, createEngine } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { FLAT_RING3_CS64 } from '@xenhost/xen-abi';
import { GuestMemory } from '../hypercall/guest-memory.ts';
import { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag, VcpuFlag } from '../state/records.ts';
import { domainRef, vcpuRef } from '../state/refs.ts';
import type { EventChannels } from '../event/api.ts';
import type { Pv } from './api.ts';
import { FlatSegment } from './constants.ts';
import { createPv } from './pv.ts';

/** Frames: records, tables, pages of the guest (identity-mapped, the first 2 MiB). */
const [DOMAIN, VCPU, INFO, L4, GDT] = [1, 2, 6, 7, 11];
const [CODE, LOG, KERNEL_STACK, USER_STACK] = [0x2_0000, 0x3_0000, 0x4_1000, 0x5_1000];
const MISSING = 0x7_0000;
const MAX_EXITS = 100;

const code = compileEngine();

function machine(source: string) {
  const memory = MachineMemory.allocate(4 << 20);
  const put = (frame: number, index: number, value: bigint): void => {
    memory.dv.setBigUint64(frame * 4096 + 8 * index, value, true);
  };
  for (let level = 0; level < 3; level++) put(L4 + level, 0, BigInt(L4 + level + 1) << 12n | 7n); // prettier-ignore
  for (let page = 16; page < 512; page++) if (page << 12 !== MISSING) put(L4 + 3, page, (BigInt(page) << 12n) | 7n);
  // A GDT of its own frame: user code at 0x10, user data at 0x18, Xen's at 0xe020 are known without a table.
  put(GDT, 2, 0x00affb000000ffffn);
  put(GDT, 3, 0x00cff3000000ffffn);
  put(L4 + 3, GDT, (BigInt(GDT) << 12n) | 3n);

  const domain = domainRef(memory, DOMAIN);
  const vcpu = vcpuRef(memory, VCPU);
  domain.v.flags = DomainFlag.pv;
  Object.assign(vcpu.v, {
    infoMfn: INFO,
    kernelMode: 1,
    guestTable: L4,
    guestTableUser: L4,
    kernelSp: BigInt(KERNEL_STACK),
  });
  const { bytes, symbols } = assemble(source, { origin: BigInt(CODE), symbols: { LOG, USER_STACK, MISSING } });
  memory.u8.set(bytes, CODE);
  const engine = createEngine(
    { trapMode: 'monitor', nrFrames: memory.nrFrames },
    {
      machineMemory: memory.memory,
      code,
      host: {
        cpuid: () => ({ eax: 1, ebx: 2, ecx: 3, edx: 4 }),
        readTsc: () => 5n,
        codeFrameAdded: () => undefined,
        codeFrameWritten: () => undefined,
        isCodeFrame: () => false,
      },
    },
  );
  const crashes: string[] = [];
  const guest = { ended: false };
  const pv: Pv = createPv({
    memory,
    mm: {
      fixPageFault: () => false,
      switchTables: (_v, e: Engine) => {
        e.state.cr3 = BigInt(L4) << 12n;
        e.stateChanged();
      },
      setGdt: () => 0,
      updateDescriptor: () => 0,
      setBaseTable: () => 0,
      loadBaseTable: () => 0,
      setLdt: () => 0,
      gdtBase: () => BigInt(GDT) << 12n,
      ldtBase: () => 0n,
    },
    events: { hasDeliverable: () => false } as unknown as EventChannels,
    domainOf: () => domain,
    vcpu: () => vcpu,
    dispatchHypercall: (_v, e) => {
      const number = Number(e.state.rax);
      const handler = number === 23 ? pv.hypercalls.iret : number === 30 ? pv.hypercalls.callback_op : undefined;
      if (!handler) {
        guest.ended = number === 29;
        e.state.rax = 0x1234n;
        return;
      }
      const args = [e.state.rdi, e.state.rsi];
      const kept = {
        domid: domain.domid,
        domain,
        vcpu,
        engine: e,
        memory: new GuestMemory(e, memory),
        shouldPreempt: () => false,
      };
      const result = handler({ kind: 'pv64', args, ...kept });
      if (result !== 'noResult') e.state.rax = BigInt(result);
    },
    crashDomain: (_d, _v, text) => {
      crashes.push(text);
      guest.ended = true;
    },
    cpuid: () => ({ eax: 0x77, ebx: 0, ecx: 0, edx: 0 }),
    readTsc: () => 5n,
    systemTimeNs: () => 0n,
    wallTimeNs: () => 0n,
    kick: () => undefined,
  });
  const state: CpuState = engine.state;
  state.reset();
  state.cr0 = 0x8005_0033n;
  state.cr4 = 0x6e0n;
  state.efer = 0xd01n;
  state.cpl = 3;
  state.gdtrLimit = 0xefff;
  state.setSegment(SEG.cs, FlatSegment.code64);
  state.setSegment(SEG.ss, FlatSegment.data);
  state.rsp = BigInt(KERNEL_STACK - 0x800);
  state.rip = BigInt(CODE);
  vcpu.v.flags |= VcpuFlag.initialised;
  const handlers = new Map([...symbols].filter(([name]) => name.startsWith('trap_')));
  for (const [name, address] of handlers) {
    const vector = Number(name.slice(5));
    const at = VCPU * 4096 + 4096 + vector * 16;
    memory.dv.setBigUint64(at, address, true);
    memory.dv.setUint16(at + 8, FLAT_RING3_CS64, true);
    memory.dv.setUint16(at + 10, 3, true);
  }
  expect(pv.switchedIn(vcpu, engine)).toBe('resume');
  for (let n = 0; n < MAX_EXITS && !guest.ended; n++) {
    engine.run(10_000);
    if (pv.handleExit(vcpu, engine, engine.exit) === 'stop') break;
  }
  const log: bigint[] = [];
  for (let at = LOG; at < Number(state.r15); at += 8) log.push(memory.dv.getBigUint64(at, true));
  return { log, crashes, state, vcpu };
}

/** Each handler logs a mark and the word it names, drops the frame to rip and returns by the iret hypercall. */
const handler = (vector: number, hasError: boolean, skip: number): string => `
trap_${vector}:
    pop rcx
    pop r11
    ${hasError ? `pop rax\n    call log_rax` : ''}
    mov eax, ${0x100 + vector}
    call log_rax
    mov rax, [rsp + 8]
    and eax, 0xffff
    call log_rax
    add qword [rsp], ${skip}
    jmp return
`;

const PROLOGUE = `
    mov r15, LOG
`;
const LIBRARY = `
log_rax:
    mov [r15], rax
    add r15, 8
    ret
; iret hypercall: the frame (rip cs rflags rsp ss) is on the stack
return:
    push 0
    push rcx
    push r11
    push rax
    mov eax, 23
    syscall
shutdown:
    mov eax, 29
    syscall
`;

test('traps of the kernel: rip on or after the instruction, error codes, return', () => {
  const { log, crashes } = machine(`${PROLOGUE}
    int3
    ud2
    db 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2
    call log_rax
    mov rax, [MISSING]
    int 0x40
    mov rcx, 0xc0000080
    rdmsr
    call log_rax
    mov eax, 29
    syscall
    ${handler(3, false, 0)}
    ${handler(6, false, 2)}
    ${handler(14, true, 8)}
    ${handler(0x40, false, 0)}
    ${LIBRARY}`);
  expect(crashes).toEqual([]);
  const cs = 0xe030n;
  expect(log).toEqual([0x103n, cs, 0x106n, cs, 0x77n, 0n, 0x10en, cs, 0x140n, cs, 0xd01n]);
});

test('to user mode and back: iret, syscall callback, int, GS bases', () => {
  const { log, crashes, vcpu, state } = machine(`${PROLOGUE}
    mov edi, 0
    lea rsi, [rel callback]
    mov eax, 30
    syscall
    call log_rax
    push 0x1b
    push USER_STACK
    push 0x202
    push 0x13
    lea rax, [rel user]
    push rax
    xor ecx, ecx
    jmp return
user:
    mov eax, 0x500
    call log_rax
    syscall
    mov eax, 0x501
    call log_rax
    int 0x40
callback: dw 2, 0
    dd 0
    dq on_syscall
on_syscall:
    pop rcx
    pop r11
    mov eax, 0x600
    call log_rax
    mov rax, [rsp + 8]
    call log_rax
    mov rax, [rsp + 24]
    call log_rax
    push 256
    push rcx
    push r11
    push rax
    mov eax, 23
    syscall
trap_64:
    mov eax, 0x700
    call log_rax
    jmp shutdown
    ${LIBRARY}`);
  expect(crashes).toEqual([]);
  expect(log).toEqual([0n, 0x500n, 0x600n, 0xe033n, BigInt(USER_STACK), 0x501n, 0x700n]);
  expect(vcpu.v.kernelMode).toBe(1);
  expect(state.segment(SEG.cs).attributes & ATTR.long).toBe(ATTR.long);
});
