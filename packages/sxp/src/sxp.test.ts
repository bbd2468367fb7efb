import fc from 'fast-check';
import {
  Float,
  SxpParseError,
  childOf,
  childValue,
  childrenOf,
  float,
  parseAllSxp,
  parseSxp,
  prettySxp,
  printSxp,
  pythonRepr,
  pythonUnescape,
  type Sxp,
  type SxpLines,
  type SxpList,
} from './index.ts';

describe('printing', () => {
  it.each<[Sxp, string]>([
    ['abc', 'abc'],
    ['', "''"],
    ['a b', "'a b'"],
    ['xvda:disk', 'xvda:disk'],
    ['/dev/loop~1', '/dev/loop~1'],
    ['root=/dev/xvda1 ro', "'root=/dev/xvda1 ro'"],
    ["it's", '"it\'s"'],
    ['it\'s "x"', "'it\\'s \"x\"'"],
    ['tab\tnl\nbell\x07', "'tab\\tnl\\nbell\\x07'"],
    ['é', "'\\xc3\\xa9'"],
    ['@', '@'],
    ['--p', '--p'],
    [7, '7'],
    [-1, '-1'],
    [true, 'True'],
    [null, "'None'"],
    [float(0), '0.0'],
    [float(1795353502.69), '1795353502.69'],
    [float(0.1 + 0.2), '0.3'],
    [float(123456789012345), '1.23456789012e+14'],
    [float(0.00001), '1e-05'],
    [float(-2.5), '-2.5'],
    [[], '()'],
    [['domain', ['domid', 0], ['name', 'Domain-0']], '(domain (domid 0) (name Domain-0))'],
  ])('%j is %s', (value, text) => {
    expect(printSxp(value)).toBe(text);
  });

  it('keeps a list of exactly 80 columns on its line and breaks one of 81', () => {
    const list = (n: number): Sxp => ['vm', ['args', 'x'.repeat(n)]];
    const overhead = printSxp(list(0)).length - 2;
    expect(prettySxp(list(80 - overhead))).toHaveLength(80);
    expect(prettySxp(list(81 - overhead)).split('\n')).toEqual(['(vm', `    (args ${'x'.repeat(81 - overhead)})`, ')']);
  });

  it('breaks only the lists that do not fit, each element on its own line', () => {
    const args = 'console=hvc0 root=/dev/xvda1 ro quiet loglevel=3 some=more words=to fill=the line=up';
    expect(prettySxp(['vm', ['name', 'g'], ['image', ['linux', ['kernel', '/k'], ['args', args]]]])).toBe(
      ['(vm', '    (name g)', '    (image', '        (linux', '            (kernel /k)', '            (args',
       `                '${args}'`, '            )', '        )', '    )', ')'].join('\n'), // prettier-ignore
    );
  });
});

describe('parsing', () => {
  it.each<[string, Sxp[]]>([
    ['(vm (name x) (memory 64))', [['vm', ['name', 'x'], ['memory', '64']]]],
    ['# comment\n(a) # more\n b', [['a'], 'b']],
    [`('a b' "c'd" 'e\\'f' '\\x41\\102\\n')`, [['a b', "c'd", "e'f", 'AB\n']]],
    ["('\\xc3\\xa9')", [['é']]],
    ['(a()b)', [['a', [], 'b']]],
    ["a'b", ["a'b"]],
    ['', []],
  ])('%j', (text, values) => {
    expect(parseAllSxp(text)).toEqual(values);
  });

  it.each([
    ['(a', 'unexpected EOF', 1],
    ['\n)', 'syntax error: )', 2],
    ["(a 'b", 'unexpected EOF', 1],
    ["'a\\", 'unexpected EOF', 1],
    ['a \x01', 'invalid character: code 1', 1],
    ['('.repeat(200), 'lists nested too deep', 1],
  ])('refuses %j', (text, message, line) => {
    expect(() => parseAllSxp(text)).toThrow(`${message} (line ${line})`);
  });

  it('tells the line that a list begins on', () => {
    const lines: SxpLines = new WeakMap();
    const [first, second] = parseAllSxp("(a\n 'x\ny'\n (b))\n\n(c)", lines) as SxpList[];
    expect([first, first?.[2], second].map((list) => lines.get(list as SxpList))).toEqual([1, 4, 6]);
  });

  it('wants exactly one expression where one is asked for', () => {
    expect(() => parseSxp('')).toThrow(SxpParseError);
    expect(() => parseSxp('a b')).toThrow('expected one expression, found 2');
  });
});

const tree = fc.letrec<{ node: Sxp }>((tie) => ({
  node: fc.oneof({ maxDepth: 5 }, fc.string({ unit: 'binary' }), fc.array(tie('node'), { maxLength: 5 })),
})).node;

describe('round trips', () => {
  it('text and back, on one line and set out', () => {
    fc.assert(
      fc.property(tree, (value) => {
        expect(parseSxp(printSxp(value))).toEqual(value);
        expect(parseSxp(prettySxp(value))).toEqual(value);
      }),
      { numRuns: 300 },
    );
  });

  it('repr and back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(pythonUnescape(pythonRepr(text).slice(1, -1))).toBe(text);
      }),
    );
  });

  it('any text either parses or is refused with SxpParseError', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseAllSxp(text);
        } catch (error) {
          expect((error as Error).name).toBe('SxpParseError');
        }
      }),
    );
  });
});

it('finds children by tag', () => {
  const vm: Sxp = ['vm', ['name', 'x'], ['device', ['vif']], ['device', ['vbd']], 'loose'];
  expect(childValue(vm, 'name')).toBe('x');
  expect(childrenOf(vm, 'device')).toHaveLength(2);
  expect(childOf(vm, 'image')).toBeUndefined();
  expect(childValue('atom', 'name')).toBeUndefined();
  expect(new Float(1).toString()).toBe('1.0');
});
