/** Programs with results that stand in textbooks or follow from a formula. Each leaves its result in RAX; DATA is memory to use. */

export interface Program {
  readonly name: string;
  readonly source: string;
  readonly result: bigint;
}

const ROUNDS = 2000n;
const CRC_CHECK = 0xcbf4_3926n;
/** Of sqrt(2) as a double. */
const SQRT2_BITS = 0x3ff6_a09e_667f_3bcdn;
const DOUBLE_BITS = (value: number): bigint => new BigUint64Array(new Float64Array([value]).buffer)[0] ?? 0n;

export const programs: readonly Program[] = [
  {
    // The check value of CRC-32/ISO-HDLC, summed over rounds.
    name: 'crc32 of "123456789"',
    result: ROUNDS * CRC_CHECK,
    source: `
    xor eax, eax
    mov r8d, ${ROUNDS}
round:
    mov edx, 0xffffffff
    lea rsi, [rel message]
    mov ecx, 9
each:
    movzx edi, byte [rsi]
    xor edx, edi
    mov r9d, 8
shift:
    mov ebx, edx
    shr edx, 1
    test ebx, 1
    je even
    xor edx, 0xedb88320
even:
    dec r9d
    jne shift
    inc rsi
    dec ecx
    jne each
    not edx
    add rax, rdx
    dec r8d
    jne round
    syscall
message: db "123456789"`,
  },
  {
    name: 'primes below 10000 by the sieve',
    result: 1229n,
    source: `
    mov rdi, DATA
    mov ecx, 10000
    mov al, 1
    rep stosb
    mov rdi, DATA
    mov ecx, 2
next:
    cmp byte [rdi + rcx], 0
    je composite
    mov edx, ecx
    imul edx, ecx
mark:
    cmp edx, 10000
    jae composite
    mov byte [rdi + rdx], 0
    add edx, ecx
    jmp mark
composite:
    inc ecx
    cmp ecx, 100
    jne next
    xor eax, eax
    mov ecx, 2
count:
    movzx edx, byte [rdi + rcx]
    add eax, edx
    inc ecx
    cmp ecx, 10000
    jne count
    syscall`,
  },
  {
    name: 'fib(22) by recursion',
    result: 17711n,
    source: `
    mov edi, 22
    call fib
    syscall
fib:
    mov eax, edi
    cmp edi, 2
    jb leaf
    push rdi
    dec edi
    call fib
    pop rdi
    push rax
    lea edi, [rdi - 2]
    call fib
    pop rdx
    add eax, edx
leaf:
    ret`,
  },
  {
    name: 'sum of squares in packed doubles',
    // Sum of k² for k = 1 to n is n(n+1)(2n+1)/6, exact in a double.
    result: DOUBLE_BITS((3000 * 3001 * 6001) / 6),
    source: `
    mov eax, 1
    cvtsi2sd xmm1, eax
    mov eax, 2
    cvtsi2sd xmm2, eax
    unpcklpd xmm1, xmm2
    unpcklpd xmm2, xmm2
    xorpd xmm0, xmm0
    mov ecx, 1500
again:
    movapd xmm3, xmm1
    mulpd xmm3, xmm3
    addpd xmm0, xmm3
    addpd xmm1, xmm2
    dec ecx
    jne again
    movapd xmm3, xmm0
    unpckhpd xmm3, xmm3
    addsd xmm0, xmm3
    movsd [DATA], xmm0
    mov rax, [DATA]
    syscall`,
  },
  {
    name: 'square root of two by Newton, and by SQRTSD',
    result: SQRT2_BITS,
    source: `
    mov eax, 2
    cvtsi2sd xmm1, eax
    movapd xmm0, xmm1
    mov ecx, 60
again:
    movapd xmm2, xmm1
    divsd xmm2, xmm0
    addsd xmm0, xmm2
    mov eax, 2
    cvtsi2sd xmm3, eax
    divsd xmm0, xmm3
    dec ecx
    jne again
    sqrtsd xmm1, xmm1
    movsd [DATA], xmm1
    movsd [DATA + 8], xmm0
    mov rax, [DATA]
    mov rdx, [DATA + 8]
    ; Newton ends within one unit of the last place.
    sub rdx, rax
    inc rdx
    cmp rdx, 2
    jbe near_enough
    xor eax, eax
near_enough:
    syscall`,
  },
  {
    name: 'a loop that rewrites its own instruction',
    // Adds 1, 2, ... 200 by an immediate that it patches.
    result: (200n * 201n) / 2n,
    source: `
    xor eax, eax
    mov ecx, 200
    lea rdi, [rel patched]
    mov dword [rdi + 1], 1
again:
patched:
    db 0x05, 1, 0, 0, 0
    inc dword [rdi + 1]
    dec ecx
    jne again
    syscall`,
  },
];
