/** Cases of segment registers, descriptor tables, far transfers, interrupts by instruction, fast system calls. Sections: Intel SDM. */
import type { SystemCase } from './system.ts';
import {
  ABSENT_CODE, ABSENT_DATA, ABSENT_STACK, BAD_LONG, BUSY_TSS, CALL_GATE32, CALL_GATE64, CONFORMING, CONFORMING32, ENTRY_STACK,
  EXECUTE_ONLY, FRESH_DATA, GDT, HANDLERS, IST_STACK, KCODE, KCODE32, KDATA, KERNEL_CODE, KERNEL_DATA, KERNEL_ENTRY, KERNEL_STACK,
  LDT_SELECTOR, LOCAL_DATA, OUTSIDE_GDT, READ_ONLY, SMALL_DATA, TSS32, TSS64, TSS_SELECTOR, UCODE, UCODE32, UDATA, UNMAPPED,
  USER_CODE, USER_DATA, USER_ENTRY, USER_STACK,
} from './system-world.ts'; // prettier-ignore

const UMIP = 0x1_0ea0n;
const BAD = 0x8000_0000_0000n;
const K_TOP = KERNEL_STACK - 0x100;
const U_TOP = USER_STACK - 0x100;
const handler = (vector: number): number => HANDLERS + 16 * vector;
const error = (selector: number): number => selector & 0xfffc;

const SREG = 'vol. 2 MOV, POP, LDS/LES/LFS/LGS/LSS';
const DS = 'mov ds, ax';
const SS = 'mov ss, ax';
const loads: readonly SystemCase[] = [
  { title: 'MOV DS', section: SREG, world: 'u64', code: DS, set: { rax: READ_ONLY }, want: { ds: READ_ONLY } },
  { title: 'MOV DS, NULL', section: SREG, world: 'u64', code: DS, set: { rax: 3 }, want: { ds: 3 } },
  { title: 'MOV DS, kernel data from ring 3', section: SREG, world: 'u64', code: DS, set: { rax: KDATA }, fault: [13, KDATA] },
  { title: 'MOV DS, RPL above DPL', section: SREG, world: 'k64', code: DS, set: { rax: KDATA | 3 }, fault: [13, KDATA] },
  { title: 'MOV DS, not present', section: SREG, world: 'u64', code: DS, set: { rax: ABSENT_DATA }, fault: [11, error(ABSENT_DATA)] },
  { title: 'MOV DS, outside the GDT', section: SREG, world: 'u64', code: DS, set: { rax: OUTSIDE_GDT | 3 }, fault: [13, OUTSIDE_GDT] },
  { title: 'MOV DS, outside the LDT', section: SREG, world: 'u64', code: DS, set: { rax: 0x27 }, fault: [13, 0x24] },
  { title: 'MOV DS, execute-only code', section: SREG, world: 'u64', code: DS, set: { rax: EXECUTE_ONLY }, fault: [13, error(EXECUTE_ONLY)] },
  { title: 'MOV DS, readable code', section: SREG, world: 'u64', code: DS, set: { rax: UCODE32 }, want: { ds: UCODE32 } },
  { title: 'MOV DS, conforming code of ring 0 from ring 3', section: SREG, world: 'u64', code: DS, set: { rax: CONFORMING32 | 3 }, want: { ds: CONFORMING32 | 3 } },
  { title: 'MOV DS, a TSS', section: SREG, world: 'k64', code: DS, set: { rax: TSS_SELECTOR }, fault: [13, TSS_SELECTOR] },
  { title: 'MOV DS, of the LDT', section: SREG, world: 'u64', code: DS, set: { rax: LOCAL_DATA }, want: { ds: LOCAL_DATA } },
  { title: 'MOV ES sets the accessed bit', section: 'vol. 3 3.4.5.1', world: 'k64', code: 'mov es, ax', set: { rax: FRESH_DATA }, want: { es: FRESH_DATA }, wantMemory: [[GDT + FRESH_DATA + 5, 1, 0x93]] },
  { title: 'MOV FS takes the base', section: SREG, world: 'u64', code: 'mov fs, ax', set: { rax: SMALL_DATA, fsBase: 0x1234 }, want: { fs: SMALL_DATA } },
  { title: 'MOV CS', section: SREG, world: 'k64', code: 'db 0x8e, 0xc8', fault: [6] },
  { title: 'MOV to segment register 6', section: SREG, world: 'k64', code: 'db 0x8e, 0xf0', fault: [6] },
  { title: 'MOV SS', section: SREG, world: 'u64', code: SS, set: { rax: UDATA }, want: { ss: UDATA } },
  { title: 'MOV SS, NULL in ring 0', section: SREG, world: 'k64', code: SS, set: { rax: 0 }, want: { ss: 0 } },
  { title: 'MOV SS, NULL in ring 3', section: SREG, world: 'u64', code: SS, set: { rax: 3 }, fault: [13, 0] },
  { title: 'MOV SS, NULL in 32-bit ring 0', section: SREG, world: 'k32', code: SS, set: { rax: 0 }, fault: [13, 0] },
  { title: 'MOV SS, RPL that is not CPL', section: SREG, world: 'k64', code: SS, set: { rax: UDATA }, fault: [13, error(UDATA)] },
  { title: 'MOV SS, DPL that is not CPL', section: SREG, world: 'u64', code: SS, set: { rax: KDATA | 3 }, fault: [13, KDATA] },
  { title: 'MOV SS, read-only', section: SREG, world: 'u64', code: SS, set: { rax: READ_ONLY }, fault: [13, error(READ_ONLY)] },
  { title: 'MOV SS, not present', section: SREG, world: 'k64', code: SS, set: { rax: ABSENT_STACK }, fault: [12, ABSENT_STACK] },
  { title: 'MOV SS, code', section: SREG, world: 'k64', code: SS, set: { rax: KCODE }, fault: [13, KCODE] },
  { title: 'MOV from DS', section: SREG, world: 'u64', code: 'db 0x8c, 0xd8', want: { rax: UDATA } },
  { title: 'POP FS', section: SREG, world: 'u64', code: 'db 0x0f, 0xa1', memory: [[U_TOP, 8, UDATA]], set: { fs: 0 }, want: { fs: UDATA, rsp: U_TOP + 8 } },
  { title: 'POP FS that faults keeps RSP', section: SREG, world: 'u64', code: 'db 0x0f, 0xa1', memory: [[U_TOP, 8, ABSENT_DATA]], fault: [11, error(ABSENT_DATA)] },
  { title: 'POP DS in 32-bit mode', section: SREG, world: 'u32', code: 'db 0x1f', memory: [[U_TOP, 4, READ_ONLY]], want: { ds: READ_ONLY, rsp: U_TOP + 4 } },
  { title: 'POP DS in 64-bit mode', section: SREG, world: 'u64', code: 'db 0x1f', fault: [6] },
  { title: 'PUSH ES in 32-bit mode', section: 'vol. 2 PUSH', world: 'u32', code: 'db 0x06', want: { rsp: U_TOP - 4 }, wantMemory: [[U_TOP - 4, 2, UDATA]] },
  { title: 'LDS', section: SREG, world: 'u32', code: `db 0xc5, 0x05\ndd ${USER_DATA}`, memory: [[USER_DATA, 4, 0x1234_5678], [USER_DATA + 4, 2, READ_ONLY]], want: { rax: 0x1234_5678, ds: READ_ONLY } },
  { title: 'LES of a segment that is not present', section: SREG, world: 'u32', code: `db 0xc4, 0x05\ndd ${USER_DATA}`, memory: [[USER_DATA + 4, 2, ABSENT_DATA]], fault: [11, error(ABSENT_DATA)] },
  { title: 'LSS', section: SREG, world: 'k64', code: 'db 0x0f, 0xb2, 0x03', set: { rbx: KERNEL_DATA }, memory: [[KERNEL_DATA, 4, 0x3_0800], [KERNEL_DATA + 4, 2, KDATA]], want: { rax: 0x3_0800, ss: KDATA } },
  { title: 'read through a NULL segment', section: 'vol. 3 5.4.1', world: 'u32', code: `db 0xa1\ndd ${USER_DATA}`, set: { ds: 0 }, fault: [13, 0] },
  { title: 'read inside a limit', section: 'vol. 3 5.3', world: 'u32', code: 'db 0xa1, 0xfc, 0, 0, 0', set: { ds: SMALL_DATA }, memory: [[USER_DATA + 0xfc, 4, 0x55]], want: { rax: 0x55 } },
  { title: 'read across a limit', section: 'vol. 3 5.3', world: 'u32', code: 'db 0xa1, 0xfd, 0, 0, 0', set: { ds: SMALL_DATA }, fault: [13, 0] },
  { title: 'push across the limit of the stack', section: 'vol. 3 5.3', world: 'u32', code: 'db 0x50', set: { ss: SMALL_DATA, rsp: 0x200 }, fault: [12, 0] },
  { title: 'write to a read-only segment', section: 'vol. 3 5.5', world: 'u32', code: `db 0xa3\ndd ${USER_DATA}`, set: { ds: READ_ONLY }, fault: [13, 0] },
  { title: 'a limit counts for nothing in 64-bit mode', section: 'vol. 3 5.3.1', world: 'u64', code: `mov rbx, [${USER_DATA}]`, set: { ds: SMALL_DATA }, memory: [[USER_DATA, 8, 0x77]], want: { rbx: 0x77 } },
]; // prettier-ignore

