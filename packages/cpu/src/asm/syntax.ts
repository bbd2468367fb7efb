/**
 * The assembler's source language, Intel syntax as NASM writes it: `label:`, `name equ expression`, `db dw dd dq`, `resb`,
 * `align`, instructions. This module reads text; it knows no instruction.
 */

export class AsmError extends Error {
  readonly line: number;
  constructor(message: string, line: number) {
    super(`line ${line}: ${message}`);
    this.line = line;
  }
}

export type Expression =
  | { readonly kind: 'number'; readonly value: bigint }
  | { readonly kind: 'symbol'; readonly name: string }
  | { readonly kind: 'here' }
  | { readonly kind: 'unary'; readonly op: '-' | '~'; readonly operand: Expression }
  | { readonly kind: 'binary'; readonly op: string; readonly left: Expression; readonly right: Expression };

export type Operand =
  | { readonly kind: 'register'; readonly name: string }
  | { readonly kind: 'immediate'; readonly value: Expression }
  | {
      readonly kind: 'memory';
      /** Bytes of the access when a size keyword says so. */
      readonly size: number | undefined;
      readonly segment: string | undefined;
      readonly base: string | undefined;
      readonly index: string | undefined;
      readonly scale: 1 | 2 | 4 | 8;
      readonly displacement: Expression;
      /** Relative to RIP: the displacement is an address. */
      readonly relative: boolean;
    };

export type Statement =
  | { readonly kind: 'label'; readonly name: string; readonly line: number }
  | { readonly kind: 'equ'; readonly name: string; readonly value: Expression; readonly line: number }
  | {
      readonly kind: 'data';
      readonly size: 1 | 2 | 4 | 8;
      readonly items: readonly (Expression | string)[];
      readonly line: number;
    }
  | { readonly kind: 'reserve'; readonly count: Expression; readonly line: number }
  | { readonly kind: 'align'; readonly to: Expression; readonly line: number }
  | {
      readonly kind: 'instruction';
      readonly prefixes: readonly string[];
      readonly mnemonic: string;
      readonly operands: readonly Operand[];
      readonly line: number;
    };

const SIZES: Readonly<Record<string, number>> = {
  byte: 1,
  word: 2,
  dword: 4,
  qword: 8,
  tword: 10,
  oword: 16,
  yword: 32,
};
const DATA: Readonly<Record<string, 1 | 2 | 4 | 8>> = { db: 1, dw: 2, dd: 4, dq: 8 };
const PREFIXES = new Set(['lock', 'rep', 'repe', 'repz', 'repne', 'repnz']);
const REGISTER =
  /^(r(1[0-5]|[89])[bwd]?|[re]?(ax|bx|cx|dx|si|di|bp|sp)|[abcd][hl]|(si|di|bp|sp)l|[cdefgs]s|cr\d|dr\d|st\d|mm[0-7]|[xy]mm(1[0-5]|\d)|rip)$/;

export const isRegister = (word: string): boolean => REGISTER.test(word);

type Token = { readonly kind: 'word' | 'number' | 'string' | 'punctuation'; readonly text: string };
const TOKEN =
  /\s*(?:(0[xX][0-9a-fA-F_]+|\d[\d_]*)|([A-Za-z_.@?][\w.@?$]*)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(<<|>>|[-+*/%&|^~()[\],:$]))/y;

function tokenize(text: string, line: number): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    if (text.slice(at).trim() === '') break;
    const match = TOKEN.exec(text);
    if (!match) throw new AsmError(`cannot read '${text.slice(at).trim()}'`, line);
    const [, number, word, string, punctuation] = match;
    if (number !== undefined) tokens.push({ kind: 'number', text: number.replaceAll('_', '') });
    else if (word !== undefined) tokens.push({ kind: 'word', text: word });
    else if (string !== undefined) tokens.push({ kind: 'string', text: unescape(string.slice(1, -1)) });
    else tokens.push({ kind: 'punctuation', text: punctuation ?? '' });
  }
  return tokens;
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '0': '\0' };
const unescape = (text: string): string => text.replaceAll(/\\(.)/g, (_, c: string) => ESCAPES[c] ?? c);

function stripComment(text: string): string {
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? '';
    if (quote) {
      if (c === '\\') i++;
      else if (c === quote) quote = '';
    } else if (c === '"' || c === "'") quote = c;
    else if (c === ';') return text.slice(0, i);
  }
  return text;
}

const PRECEDENCE: readonly (readonly string[])[] = [['|'], ['^'], ['&'], ['<<', '>>'], ['+', '-'], ['*', '/', '%']];

/** Reads one line's tokens from left to right. */
class LineReader {
  readonly #tokens: readonly Token[];
  readonly line: number;
  #at = 0;

  constructor(tokens: readonly Token[], line: number) {
    this.#tokens = tokens;
    this.line = line;
  }

  get atEnd(): boolean {
    return this.#at >= this.#tokens.length;
  }

  peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#at + ahead];
  }

  next(): Token {
    const token = this.#tokens[this.#at++];
    if (!token) throw new AsmError('unexpected end of line', this.line);
    return token;
  }

  accept(punctuation: string): boolean {
    const token = this.peek();
    if (token?.kind !== 'punctuation' || token.text !== punctuation) return false;
    this.#at++;
    return true;
  }

  expect(punctuation: string): void {
    if (!this.accept(punctuation)) throw new AsmError(`'${punctuation}' expected`, this.line);
  }

  expression(level = 0): Expression {
    const operators = PRECEDENCE[level];
    if (!operators) return this.#unary();
    let left = this.expression(level + 1);
    for (;;) {
      const token = this.peek();
      if (token?.kind !== 'punctuation' || !operators.includes(token.text)) return left;
      this.#at++;
      left = { kind: 'binary', op: token.text, left, right: this.expression(level + 1) };
    }
  }

  #unary(): Expression {
    if (this.accept('-')) return { kind: 'unary', op: '-', operand: this.#unary() };
    if (this.accept('~')) return { kind: 'unary', op: '~', operand: this.#unary() };
    if (this.accept('+')) return this.#unary();
    if (this.accept('$')) return { kind: 'here' };
    if (this.accept('(')) {
      const inner = this.expression();
      this.expect(')');
      return inner;
    }
    const token = this.next();
    if (token.kind === 'number') return { kind: 'number', value: BigInt(token.text) };
    if (token.kind === 'string' && token.text.length === 1)
      return { kind: 'number', value: BigInt(token.text.charCodeAt(0)) };
    if (token.kind === 'word' && !isRegister(token.text.toLowerCase())) return { kind: 'symbol', name: token.text };
    throw new AsmError(`a value expected, not '${token.text}'`, this.line);
  }

  operand(): Operand {
    let size: number | undefined;
    for (;;) {
      const word = this.peek();
      if (word?.kind !== 'word') break;
      const lower = word.text.toLowerCase();
      if (SIZES[lower] === undefined && lower !== 'ptr') break;
      size = SIZES[lower] ?? size;
      this.#at++;
    }
    const first = this.peek();
    const name = first?.kind === 'word' ? first.text.toLowerCase() : '';
    if (isRegister(name)) {
      this.#at++;
      if (this.accept(':')) return this.#memory(size, name);
      return { kind: 'register', name };
    }
    if (first?.kind === 'punctuation' && first.text === '[') return this.#memory(size, undefined);
    return { kind: 'immediate', value: this.expression() };
  }

  #memory(size: number | undefined, segment: string | undefined): Operand {
    this.expect('[');
    let relative = false;
    if (this.peek()?.kind === 'word' && this.peek()?.text.toLowerCase() === 'rel') {
      this.#at++;
      relative = true;
    }
    let base: string | undefined;
    let index: string | undefined;
    let scale: 1 | 2 | 4 | 8 = 1;
    let displacement: Expression = { kind: 'number', value: 0n };
    let sign: '+' | '-' = this.accept('-') ? '-' : '+';
    do {
      const token = this.peek();
      const name = token?.kind === 'word' ? token.text.toLowerCase() : '';
      if (isRegister(name)) {
        if (sign === '-') throw new AsmError('a register cannot be subtracted in an address', this.line);
        this.#at++;
        if (this.accept('*')) {
          const factor = Number(this.next().text);
          if (index !== undefined || (factor !== 1 && factor !== 2 && factor !== 4 && factor !== 8)) {
            throw new AsmError('bad scaled index', this.line);
          }
          index = name;
          scale = factor;
        } else if (base === undefined) base = name;
        else if (index === undefined) index = name;
        else throw new AsmError('too many registers in an address', this.line);
      } else {
        const term = this.expression(PRECEDENCE.length - 1);
        displacement = { kind: 'binary', op: sign, left: displacement, right: term };
      }
      sign = '+';
      if (this.accept('+')) continue;
      if (this.accept('-')) {
        sign = '-';
        continue;
      }
      break;
    } while (!this.atEnd);
    this.expect(']');
    return { kind: 'memory', size, segment, base, index, scale, displacement, relative };
  }
}

function parseLine(text: string, line: number, into: Statement[]): void {
  const reader = new LineReader(tokenize(stripComment(text), line), line);
  let first = reader.peek();
  if (first?.kind === 'word' && reader.peek(1)?.text === ':' && !isRegister(first.text.toLowerCase())) {
    into.push({ kind: 'label', name: reader.next().text, line });
    reader.expect(':');
    first = reader.peek();
  }
  if (!first) return;
  if (first.kind !== 'word') throw new AsmError(`an instruction expected, not '${first.text}'`, line);
  const second = reader.peek(1);
  if (second?.kind === 'word' && second.text.toLowerCase() === 'equ') {
    reader.next();
    reader.next();
    into.push({ kind: 'equ', name: first.text, value: reader.expression(), line });
  } else into.push(parseStatement(reader, line));
  if (!reader.atEnd) throw new AsmError(`'${reader.next().text}' not expected here`, line);
}

function parseStatement(reader: LineReader, line: number): Statement {
  let word = reader.next().text.toLowerCase();
  const data = DATA[word];
  if (data !== undefined) {
    const items: (Expression | string)[] = [];
    do {
      const token = reader.peek();
      if (token?.kind === 'string' && data === 1) items.push(reader.next().text);
      else items.push(reader.expression());
    } while (reader.accept(','));
    return { kind: 'data', size: data, items, line };
  }
  if (word === 'resb') return { kind: 'reserve', count: reader.expression(), line };
  if (word === 'align') return { kind: 'align', to: reader.expression(), line };
  const prefixes: string[] = [];
  while (PREFIXES.has(word)) {
    prefixes.push(word);
    word = reader.next().text.toLowerCase();
  }
  const operands: Operand[] = [];
  if (!reader.atEnd)
    do operands.push(reader.operand());
    while (reader.accept(','));
  return { kind: 'instruction', prefixes, mnemonic: word, operands, line };
}

/** Reads a whole source text; throws AsmError with the line. */
export function parse(source: string): Statement[] {
  const statements: Statement[] = [];
  source.split('\n').forEach((text, i) => {
    parseLine(text, i + 1, statements);
  });
  return statements;
}
