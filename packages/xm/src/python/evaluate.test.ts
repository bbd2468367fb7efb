import fc from 'fast-check';
import { ConfigFileError } from './errors.ts';
import { evaluateConfig } from './evaluate.ts';
import type { Scope } from './expressions.ts';
import type { PythonWorld } from './modules.ts';
import { repr, type PyValue } from './values.ts';

const world: PythonWorld = {
  env: { HOME: '/root' },
  cwd: '/home/me',
  uname: ['Linux', 'host', '6.1', '#1', 'x86_64'],
  kindOf: (path) => (path === '/boot/vmlinuz' ? 'file' : path === '/boot' ? 'directory' : undefined),
};

function run(source: string, given: Iterable<[string, PyValue]> = []): { scope: Scope; printed: string[] } {
  const scope: Scope = new Map(given);
  const printed: string[] = [];
  evaluateConfig(source, scope, { world, print: (line) => printed.push(line) });
  return { scope, printed };
}

const value = (source: string): string => repr(run(`x = ${source}`).scope.get('x') ?? null);

describe('expressions', () => {
  it.each([
    ['1 + 2 * 3 - 4', '3'],
    ['(1 + 2) * 3', '9'],
    ['7 / 2', '3'],
    ['-7 / 2', '-4'],
    ['-7 % 3', '2'],
    ['7.0 / 2', '3.5'],
    ["'a'.center(5, '*') + 'ab'.center(3) + 'ab'.ljust(4, '-') + 'x'.rjust(3, '0')", "'**a** abab--00x'"],
    [
      "'%g %g %g %.3g %G %g %g' % (0.0001, 0.00009999999999, 1e6, 0.00012345, 1e-10, 0, 123456)",
      "'0.0001 0.0001 1e+06 0.000123 1E-10 0 123456'",
    ],
    ["'{} {1}'.format('a', 'b') if 0 else '{0}-{1}-{0}'.format('a', 2)", "'a-2-a'"],
    ["'{}/{}'.format('a', [1, 'b'])", '"a/[1, \'b\']"'],
    [
      "'{name:>6}|{n:04d}|{n:<4}|{f:.2f}|{n:x}|{n:#x}|{s!r}|{{}}'.format(name='vm', n=42, f=2.5, s=\"q\")",
      '"    vm|0042|42  |2.50|2a|0x2a|\'q\'|{}"',
    ],
    [
      "'{0[a]} {1[0]:^5} {2:+d} {3:,} {4:%} {5:*>5}'.format({'a': 1}, ['z'], 3, 1234567, 0.5, 'x')",
      "'1   z   +3 1,234,567 50.000000% ****x'",
    ],
    ["'{0:5}|{1:5}|{2:05.1f}|{3:e}|{4}'.format('a', 7, -2.26, 12345.678, 1.5)", "'a    |    7|-02.3|1.234568e+04|1.5'"],
    ["dict(a=1, b='x')['b'] + dict([('c', 'y')])['c']", "'xy'"],
    ['2 ** 3 ** 2', '512'],
    ['-2 ** 2', '-4'],
    ['0777 + 0x10 + 0o7', '534'],
    ['1 << 4 | 3 & 1', '17'],
    ['~5', '-6'],
    ['1e3', '1000.0'],
    ['not 0 and 1', '1'],
    ['not 1 == 2', 'True'],
    ['1 or not 0 and 0', '1'],
    ['0 or "" or "z"', "'z'"],
    ['1 < 2 < 3', 'True'],
    ['1 < 3 < 2', 'False'],
    ['1 <> 2', 'True'],
    ['0 and nothing', '0'],
    ['1 if 0 else 2', '2'],
    ['not 1 if 1 else 2', 'False'],
    ['"a" in ["a", "b"]', 'True'],
    ['3 not in (1, 2)', 'True'],
    ['None is None', 'True'],
    ['"a" "b" \'c\'', "'abc'"],
    ['"it\'s"', '"it\'s"'],
    ["r'a\\n' + 'b\\n\\x41\\101'", "'a\\\\nb\\nAA'"],
    ["'''a\nb'''", "'a\\nb'"],
    ['u"x"', "'x'"],
    ['[1, 2] + [3] * 2', '[1, 2, 3, 3]'],
    ['(1,)', '(1,)'],
    ['1, 2', '(1, 2)'],
    ['{"a": 1, 2: [3]}["a"]', '1'],
    ['[10, 20, 30][-1]', '30'],
    ['"abcdef"[1:-2]', "'bcd'"],
    ['[1, 2, 3][1:]', '[2, 3]'],
    ['[i * 2 for i in range(4) if i % 2]', '[2, 6]'],
    ['[a + b for a in "xy" for b in "12"]', "['x1', 'x2', 'y1', 'y2']"],
    ['"%s-%03d %x %.2f %5s|%-5s|%% %r" % ("a", 7, 255, 1.5, "r", "l", "q")', '"a-007 ff 1.50     r|l    |% \'q\'"'],
    ['"%(a)s%(b)d" % {"a": "x", "b": 2}', "'x2'"],
    ['"%d" % 3', "'3'"],
    ['len("abc") + len([1]) + len({1: 2})', '5'],
    ['range(2, 10, 3)', '[2, 5, 8]'],
    ['str(1.0) + str(None) + str([1, "a"])', '"1.0None[1, \'a\']"'],
    ['int("0x1f", 16) + int(" 12 ") + int(3.9)', '46'],
    ['max(1, 5, 3) + min([4, 2])', '7'],
    ['sorted(["b", "a"])', "['a', 'b']"],
    ['",".join(["a", "b"]).upper().split(",")', "['A', 'B']"],
    ['"a b  c".split()', "['a', 'b', 'c']"],
    ['"a-b-c".split("-", 1)', "['a', 'b-c']"],
    ['" x ".strip() + "x".zfill(3) + "ab".replace("a", "c")', "'x00xcb'"],
    ['os.path.join("/a", "b/", "c")', "'/a/b/c'"],
    ['os.path.basename("/a/b.cfg")', "'b.cfg'"],
    ['os.path.dirname("/a/b.cfg")', "'/a'"],
    ['os.path.exists("/boot/vmlinuz") and not os.path.isdir("/none")', 'True'],
    ['os.path.splitext("a.img")', "('a', '.img')"],
    ['os.environ["HOME"] + os.getenv("NO", "-")', "'/root-'"],
    ['os.uname()[4]', "'x86_64'"],
  ])('%s is %s', (source, expected) => {
    expect(value(source)).toBe(expected);
  });
});