const LAR = 'vol. 2 LAR, LSL, VERR, VERW';
const lar = 'db 0x0f, 0x02, 0xd8';
const lsl = 'db 0x0f, 0x03, 0xd8';
const verr = 'db 0x0f, 0x00, 0xe0';
const verw = 'db 0x0f, 0x00, 0xe8';
const FOUND = 0x242;
const inspections: readonly SystemCase[] = [
  { title: 'LAR', section: LAR, world: 'u64', code: lar, set: { rax: UDATA }, want: { rbx: 0xcff300, rflags: FOUND } },
  { title: 'LAR of kernel data from ring 3', section: LAR, world: 'u64', code: lar, set: { rax: KDATA, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'LAR of NULL', section: LAR, world: 'u64', code: lar, set: { rax: 0, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'LAR of a segment that is not present', section: LAR, world: 'u64', code: lar, set: { rax: ABSENT_DATA }, want: { rbx: 0xcf7300, rflags: FOUND } },
  { title: 'LAR of a call gate', section: LAR, world: 'u64', code: lar, set: { rax: CALL_GATE64 }, want: { rbx: 0x2_ec00, rflags: FOUND } },
  { title: 'LAR of conforming code of ring 0', section: LAR, world: 'u64', code: lar, set: { rax: CONFORMING | 3 }, want: { rbx: 0xaf9f00, rflags: FOUND } },
  { title: 'LAR outside the GDT', section: LAR, world: 'k64', code: lar, set: { rax: OUTSIDE_GDT, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'LSL with granularity', section: LAR, world: 'u64', code: lsl, set: { rax: UDATA }, want: { rbx: 0xffff_ffffn, rflags: FOUND } },
  { title: 'LSL in bytes', section: LAR, world: 'u64', code: lsl, set: { rax: SMALL_DATA }, want: { rbx: 0xff, rflags: FOUND } },
  { title: 'LSL of a TSS', section: LAR, world: 'k64', code: lsl, set: { rax: TSS_SELECTOR }, want: { rbx: 0xfff, rflags: FOUND } },
  { title: 'LSL of a call gate', section: LAR, world: 'u64', code: lsl, set: { rax: CALL_GATE64, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'VERR of data', section: LAR, world: 'u64', code: verr, set: { rax: READ_ONLY }, want: { rflags: FOUND } },
  { title: 'VERR of execute-only code', section: LAR, world: 'u64', code: verr, set: { rax: EXECUTE_ONLY, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'VERR of a TSS', section: LAR, world: 'k64', code: verr, set: { rax: TSS_SELECTOR, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'VERW of writable data', section: LAR, world: 'u64', code: verw, set: { rax: UDATA }, want: { rflags: FOUND } },
  { title: 'VERW of read-only data', section: LAR, world: 'u64', code: verw, set: { rax: READ_ONLY, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'VERW of code', section: LAR, world: 'k64', code: verw, set: { rax: KCODE, rflags: FOUND }, want: { rflags: 0x202 } },
  { title: 'ARPL raises RPL', section: 'vol. 2 ARPL', world: 'u32', code: 'db 0x63, 0xd8', set: { rax: 0x10, rbx: 3 }, want: { rax: 0x13, rflags: FOUND } },
]; // prettier-ignore

const TABLES = 'vol. 2 LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR';
const at = `mov rdi, ${KERNEL_DATA}`;
const RDI = { rdi: KERNEL_DATA };
const tables: readonly SystemCase[] = [
  { title: 'LGDT', section: TABLES, world: 'k64', code: `${at}\ndb 0x0f, 0x01, 0x17`, memory: [[KERNEL_DATA, 2, 0x1234], [KERNEL_DATA + 2, 8, 0xffff_8000_0000_1000n]], want: { ...RDI, gdtrLimit: 0x1234, gdtrBase: 0xffff_8000_0000_1000n } },
  { title: 'LGDT with a base that is not canonical', section: TABLES, world: 'k64', code: 'db 0x0f, 0x01, 0x17', set: RDI, memory: [[KERNEL_DATA + 2, 8, BAD]], fault: [13, 0] },
  { title: 'LGDT in ring 3', section: TABLES, world: 'u64', code: 'db 0x0f, 0x01, 0x17', fault: [13, 0] },
  { title: 'LIDT of 16-bit operand size in 32-bit mode', section: TABLES, world: 'k32', code: 'db 0x66, 0x0f, 0x01, 0x1f', set: RDI, memory: [[KERNEL_DATA, 2, 0x7ff], [KERNEL_DATA + 2, 4, 0x8123_4567n]], want: { idtrLimit: 0x7ff, idtrBase: 0x23_4567 } },
  { title: 'LIDT of a page that is not there', section: TABLES, world: 'k64', code: 'db 0x0f, 0x01, 0x1f', set: { rdi: UNMAPPED }, fault: [14, 0], want: { cr2: UNMAPPED } },
  { title: 'LIDT of a register', section: TABLES, world: 'k64', code: 'db 0x0f, 0x01, 0xdf', fault: [6] },
  { title: 'SGDT', section: TABLES, world: 'k64', code: 'db 0x0f, 0x01, 0x07', set: RDI, wantMemory: [[KERNEL_DATA, 2, 0xff], [KERNEL_DATA + 2, 8, GDT]] },
  { title: 'SIDT in ring 3', section: TABLES, world: 'u64', code: 'db 0x0f, 0x01, 0x0f', set: { rdi: USER_DATA }, wantMemory: [[USER_DATA, 2, 0x8ff]] },
  { title: 'SIDT in ring 3 under UMIP', section: TABLES, world: 'u64', code: 'db 0x0f, 0x01, 0x0f', set: { rdi: USER_DATA, cr4: UMIP }, fault: [13, 0] },
  { title: 'SGDT in 32-bit mode', section: TABLES, world: 'k32', code: 'db 0x0f, 0x01, 0x07', set: RDI, memory: [[KERNEL_DATA, 8, -1n]], wantMemory: [[KERNEL_DATA, 2, 0xff], [KERNEL_DATA + 2, 6, 0xffff_0000_0000n | BigInt(GDT)]] },
  { title: 'LLDT', section: TABLES, world: 'k64', code: 'lldt ax', set: { rax: LDT_SELECTOR, ldtr: 0 }, want: { ldtr: LDT_SELECTOR } },
  { title: 'LLDT of NULL', section: TABLES, world: 'k64', code: 'lldt ax', set: { rax: 0 }, want: { ldtr: 0 } },
  { title: 'LLDT of data', section: TABLES, world: 'k64', code: 'lldt ax', set: { rax: KDATA }, fault: [13, KDATA] },
  { title: 'LLDT of a selector of the LDT', section: TABLES, world: 'k64', code: 'lldt ax', set: { rax: LOCAL_DATA & ~3 }, fault: [13, error(LOCAL_DATA)] },
  { title: 'LLDT of a descriptor that is not present', section: TABLES, world: 'k64', code: 'lldt ax', set: { rax: LDT_SELECTOR }, memory: [[GDT + LDT_SELECTOR + 5, 1, 0x02]], fault: [11, LDT_SELECTOR] },
  { title: 'LLDT in ring 3', section: TABLES, world: 'u64', code: 'lldt ax', fault: [13, 0] },
  { title: 'LTR makes the TSS busy', section: TABLES, world: 'k64', code: 'ltr ax', set: { rax: TSS_SELECTOR, tr: 0 }, want: { tr: BUSY_TSS, trSelector: TSS_SELECTOR }, wantMemory: [[GDT + TSS_SELECTOR + 5, 1, 0x8b]] },
  { title: 'LTR of a busy TSS', section: TABLES, world: 'k64', code: 'ltr ax', set: { rax: BUSY_TSS }, fault: [13, BUSY_TSS] },
  { title: 'LTR of NULL', section: TABLES, world: 'k64', code: 'ltr ax', set: { rax: 0 }, fault: [13, 0] },
  { title: 'LTR of a base that is not canonical', section: TABLES, world: 'k64', code: 'ltr ax', set: { rax: TSS_SELECTOR }, memory: [[GDT + TSS_SELECTOR + 8, 4, 0x8000]], fault: [13, TSS_SELECTOR] },
  { title: 'SLDT', section: TABLES, world: 'k64', code: 'sldt eax', want: { rax: LDT_SELECTOR } },
  { title: 'STR in ring 3', section: TABLES, world: 'u64', code: 'str eax', want: { rax: TSS_SELECTOR } },
  { title: 'STR in ring 3 under UMIP', section: TABLES, world: 'u64', code: 'str eax', set: { cr4: UMIP }, fault: [13, 0] },
  { title: 'SLDT to memory writes 16 bits', section: TABLES, world: 'k64', code: 'db 0x48, 0x0f, 0x00, 0x07', set: RDI, memory: [[KERNEL_DATA, 8, -1n]], wantMemory: [[KERNEL_DATA, 8, 0xffff_ffff_ffff_0000n | BigInt(LDT_SELECTOR)]] },
]; // prettier-ignore

const FAR = 'vol. 2 CALL, JMP, RET';
/** JMP and CALL through m16:32 at [rdi]. */
const jmpFar = 'db 0xff, 0x2f';
const callFar = 'db 0xff, 0x1f';
const K = { rdi: KERNEL_DATA };
const U = { rdi: USER_DATA };
const target = (where: number, selector: number, offset: number | bigint) => [[where, 4, offset], [where + 4, 2, selector]] as const; // prettier-ignore
const far: readonly SystemCase[] = [
  { title: 'far JMP to 32-bit code of the same ring', section: FAR, world: 'u64', code: jmpFar, set: U, memory: target(USER_DATA, UCODE32, USER_ENTRY), want: { cs: UCODE32, rip: USER_ENTRY } },
  { title: 'far JMP from 32-bit to 64-bit code', section: FAR, world: 'c32', code: jmpFar, set: U, memory: target(USER_DATA, UCODE, USER_ENTRY), want: { cs: UCODE, rip: USER_ENTRY } },
  { title: 'far JMP to kernel code from ring 3', section: FAR, world: 'u64', code: jmpFar, set: U, memory: target(USER_DATA, KCODE, USER_ENTRY), fault: [13, KCODE] },
  { title: 'far JMP to conforming code of ring 0 keeps CPL', section: FAR, world: 'u64', code: jmpFar, set: U, memory: target(USER_DATA, CONFORMING, USER_ENTRY), want: { cs: CONFORMING | 3, rip: USER_ENTRY } },
  { title: 'far JMP to NULL', section: FAR, world: 'k64', code: jmpFar, set: K, memory: target(KERNEL_DATA, 0, KERNEL_ENTRY), fault: [13, 0] },
  { title: 'far JMP to data', section: FAR, world: 'k64', code: jmpFar, set: K, memory: target(KERNEL_DATA, KDATA, KERNEL_ENTRY), fault: [13, KDATA] },
  { title: 'far JMP to code that is not present', section: FAR, world: 'k64', code: jmpFar, set: K, memory: target(KERNEL_DATA, ABSENT_CODE, KERNEL_ENTRY), fault: [11, ABSENT_CODE] },
  { title: 'far JMP to code with D and L', section: FAR, world: 'k64', code: jmpFar, set: K, memory: target(KERNEL_DATA, BAD_LONG, KERNEL_ENTRY), fault: [13, BAD_LONG] },
  { title: 'far JMP of an immediate in 64-bit mode', section: FAR, world: 'k64', code: 'db 0xea, 0, 0, 0, 0, 8, 0', fault: [6] },
  { title: 'far JMP of an immediate', section: FAR, world: 'k32', code: `db 0xea\ndd ${KERNEL_ENTRY}\ndw ${CONFORMING32}`, want: { cs: CONFORMING32, rip: KERNEL_ENTRY } },
  { title: 'far CALL of an immediate', section: FAR, world: 'u32', code: `db 0x9a\ndd ${USER_ENTRY}\ndw ${UCODE32}`, want: { rip: USER_ENTRY, rsp: U_TOP - 8 }, wantMemory: [[U_TOP - 8, 4, USER_CODE + 7], [U_TOP - 4, 2, UCODE32]] },
  { title: 'far CALL', section: FAR, world: 'k64', code: callFar, set: K, memory: target(KERNEL_DATA, KCODE, KERNEL_ENTRY), want: { rip: KERNEL_ENTRY, rsp: K_TOP - 8 }, wantMemory: [[K_TOP - 8, 4, KERNEL_CODE + 2], [K_TOP - 4, 4, KCODE]] },
  { title: 'far CALL through a gate to ring 0', section: 'vol. 3 5.8.5.1', world: 'u64', code: callFar, set: U, memory: target(USER_DATA, CALL_GATE64, 0), want: { cs: KCODE, ss: 0, cpl: 0, rip: KERNEL_ENTRY, rsp: ENTRY_STACK - 32 }, wantMemory: [[ENTRY_STACK - 32, 8, USER_CODE + 2], [ENTRY_STACK - 24, 8, UCODE], [ENTRY_STACK - 16, 8, U_TOP], [ENTRY_STACK - 8, 8, UDATA]] },
  { title: 'far CALL through a gate of 32 bits to ring 0', section: 'vol. 3 5.8.5', world: 'u32', code: callFar, set: U, memory: target(USER_DATA, CALL_GATE32, 0), want: { cs: KCODE32, ss: KDATA, cpl: 0, rip: KERNEL_ENTRY, rsp: ENTRY_STACK - 16 }, wantMemory: [[ENTRY_STACK - 16, 4, USER_CODE + 2], [ENTRY_STACK - 12, 4, UCODE32], [ENTRY_STACK - 8, 4, U_TOP], [ENTRY_STACK - 4, 4, UDATA]] },
  { title: 'far CALL through a gate whose stack is not there', section: 'vol. 3 5.8.5', world: 'u64', code: callFar, set: U, memory: [...target(USER_DATA, CALL_GATE64, 0), [TSS64 + 4, 8, UNMAPPED + 0x800]], exit: 'tripleFault', want: { cr2: UNMAPPED + 0x7f8, rip: USER_CODE } },
  { title: 'far CALL through a gate whose stack has no room', section: 'vol. 3 5.8.5', world: 'u32', code: callFar, set: U, memory: [...target(USER_DATA, CALL_GATE32, 0), [TSS32 + 8, 4, FRESH_DATA], [GDT + FRESH_DATA, 8, 0x0040_9300_0000_00ffn]], exit: 'tripleFault', want: { rip: USER_CODE } },
  { title: 'far CALL through a gate whose stack is of ring 3', section: 'vol. 3 5.8.5', world: 'u32', code: callFar, set: U, memory: [...target(USER_DATA, CALL_GATE32, 0), [TSS32 + 8, 4, UDATA]], exit: 'tripleFault', want: { rip: USER_CODE } },
  { title: 'far JMP through a gate to an inner ring', section: FAR, world: 'u64', code: jmpFar, set: U, memory: target(USER_DATA, CALL_GATE64, 0), fault: [13, KCODE] },
  { title: 'far CALL through a gate that is not present', section: FAR, world: 'u64', code: callFar, set: U, memory: [...target(USER_DATA, CALL_GATE64, 0), [GDT + error(CALL_GATE64) + 5, 1, 0x6c]], fault: [11, error(CALL_GATE64)] },
  { title: 'far CALL through a gate of DPL 0', section: FAR, world: 'u64', code: callFar, set: U, memory: [...target(USER_DATA, CALL_GATE64, 0), [GDT + error(CALL_GATE64) + 5, 1, 0x8c]], fault: [13, error(CALL_GATE64)] },
  { title: 'far RET to the same ring', section: FAR, world: 'k64', code: 'retfq', memory: [[K_TOP, 8, KERNEL_ENTRY], [K_TOP + 8, 8, KCODE]], want: { rip: KERNEL_ENTRY, rsp: K_TOP + 16 } },
  { title: 'far RET to ring 3', section: FAR, world: 'k64', code: 'retfq', memory: [[K_TOP, 8, USER_ENTRY], [K_TOP + 8, 8, UCODE], [K_TOP + 16, 8, U_TOP], [K_TOP + 24, 8, UDATA]], want: { cs: UCODE, ss: UDATA, cpl: 3, rip: USER_ENTRY, rsp: U_TOP, ds: 0, es: 0, fs: 0, gs: 0 } },
  { title: 'far RET that releases', section: FAR, world: 'u32', code: 'db 0xca, 8, 0', memory: [[U_TOP, 4, USER_ENTRY], [U_TOP + 4, 4, UCODE32]], want: { rip: USER_ENTRY, rsp: U_TOP + 16 } },
  { title: 'far RET to an inner ring', section: FAR, world: 'u64', code: 'retfq', memory: [[U_TOP, 8, KERNEL_ENTRY], [U_TOP + 8, 8, KCODE]], fault: [13, KCODE] },
  { title: 'far RET to an address that is not canonical', section: FAR, world: 'k64', code: 'retfq', memory: [[K_TOP, 8, BAD], [K_TOP + 8, 8, KCODE]], fault: [13, 0] },
]; // prettier-ignore

const INT = 'vol. 2 INT n; vol. 3 6.12';
const frame64 = (top: number, words: readonly (number | bigint)[]): (readonly [number, number, number | bigint])[] => words.map((word, n) => [top - 8 * (words.length - n), 8, word]); // prettier-ignore
const entered = { cs: KCODE, ss: 0, cpl: 0, rflags: 2, rsp: ENTRY_STACK - 40 } as const;
const interrupts: readonly SystemCase[] = [
  { title: 'INT through an interrupt gate from ring 3', section: INT, world: 'u64', code: 'int 0x80', want: { ...entered, rip: handler(0x80) }, wantMemory: frame64(ENTRY_STACK, [USER_CODE + 2, UCODE, 0x202, U_TOP, UDATA]) },
  { title: 'INT through a trap gate keeps IF', section: INT, world: 'u64', code: 'int 0x81', want: { ...entered, rflags: 0x202, rip: handler(0x81) } },
  { title: 'INT clears TF and NT, the frame has them', section: INT, world: 'u64', code: 'int 0x81', set: { rflags: 0x4202 }, want: { ...entered, rflags: 0x202, rip: handler(0x81) }, wantMemory: [[ENTRY_STACK - 24, 8, 0x4202]] },
  { title: 'INT through a gate of DPL 0 from ring 3', section: INT, world: 'u64', code: 'int 0x82', fault: [13, 0x82 * 8 + 2] },
  { title: 'INT through a gate of DPL 0 from ring 0', section: INT, world: 'k64', code: 'int 0x82', want: { rflags: 2, rip: handler(0x82), rsp: K_TOP - 40 }, wantMemory: frame64(K_TOP, [KERNEL_CODE + 2, KCODE, 0x202, K_TOP, KDATA]) },
  { title: 'INT aligns the stack', section: 'vol. 3 6.14.2', world: 'k64', code: 'int 0x82', set: { rsp: K_TOP - 3 }, want: { rflags: 2, rip: handler(0x82), rsp: K_TOP - 16 - 40 }, wantMemory: [[K_TOP - 16 - 16, 8, K_TOP - 3]] },
  { title: 'INT through a gate that is not present', section: INT, world: 'u64', code: 'int 0x83', fault: [11, 0x83 * 8 + 2] },
  { title: 'INT through IST 1 from ring 3', section: 'vol. 3 6.14.5', world: 'u64', code: 'int 0x84', want: { ...entered, rip: handler(0x84), rsp: IST_STACK - 40 } },
  { title: 'INT through IST 1 from ring 0', section: 'vol. 3 6.14.5', world: 'k64', code: 'int 0x84', want: { rflags: 2, rip: handler(0x84), rsp: IST_STACK - 40 }, wantMemory: frame64(IST_STACK, [KERNEL_CODE + 2, KCODE, 0x202, K_TOP, KDATA]) },
  { title: 'INT to code of ring 3', section: INT, world: 'k64', code: 'int 0x85', fault: [13, error(UCODE)] },
  { title: 'INT through a gate with NULL', section: INT, world: 'u64', code: 'int 0x86', fault: [13, 0] },
  { title: 'INT through what is no gate', section: INT, world: 'u64', code: 'int 0x87', fault: [13, 0x87 * 8 + 2] },
  { title: 'INT to code that is not present', section: INT, world: 'u64', code: 'int 0x88', fault: [11, ABSENT_CODE] },
  { title: 'INT to code outside the GDT', section: INT, world: 'u64', code: 'int 0x89', fault: [13, OUTSIDE_GDT] },
  { title: 'INT to data', section: INT, world: 'u64', code: 'int 0x8a', fault: [13, KDATA] },
  { title: 'INT beyond the IDT', section: INT, world: 'u64', code: 'int 0xff', fault: [13, 0xff * 8 + 2] },
  { title: 'INT to a stack pointer that is not canonical', section: INT, world: 'u64', code: 'int 0x80', memory: [[TSS64 + 4, 8, BAD]], exit: 'tripleFault', want: { rip: USER_CODE } },
  { title: 'INT with a TSS too short', section: INT, world: 'u64', code: 'int 0x80', set: { trLimit: 8 }, exit: 'tripleFault', want: { rip: USER_CODE } },
  { title: 'INT3', section: INT, world: 'u64', code: 'int3', want: { ...entered, rip: handler(3) }, wantMemory: frame64(ENTRY_STACK, [USER_CODE + 1, UCODE, 0x202, U_TOP, UDATA]) },
  { title: 'INT1 asks no DPL', section: INT, world: 'u64', code: 'db 0xf1', want: { ...entered, rip: handler(1) }, wantMemory: [[ENTRY_STACK - 40, 8, USER_CODE + 1]] },
  { title: 'INTO in 64-bit mode', section: INT, world: 'u64', code: 'db 0xce', fault: [6] },
  { title: 'INTO without overflow', section: INT, world: 'u32', code: 'db 0xce' },
  { title: 'INTO with overflow', section: INT, world: 'u32', code: 'db 0xce', set: { rflags: 0xa02 }, want: { cs: KCODE32, ss: KDATA, cpl: 0, rflags: 0x802, rip: handler(4), rsp: ENTRY_STACK - 20 }, wantMemory: [[ENTRY_STACK - 20, 4, USER_CODE + 1], [ENTRY_STACK - 16, 4, UCODE32], [ENTRY_STACK - 12, 4, 0xa02], [ENTRY_STACK - 8, 4, U_TOP], [ENTRY_STACK - 4, 4, UDATA]] },
  { title: 'INT in 32-bit mode of ring 0 keeps the stack', section: INT, world: 'k32', code: 'int 0x80', want: { rflags: 2, rip: handler(0x80), rsp: K_TOP - 12 }, wantMemory: [[K_TOP - 12, 4, KERNEL_CODE + 2], [K_TOP - 8, 4, KCODE32], [K_TOP - 4, 4, 0x202]] },
  { title: 'INT from ring 3 with a stack of ring 3 in the TSS', section: INT, world: 'u32', code: 'int 0x80', memory: [[TSS32 + 8, 4, UDATA]], exit: 'tripleFault', want: { rip: USER_CODE } },
  { title: 'INT from compatibility mode', section: INT, world: 'c32', code: 'int 0x80', want: { ...entered, rip: handler(0x80) }, wantMemory: frame64(ENTRY_STACK, [USER_CODE + 2, UCODE32, 0x202, U_TOP, UDATA]) },
  { title: 'INT of a PV guest', section: INT, world: 'u64', code: 'int 0x80', trapMode: 'monitor', exit: 'softwareInterrupt', details: { vector: 0x80 }, want: { rip: USER_CODE } },
]; // prettier-ignore

const IRET = 'vol. 2 IRET';
const up = (top: number, words: readonly (number | bigint)[], size = 8): (readonly [number, number, number | bigint])[] => words.map((word, n) => [top + size * n, size, word]); // prettier-ignore
const DROPPED = { ds: 0, es: 0, fs: 0, gs: 0 } as const;
const returns: readonly SystemCase[] = [
  { title: 'IRET to the same ring', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, KCODE, 0x246, K_TOP + 0x40, KDATA]), want: { rip: KERNEL_ENTRY, rflags: 0x246, rsp: K_TOP + 0x40 } },
  { title: 'IRET to ring 3', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [USER_ENTRY, UCODE, 0x3246, U_TOP, UDATA]), want: { cs: UCODE, ss: UDATA, cpl: 3, rip: USER_ENTRY, rflags: 0x3246, rsp: U_TOP, ...DROPPED } },
  { title: 'IRET to ring 3 keeps segments of ring 3', section: IRET, world: 'k64', code: 'iretq', set: { ds: UDATA, es: UDATA, fs: UDATA, gs: UDATA }, memory: up(K_TOP, [USER_ENTRY, UCODE, 0x202, U_TOP, UDATA]), want: { cs: UCODE, ss: UDATA, cpl: 3, rip: USER_ENTRY, rsp: U_TOP } },
  { title: 'IRET to 32-bit code of ring 3', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [USER_ENTRY, UCODE32, 0x202, U_TOP, UDATA]), want: { cs: UCODE32, ss: UDATA, cpl: 3, rip: USER_ENTRY, rsp: U_TOP, ...DROPPED } },
  { title: 'IRET sets RF', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, KCODE, 0x1_0202, K_TOP, KDATA]), want: { rip: KERNEL_ENTRY, rflags: 0x1_0202, rsp: K_TOP } },
  { title: 'IRET in ring 0 takes VIF and VIP', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, KCODE, 0x18_0202, K_TOP, KDATA]), want: { rip: KERNEL_ENTRY, rflags: 0x18_0202, rsp: K_TOP } },
  { title: 'IRET in ring 3 keeps IF and IOPL', section: IRET, world: 'u64', code: 'iretq', memory: up(U_TOP, [USER_ENTRY, UCODE, 0x3002, U_TOP, UDATA]), want: { rip: USER_ENTRY, rflags: 0x202 } },
  { title: 'IRET with NT in long mode', section: IRET, world: 'k64', code: 'iretq', set: { rflags: 0x4202 }, memory: up(K_TOP, [KERNEL_ENTRY, KCODE, 0x202, K_TOP, KDATA]), fault: [13, 0] },
  { title: 'IRET to NULL', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, 0, 0x202, K_TOP, KDATA]), fault: [13, 0] },
  { title: 'IRET to data', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, KDATA, 0x202, K_TOP, KDATA]), fault: [13, KDATA] },
  { title: 'IRET to an inner ring', section: IRET, world: 'u64', code: 'iretq', memory: up(U_TOP, [KERNEL_ENTRY, KCODE, 0x202, K_TOP, KDATA]), fault: [13, KCODE] },
  { title: 'IRET to code that is not present', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, ABSENT_CODE, 0x202, K_TOP, KDATA]), fault: [11, ABSENT_CODE] },
  { title: 'IRET with a stack of another ring', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [USER_ENTRY, UCODE, 0x202, U_TOP, KDATA | 3]), fault: [13, KDATA] },
  { title: 'IRET to ring 3 with a NULL stack', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [USER_ENTRY, UCODE, 0x202, U_TOP, 0]), fault: [13, 0] },
  { title: 'IRET to ring 0 with a NULL stack', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, KCODE, 0x202, K_TOP, 0]), want: { rip: KERNEL_ENTRY, rsp: K_TOP, ss: 0 } },
  { title: 'IRET with a stack that is not present', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [KERNEL_ENTRY, KCODE, 0x202, K_TOP, ABSENT_STACK]), fault: [12, ABSENT_STACK] },
  { title: 'IRET to an address that is not canonical', section: IRET, world: 'k64', code: 'iretq', memory: up(K_TOP, [BAD, KCODE, 0x202, K_TOP, KDATA]), fault: [13, 0] },
  { title: 'IRET in 32-bit mode', section: IRET, world: 'k32', code: 'db 0xcf', memory: up(K_TOP, [KERNEL_ENTRY, KCODE32, 0x246], 4), want: { rip: KERNEL_ENTRY, rflags: 0x246, rsp: K_TOP + 12 } },
  { title: 'IRET in 32-bit mode to ring 3', section: IRET, world: 'k32', code: 'db 0xcf', memory: up(K_TOP, [USER_ENTRY, UCODE32, 0x202, U_TOP, UDATA], 4), want: { cs: UCODE32, ss: UDATA, cpl: 3, rip: USER_ENTRY, rsp: U_TOP, ...DROPPED } },
  { title: 'IRET in 32-bit mode beyond the limit of code', section: IRET, world: 'k32', code: 'db 0xcf', memory: [...up(K_TOP, [0x200, CONFORMING32, 0x202], 4), [GDT + CONFORMING32, 8, 0x0040_9f00_0000_00ffn]], fault: [13, 0] },
]; // prettier-ignore

