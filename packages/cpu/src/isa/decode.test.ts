import fc from 'fast-check';
import { decodeInstruction, disassemble, MAX_INSTRUCTION_LENGTH } from './index.ts';
import type { CodeSize } from './index.ts';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const text = (hex: string, code: CodeSize): string => {
  const decoded = decodeInstruction(bytes(hex), code);
  return typeof decoded === 'string' ? decoded : `${disassemble(decoded, 0x1000n)} (${decoded.length})`;
};

const cases: readonly (readonly [hex: string, code: CodeSize, expected: string])[] = [
  ['48 89 d8', 64, 'mov rax, rbx (3)'],
  ['89 d8', 16, 'mov ax, bx (2)'],
  ['66 89 d8', 16, 'mov eax, ebx (3)'],
  ['88 e0', 64, 'mov al, ah (2)'],
  ['40 88 e0', 64, 'mov al, spl (3)'],
  ['8b 44 8b 10', 64, 'mov eax, dword ptr [rbx+rcx*4+0x10] (4)'],
  ['67 8b 03', 64, 'mov eax, dword ptr [ebx] (3)'],
  ['8b 05 10 00 00 00', 64, 'mov eax, dword ptr [0x1016] (6)'],
  ['8b 05 10 00 00 00', 32, 'mov eax, dword ptr [0x10] (6)'],
  ['8b 42 fe', 16, 'mov ax, word ptr [bp+si-0x2] (3)'],
  ['64 8b 00', 64, 'mov eax, dword ptr fs:[rax] (3)'],
  ['2e 8b 00', 64, 'mov eax, dword ptr [rax] (3)'],
  ['2e 8b 00', 32, 'mov eax, dword ptr cs:[eax] (3)'],
  ['48 b8 ff ff ff ff ff ff ff 7f', 64, 'mov rax, 0x7fffffffffffffff (10)'],
  ['a1 00 00 00 00 01 00 00 00', 64, 'mov eax, dword ptr [0x100000000] (9)'],
  ['90', 64, 'nop (1)'],
  ['41 90', 64, 'xchg r8d, eax (2)'],
  ['f3 90', 64, 'pause (2)'],
  ['40', 32, 'inc eax (1)'],
  ['40', 64, 'truncated'],
  ['48 50', 64, 'push rax (2)'],
  ['66 50', 64, 'push ax (2)'],
  ['e8 fb ff ff ff', 64, 'call 0x1000 (5)'],
  ['66 e9 00 10', 32, 'jmp 0x2004 (4)'],
  ['f3 48 a5', 64, 'rep movs qword ptr [rdi], qword ptr [rsi] (3)'],
  ['f0 48 0f b1 0f', 64, 'lock cmpxchg qword ptr [rdi], rcx (5)'],
  ['f0 48 89 07', 64, 'invalid'],
  ['f0 48 0f b1 cf', 64, 'invalid'],
  ['0f 0b', 64, 'ud2 (2)'],
  ['0f ff', 64, 'truncated'],
  ['06', 64, 'invalid'],
  ['06', 32, 'push es (1)'],
  ['9a 78 56 34 12 bc 9a', 32, 'call 0x9abc:0x12345678 (7)'],
  ['8e c8', 64, 'mov cs, ax (2)'],
  ['8e f0', 64, 'invalid'],
  ['0f 20 00', 64, 'mov rax, cr0 (3)'],
  ['66 66 66 66 66 66 66 66 66 66 66 66 66 66 90', 64, 'nop (15)'],
  ['66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90', 64, 'too-long'],
  ['48 8b', 64, 'truncated'],
  ['c5 f4 58 07', 64, 'vaddps ymm0, ymm1, ymmword ptr [rdi] (4)'],
  ['c5 f4 58 07', 32, 'vaddps ymm0, ymm1, ymmword ptr [edi] (4)'],
  ['c5 34 58', 32, 'lds esi, [eax+ebx*2] (3)'],
  ['c4 e1 74 58 07', 64, 'vaddps ymm0, ymm1, ymmword ptr [rdi] (5)'],
  ['66 c5 f4 58 07', 64, 'invalid'],
  ['48 c5 f4 58 07', 64, 'invalid'],
  ['f3 c5 f4 58 07', 64, 'invalid'],
  ['c5 f4 28 07', 64, 'invalid'],
  ['c5 fc 28 07', 64, 'vmovaps ymm0, ymmword ptr [rdi] (4)'],
  ['c4 e3 69 4a cb 40', 64, 'vblendvps xmm1, xmm2, xmm3, xmm4 (6)'],
  ['c4 e2 69 90 04 98', 64, 'vpgatherdd xmm0, dword ptr [rax], xmm3, 0x4, xmm2 (6)'],
  ['c4 e2 69 90 04 90', 64, 'invalid'],
  ['c4 e2 69 90 00', 64, 'invalid'],
  ['c4 e0 69 58 00', 64, 'invalid'],
  ['c4 e2 e0 f2 01', 64, 'andn rax, rbx, qword ptr [rcx] (5)'],
  ['c4 e2 e4 f2 01', 64, 'invalid'],
  ['0f 01 f8', 64, 'swapgs (3)'],
  ['0f 01 f8', 32, 'invalid'],
]; // prettier-ignore

test.each(cases)('%s in %i-bit code', (hex, code, expected) => {
  expect(text(hex, code)).toBe(expected);
});

test('any bytes give an instruction of at most 15 bytes or say why not, and more bytes do not change it', () => {
  const code = fc.constantFrom<CodeSize>(16, 32, 64);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 20 }), code, (random, size) => {
      const decoded = decodeInstruction(random, size);
      if (typeof decoded === 'string') {
        expect(['truncated', 'invalid', 'too-long']).toContain(decoded);
        return;
      }
      expect(decoded.length).toBeGreaterThan(0);
      expect(decoded.length).toBeLessThanOrEqual(Math.min(MAX_INSTRUCTION_LENGTH, random.length));
      const exact = decodeInstruction(random.subarray(0, decoded.length), size);
      expect(typeof exact === 'string' ? exact : exact.length).toBe(decoded.length);
      expect(decodeInstruction(random.subarray(0, decoded.length - 1), size)).not.toEqual(decoded);
      expect(disassemble(decoded)).not.toContain('?');
    }),
    { numRuns: 3000 },
  );
});