describe('statements', () => {
  it.each<[string, string, Record<string, string>]>([
    ['assignments', 'a = b = 1\nc, (d, e) = 2, [3, 4]\na += 5\nl = [1]\nl += [2]\nl[0] = 9', { a: '6', b: '1', d: '3', e: '4', l: '[9, 2]' }],
    ['if', 'x = 3\nif x == 1:\n  y = "one"\nelif x == 3: y = "three"\nelse:\n  y = "?"', { y: "'three'" }],
    ['for', 'd = []\nfor i in range(3):\n    if i == 1: continue\n    d.append("phy:%d" % i)\nelse:\n    e = 1', { d: "['phy:0', 'phy:2']", e: '1' }],
    ['while', 'n = 0\nwhile 1:\n  n += 1\n  if n > 4: break', { n: '5' }],
    ['one line', 'a = 1; b = 2;\nif a: c = 3; d = 4', { b: '2', d: '4' }],
    ['imports', 'import os, re, string\nfrom os.path import join\nimport os.path\nj = join("a", "b")\nk = string.join(["x", "y"], "-")\nm = re.search("64", os.uname()[4]) and "lib64" or "lib"', { j: "'a/b'", k: "'x-y'", m: "'lib64'" }],
    ['comments, empty lines, carriage returns', '# head\r\n\r\na = 1 # tail\r\n   # odd\r\nb = 2\r\n', { a: '1', b: '2' }],
    ['functions', 'k = 2\ndef f(a, b=k, c=None):\n  n = a * b\n  if c: return n + c\n  return n\nx = f(3)\ny = f(1, c=5, b=10)\nz = map(lambda v: v + k, [1, 2])\ndel k', { x: '6', y: '15', z: '[3, 4]' }],
    ['a dict', 'd = {}\nd["k"] = [1]\nd.update({2: 3})\nn = len(d) + d.get("z", 5)', { n: '7' }],
  ])('%s', (_name, source, expected) => {
    const { scope } = run(source);
    for (const [name, text] of Object.entries(expected)) expect([name, repr(scope.get(name) ?? null)]).toEqual([name, text]);
  }); // prettier-ignore

  it('prints, and knows what was defined beforehand', () => {
    expect(run('print "vm %s" % vmid\nprint(1, "b")', [['vmid', '3']]).printed).toEqual(['vm 3', '1 b']);
  });
});