const FAST = 'vol. 2 SYSCALL, SYSRET, SYSENTER, SYSEXIT; AMD vol. 3';
const sysretq = 'sysretq';
const sysretd = 'db 0x0f, 0x07';
const fast: readonly SystemCase[] = [
  { title: 'SYSCALL', section: FAST, world: 'u64', code: 'syscall', set: { rflags: 0x4_0ad7 }, want: { cs: KCODE, ss: KDATA, cpl: 0, rip: KERNEL_ENTRY, rcx: USER_CODE + 2, r11: 0x4_0ad7, rflags: 0x8d7 & ~0x7700 } },
  { title: 'SYSCALL from compatibility mode goes to CSTAR', section: 'AMD vol. 3 SYSCALL', world: 'c32', code: 'syscall', memory: [[KERNEL_ENTRY + 0x10, 4, 0xc1010f]], want: { cs: KCODE, ss: KDATA, cpl: 0, rip: KERNEL_ENTRY + 0x10, rcx: USER_CODE + 2, r11: 0x202, rflags: 2 } },
  { title: 'SYSCALL without SCE', section: FAST, world: 'u64', code: 'syscall', set: { efer: 0xd00 }, fault: [6] },
  { title: 'SYSCALL of a PV guest', section: FAST, world: 'u64', code: 'syscall', trapMode: 'monitor', exit: 'syscall' },
  { title: 'SYSRET to 64-bit code', section: FAST, world: 'k64', code: sysretq, set: { rcx: USER_ENTRY, r11: 0x3_3202 }, want: { cs: UCODE, ss: UDATA, cpl: 3, rip: USER_ENTRY, rflags: 0x3202 } },
  { title: 'SYSRET to 32-bit code', section: FAST, world: 'k64', code: sysretd, set: { rcx: 0xffff_0000_0000_0000n | BigInt(USER_ENTRY), r11: 0x246 }, want: { cs: UCODE32, ss: UDATA, cpl: 3, rip: USER_ENTRY, rflags: 0x246 } },
  { title: 'SYSRET in ring 3', section: FAST, world: 'u64', code: sysretq, fault: [13, 0] },
  { title: 'SYSRET without SCE', section: FAST, world: 'k64', code: sysretq, set: { efer: 0xd00 }, fault: [6] },
  { title: 'SYSRET to an address that is not canonical faults in ring 3', section: 'AMD vol. 3 SYSRET', world: 'k64', code: sysretq, set: { rcx: BAD, r11: 0x202 }, fault: [13, 0], want: { cs: UCODE, ss: UDATA, cpl: 3, rip: BAD } },
  { title: 'SYSENTER', section: FAST, world: 'u64', code: 'sysenter', want: { cs: KCODE, ss: KDATA, cpl: 0, rip: KERNEL_ENTRY, rsp: ENTRY_STACK, rflags: 2 } },
  { title: 'SYSENTER in 32-bit mode', section: FAST, world: 'u32', code: 'sysenter', set: { sysenterCs: KCODE32 }, want: { cs: KCODE32, ss: 0x20, ssAttributes: 0xc093, ssLimit: 0xffff_ffff, cpl: 0, rip: KERNEL_ENTRY, rsp: ENTRY_STACK, rflags: 2 } },
  { title: 'SYSENTER with a NULL selector', section: FAST, world: 'u64', code: 'sysenter', set: { sysenterCs: 3 }, fault: [13, 0] },
  { title: 'SYSENTER of a PV guest', section: FAST, world: 'u64', code: 'sysenter', trapMode: 'monitor', exit: 'sysenter' },
  { title: 'SYSEXIT to 32-bit code', section: FAST, world: 'k64', code: 'db 0x0f, 0x35', set: { sysenterCs: 0x18, rdx: USER_ENTRY, rcx: U_TOP }, want: { cs: UCODE32, ss: UDATA, cpl: 3, rip: USER_ENTRY, rsp: U_TOP } },
  { title: 'SYSEXIT to 64-bit code', section: FAST, world: 'k64', code: 'db 0x48, 0x0f, 0x35', set: { sysenterCs: 0x18, rdx: USER_ENTRY, rcx: U_TOP }, want: { cs: UCODE, ss: 0x43, ssAttributes: 0xc0f3, ssLimit: 0xffff_ffff, ssBase: 0, cpl: 3, rip: USER_ENTRY, rsp: U_TOP } },
  { title: 'SYSEXIT to an address that is not canonical', section: FAST, world: 'k64', code: 'db 0x48, 0x0f, 0x35', set: { sysenterCs: 0x18, rdx: BAD, rcx: U_TOP }, fault: [13, 0] },
  { title: 'SYSEXIT in ring 3', section: FAST, world: 'u64', code: 'db 0x0f, 0x35', fault: [13, 0] },
]; // prettier-ignore

export const transferCases: readonly SystemCase[] = [
  ...loads,
  ...inspections,
  ...tables,
  ...far,
  ...interrupts,
  ...returns,
  ...fast,
];
