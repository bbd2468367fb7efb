import { cpuidSxp, parseCpuid } from './cpuid.ts';

const bit = (n: number, value: string): string => 'x'.repeat(31 - n) + value + 'x'.repeat(n);

describe('cpuid of a configuration', () => {
  test("xm's spelling: an item a leaf, a character a bit, or a number", () => {
    const sse4 = 'xxxxxxxxxxx00xxxxxxxxxxxxxxxxxxx';
    expect(parseCpuid([`1:ecx=${sse4},eax=0x106ca`, `0x7,0:ebx=${bit(5, '0')}`])).toEqual([
      { leaf: 1, subleaf: undefined, registers: { ecx: sse4, eax: (0x106ca).toString(2).padStart(32, '0') } },
      { leaf: 7, subleaf: 0, registers: { ebx: bit(5, '0') } },
    ]);
  });

  test("xl's spelling: features by name", () => {
    expect(parseCpuid('host,avx2=0,avx=0,f16c=0')).toEqual([
      { leaf: 7, subleaf: 0, registers: { ebx: bit(5, '0') } },
      { leaf: 1, subleaf: undefined, registers: { ecx: `xx00${'x'.repeat(28)}` } },
    ]);
  });

  test('nothing said is nothing changed', () => {
    expect([undefined, '', [], 'host'].map(parseCpuid)).toEqual([[], [], [], []]);
  });

  test('what it writes, it reads again', () => {
    const read = parseCpuid([`1:ecx=${bit(28, '0')},edx=${bit(26, 'k')}`, `0xd,1:eax=0x1`]);
    expect(parseCpuid(cpuidSxp(read))).toEqual(read);
    expect(parseCpuid([['1', [['ecx', bit(28, '0')]]]])).toEqual(parseCpuid([`1:ecx=${bit(28, '0')}`]));
  });

  test.each([
    ['1:ecx=xx', 'all 32 bits'],
    ['1:rax=0x1', 'syntax is'],
    ['x:eax=0x1', 'cannot read'],
    ['1,2,3:eax=0x1', 'cannot read'],
    ['1:eax=0x1ffffffff', 'cannot read'],
    ['host,avx512=0', 'no feature avx512'],
    ['avx=2', 'avx is 0, 1, x, k or s'],
  ])('%s is refused', (text, message) => {
    expect(() => parseCpuid([text])).toThrow(message);
  });
});