describe('what is beyond the subset', () => {
  it.each<[string, number, string | RegExp]>([
    ['a = 1\ndef f(*a):\n  pass', 2, 'parameters with * are not supported'],
    ['def f(): return f()\nx = f()', 1, 'maximum recursion depth exceeded'],
    ['def f(n):\n  if n: raise ValueError, "no " + n\n\nf("a")', 2, 'no a'],
    ['return 1', 1, "'return' outside function"],
    ['assert 1 > 2, "odd"', 1, 'odd'],
    ['x = (lambda: 1)(2)', 1, '<lambda>() takes 0 arguments (1 given)'],
    ['def f(a): pass\nf(b=1)', 2, "f() got an unexpected keyword argument 'b'"],
    ["xs = [1]\nfor i in range(50): xs.append(xs)\nx = 'a'*10**9", 3, 'value too long'],
    ['x = 10**10**10', 1, 'number too large'],
    ['class A: pass', 1, 'class definitions are not supported'],
    ['import subprocess', 1, /^import of subprocess is not supported/],
    ['import os\n\nos.system("touch /tmp/evil")', 3, 'os.system is not supported'],
    ['x = open("/etc/passwd")', 1, "name 'open' is not defined or not supported"],
    ['eval("1")', 1, "name 'eval' is not defined or not supported"],
    ['__import__("os")', 1, "name '__import__' is not defined or not supported"],
    ['x = "".__class__', 1, "'str' object has no attribute '__class__'"],
    ['x = "".constructor', 1, "'str' object has no attribute 'constructor'"],
    ['x = os.constructor', 1, 'os.constructor is not supported'],
    ['exec "x"', 1, 'invalid syntax'],
    ['try:\n  x\nexcept: pass', 1, 'try is not supported'],
    ['a = 1\nb = a.b', 2, "'int' object has no attribute 'b'"],
    ['a = 1\n\nif 1:\n  b = nothing', 4, "name 'nothing' is not defined or not supported"],
    ['x = [1,\nname = 3', 2, 'invalid syntax'],
    ["x = 'abc\ny = 1", 1, 'string without an end'],
    ['x = 1\n  y = 2', 2, 'unexpected indent'],
    ['if 1:\nx = 2', 2, 'invalid syntax'],
    ['x = 1 +', 1, 'invalid syntax'],
    ['x = 1 / 0', 1, 'integer division or modulo by zero'],
    ['x = "a" + 1', 1, "unsupported operand types for +: 'str' and 'int'"],
    ['x = [1][5]', 1, 'index out of range'],
    ['x = {}["k"]', 1, "KeyError: 'k'"],
    ['x = "%d" % "a"', 1, '%d format: a number is required, not str'],
    ['x = "%s %s" % 1', 1, 'not enough arguments for format string'],
    ['break', 1, "'break' outside loop"],
    ['while 1: pass', 1, 'the file takes too long to evaluate'],
    ['x = 9 ** 9 ** 9', 1, 'number too large'],
    ['x = "a" * 99999999', 1, 'value too long'],
    ['x = [0] * 99999999', 1, 'value too long'],
    ['x = range(99999999)', 1, 'list too long'],
    ['x = 1 << 999999', 1, 'number too large'],
    ['l = [1]\nfor i in range(60): l = [l, l]\ny = l == l * 1', 3, /too long|too deep/],
    ['s = "ab"\nfor i in range(99): s = s + s', 2, 'string too long'],
    ['t = ()\nfor i in range(99): t = (t, t)\nd = {t: 1}', 3, /too long|too deep/],
    [`x = ${'('.repeat(2000)}1${')'.repeat(2000)}`, 1, /too deep/],
    [`x = ${'1+'.repeat(1000)}`, 1, 'invalid syntax'],
    ['import re\nx = re.search("(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")', 2, /plain text only/],
  ])('%.60j fails at line %d', (source, line, message) => {
    let error: unknown;
    try {
      run(source);
    } catch (thrown) {
      error = thrown;
    }
    expect((error as Error).name).toBe('ConfigFileError');
    expect((error as ConfigFileError).line).toBe(line);
    if (typeof message === 'string') expect((error as Error).message).toBe(message);
    else expect((error as Error).message).toMatch(message);
  });

  it('never throws anything else, and always ends', () => {
    const word = fc.constantFrom(
      'x', '=', '+', '%', '*', '**', '(', ')', '[', ']', '{', '}', ':', ',', '.', '1', '999', '"a"', "'", '\n', '\n ', ' ', 'if', 'else',
      'for', 'in', 'while', 'not', 'and', 'lambda', 'def', 'import', 'os', 'path', 'range', 'len', 'str', 'print', '-', '<', 'is', 'x.y',
      'join', '"%s"', 'None', 'True', 'pass', 'break', '\t', '#', '\\', '`', '@', 'constructor', '__proto__',
    ); // prettier-ignore
    const attempt = (source: string): void => {
      try {
        run(source);
      } catch (error) {
        if ((error as Error).name !== 'ConfigFileError') throw error;
      }
    };
    fc.assert(fc.property(fc.array(word, { maxLength: 30 }), (words) => { attempt(words.join(' ')); }), { numRuns: 1500 }); // prettier-ignore
    fc.assert(fc.property(fc.string({ unit: 'binary' }), attempt), { numRuns: 300 });
  });
});
