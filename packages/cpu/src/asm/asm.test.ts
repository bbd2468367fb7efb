import { assemble, AsmError } from './index.ts';

const hex = (source: string): string => Buffer.from(assemble(source, { origin: 0x1000n }).bytes).toString('hex');

/** Source and the bytes that GNU as gives for it. */
const cases: readonly (readonly [string, string])[] = [
  ['mov rax, 5', '48c7c005000000'],
  ['mov rax, 0x1234567890', '48b89078563412000000'],
  ['mov eax, [rbx+rcx*4+16]', '8b448b10'],
  ['mov [rsp+8], r9', '4c894c2408'],
  ["mov byte [rdi], 'a'", 'c60761'],
  ['mov qword [r12], -1', '49c70424ffffffff'],
  ['mov rax, gs:[0x10]', '65488b042510000000'],
  ['mov sil, 3', '40b603'],
  ['mov ah, 2', 'b402'],
  ['lea rax, [rdi*8+0x10]', '488d04fd10000000'],
  ['cmp al, 3', '3c03'],
  ['cmp rax, 0x7fffffff', '483dffffff7f'],
  ['sub rsp, 0x100', '4881ec00010000'],
  ['add rsp, 8', '4883c408'],
  ['push 0x80', '6880000000'],
  ['push r15', '4157'],
  ['pop r8', '4158'],
  ['movzx ecx, word [rbp]', '0fb74d00'],
  ['movsx rdx, al', '480fbed0'],
  ['rep movsb', 'f3a4'],
  ['rep stosq', 'f348ab'],
  ['lock cmpxchg [rdi], ecx', 'f00fb10f'],
  ['xchg [r13], rax', '49874500'],
  ['bts dword [rdi], 3', '0fba2f03'],
  ['shl rax, 12', '48c1e00c'],
  ['shr edx, 1', 'd1ea'],
  ['imul rax, rbx, 100', '486bc364'],
  ['syscall', '0f05'],
  ['cqo', '4899'],
  ['iretq', '48cf'],
  ['jmp rax', 'ffe0'],
  ['here: jne here', '75fe'],
  ['vaddps ymm0, ymm1, [rdi]', 'c5f45807'],
  ['vpaddb xmm2, xmm9, xmm3', 'c5b1fcd3'],
  ['vmovdqu [rsi+rcx*8+0x40], ymm12', 'c57e7f64ce40'],
  ['vpermq ymm3, ymm4, 0x4e', 'c4e3fd00dc4e'],
  ['vblendvps xmm1, xmm2, xmm3, xmm4', 'c4e3694acb40'],
  ['vfmadd231sd xmm1, xmm2, [rax]', 'c4e2e9b908'],
  ['andn rax, rbx, [rcx]', 'c4e2e0f201'],
  ['shlx ecx, [rdx], esi', 'c4e249f70a'],
  ['rorx r9, r10, 17', 'c443fbf0ca11'],
  ['blsr edi, esi', 'c4e240f3ce'],
  ['vzeroupper', 'c5f877'],
  ['vpsllw ymm5, ymm6, 3', 'c5d571f603'],
  ['vextracti128 [rdx], ymm8, 1', 'c4637d390201'],
  ['vcvtsi2sd xmm1, xmm2, r8', 'c4c1eb2ac8'],
  ['db "a", 0, 0x10', '610010'],
  ['dq here\nhere: align 16', '08100000000000000000000000000000'],
  ['x equ 3 << 4 | 1\ndd x, -x', '31000000cfffffff'],
];

test.each(cases)('%s', (source, expected) => {
  expect(hex(source)).toBe(expected);
});

test('a jump becomes long where its target is far, and sizes settle', () => {
  const near = assemble('jmp end\nresb 100\nend: ret', { origin: 0n }).bytes;
  expect(near.length).toBe(103);
  const far = assemble('start: je end\nresb 200\nend: jmp start', { origin: 0n });
  expect(far.bytes.length).toBe(6 + 200 + 5);
  expect(far.symbols.get('end')).toBe(206n);
});

test('addresses relative to RIP count from the end of the instruction', () => {
  expect(hex('mov dword [rel data], 7\ndata: dd 0')).toBe('c705000000000700000000000000');
});

const errors: readonly (readonly [string, string])[] = [
  ['mov rax', "line 1: no encoding of 'mov' takes these operands"],
  ['nop\nfrobnicate eax', "line 2: no encoding of 'frobnicate' takes these operands"],
  ['jmp nowhere', "line 1: unknown symbol 'nowhere'"],
  ['a: nop\na: nop', "line 2: 'a' is defined twice"],
  ['mov al, 300', "line 1: no encoding of 'mov' takes these operands"],
  ['mov [rax], 1', "line 1: no encoding of 'mov' takes these operands"],
  ['mov rax, [rbx', "line 1: ']' expected"],
  ['resb -1', 'line 1: cannot reserve -1 bytes'],
  ['dd 1/0', 'line 1: division by zero'],
];

test.each(errors)('%s is refused', (source, message) => {
  expect(() => assemble(source, { origin: 0n })).toThrow(message);
  try {
    assemble(source, { origin: 0n });
  } catch (error) {
    expect(error).toBeInstanceOf(AsmError);
  }
});
