/**
 * A static Linux program that keeps values in all YMM registers, the x87 stack, FCW and MXCSR, and looks again and again
 * whether they are still there. Its argument is a file, in which the first line says `ok COUNT` or `BAD what`. Each
 * process has values of its own; one register changes with every look. CLOCK_MONOTONIC must never go back.
 */
import { assemble } from '@xenhost/cpu';

const BASE = 0x40_0000;
const ELF_HEADER = 64;
const PROGRAM_HEADER = 56;
const CODE_AT = ELF_HEADER + PROGRAM_HEADER;
const BSS_BYTES = 4096;
/** Turns of an empty loop between two looks: a few hundred microseconds in which only the registers hold the values. */
const SPINS = 200_000;
/** Looks between two lines, and how long it rests then: others want the pCPU too. */
const LOOKS_A_LINE = 16;
const REST_NS = 5_000_000;

/** x86-64 Linux system calls. */
const SYS = { open: 2, pwrite64: 18, nanosleep: 35, getpid: 39, clock_gettime: 228, exit_group: 231 } as const;
const O_WRONLY_CREAT_TRUNC = 0x241;
const MODE = 0o644;
const CLOCK_MONOTONIC = 1;
/** Rounding up, all exceptions masked. */
const FCW = 0x0b7f;
/** Rounding to zero, PE set, all exceptions masked. */
const MXCSR = 0x7fa0;
const FNSAVE_REGISTERS = 28;

const each = (count: number, line: (n: number) => string): string =>
  Array.from({ length: count }, (_, n) => line(n)).join('\n');

const SOURCE = `
        mov eax, ${SYS.open}
        mov rdi, [rsp+16]
        mov esi, ${O_WRONLY_CREAT_TRUNC}
        mov edx, ${MODE}
        syscall
        mov [rel file], rax
        mov eax, ${SYS.getpid}
        syscall
        imul eax, eax, 0x1e3779b1
        or eax, 1
        lea rdi, [rel want]
        mov ecx, 128
fill:   mov edx, eax
        shl edx, 13
        xor eax, edx
        mov edx, eax
        shr edx, 17
        xor eax, edx
        mov edx, eax
        shl edx, 5
        xor eax, edx
        mov [rdi], eax
        add rdi, 4
        sub ecx, 1
        jnz fill
        lea rsi, [rel want]
        fninit
        fldcw [rel fcw]
        ldmxcsr [rel mxcsr]
${each(8, (n) => `        fild qword [rsi+${8 * n}]`)}
${each(16, (n) => `        vmovdqu ymm${n}, [rsi+${32 * n}]`)}
        lea rdi, [rel want87]
        fnsave [rdi]
        frstor [rdi]

again:  mov ecx, ${SPINS}
spin:   sub ecx, 1
        jnz spin
        lea rdi, [rel got]
${each(16, (n) => `        vmovdqu [rdi+${32 * n}], ymm${n}`)}
        lea rsi, [rel want]
        mov ecx, 64
        repe cmpsq
        lea r15, [rel badymm]
        jnz bad
        lea rdi, [rel got]
        fnsave [rdi]
        frstor [rdi]
        lea r15, [rel badx87]
        mov ax, [rdi]
        cmp ax, [rel fcw]
        jnz bad
        add rdi, ${FNSAVE_REGISTERS}
        lea rsi, [rel want87+${FNSAVE_REGISTERS}]
        mov ecx, 10
        repe cmpsq
        jnz bad
        stmxcsr [rel got]
        mov eax, [rel got]
        lea r15, [rel badmx]
        cmp eax, [rel mxcsr]
        jnz bad

        vpcmpeqd ymm1, ymm1, ymm1
        vpsubd ymm0, ymm0, ymm1
        vmovdqu ymm1, [rel want+32]
        lea rsi, [rel want]
        mov ecx, 8
step:   add dword [rsi], 1
        add rsi, 4
        sub ecx, 1
        jnz step

        mov eax, ${SYS.clock_gettime}
        mov edi, ${CLOCK_MONOTONIC}
        lea rsi, [rel time]
        syscall
        mov rax, [rel time]
        imul rax, rax, 1000000000
        add rax, [rel time+8]
        lea r15, [rel badtime]
        cmp rax, [rel last]
        jl bad
        mov [rel last], rax
        add qword [rel count], 1
        mov rax, [rel count]
        test eax, ${LOOKS_A_LINE - 1}
        jnz again
        lea rdi, [rel digits+9]
        mov ebx, 10
digit:  xor edx, edx
        div rbx
        add edx, 48
        mov [rdi], dl
        sub rdi, 1
        lea rcx, [rel digits]
        cmp rdi, rcx
        jae digit
        lea rsi, [rel text]
        call say
        mov eax, ${SYS.nanosleep}
        lea rdi, [rel rest]
        xor esi, esi
        syscall
        jmp again

say:    mov edi, [rel file]
        mov edx, 14
        xor r10d, r10d
        mov eax, ${SYS.pwrite64}
        syscall
        ret
bad:    mov rsi, r15
        call say
        mov eax, ${SYS.exit_group}
        mov edi, 1
        syscall

fcw:    dw ${FCW}
mxcsr:  dd ${MXCSR}
text:   db "ok "
digits: db "0000000000", 10
badymm: db "BAD YMM      ", 10
badx87: db "BAD x87      ", 10
badmx:  db "BAD MXCSR    ", 10
badtime: db "BAD time     ", 10
        align 64
file:   dq 0
count:  dq 0
last:   dq 0
time:   dq 0, 0
rest:   dq 0, ${REST_NS}
        align 64
want:   resb 512
want87: resb 128
got:    resb 512
`;

/** The program as an ELF file: one segment, readable, writable and executable. */
export function vectorProgram(): Uint8Array {
  const { bytes: code } = assemble(SOURCE, { origin: BigInt(BASE + CODE_AT) });
  const file = Buffer.alloc(CODE_AT + code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(62, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(BASE + CODE_AT), 24);
  file.writeBigUInt64LE(BigInt(ELF_HEADER), 32);
  file.writeUInt16LE(ELF_HEADER, 52);
  file.writeUInt16LE(PROGRAM_HEADER, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt32LE(1, ELF_HEADER);
  file.writeUInt32LE(7, ELF_HEADER + 4);
  file.writeBigUInt64LE(BigInt(BASE), ELF_HEADER + 16);
  file.writeBigUInt64LE(BigInt(BASE), ELF_HEADER + 24);
  file.writeBigUInt64LE(BigInt(file.length), ELF_HEADER + 32);
  file.writeBigUInt64LE(BigInt(file.length + BSS_BYTES), ELF_HEADER + 40);
  file.writeBigUInt64LE(4096n, ELF_HEADER + 48);
  file.set(code, CODE_AT);
  return file;
}
