/** Two duties: give every label an address (sizes of jumps settle by repetition) and put the bytes together. */
import { encodeInstruction, type InstructionStatement } from './encode.ts';
import { AsmError, type Expression, parse, type Statement } from './syntax.ts';

export interface Assembled {
  readonly bytes: Uint8Array;
  readonly symbols: ReadonlyMap<string, bigint>;
}

export interface AssembleOptions {
  /** Address of the first byte. */
  readonly origin: bigint;
  /** Constants that the source may use. */
  readonly symbols?: Readonly<Record<string, bigint | number>>;
}

const MAX_PASSES = 64;
const MAX_IMAGE = 16 * 1024 * 1024;

type Resolve = (name: string) => bigint | undefined;

function evaluate(expression: Expression, here: bigint, resolve: Resolve, line: number): bigint {
  const value = (e: Expression): bigint => evaluate(e, here, resolve, line);
  switch (expression.kind) {
    case 'number':
      return expression.value;
    case 'here':
      return here;
    case 'symbol': {
      const found = resolve(expression.name);
      if (found === undefined) throw new AsmError(`unknown symbol '${expression.name}'`, line);
      return found;
    }
    case 'unary':
      return expression.op === '-' ? -value(expression.operand) : ~value(expression.operand);
    case 'binary':
      return binary(expression.op, value(expression.left), value(expression.right), line);
  }
}

function binary(op: string, a: bigint, b: bigint, line: number): bigint {
  switch (op) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      if (b === 0n) throw new AsmError('division by zero', line);
      return a / b;
    case '%':
      if (b === 0n) throw new AsmError('division by zero', line);
      return a % b;
    case '<<':
      return a << b;
    case '>>':
      return a >> b;
    case '&':
      return a & b;
    case '|':
      return a | b;
    case '^':
      return a ^ b;
    default:
      throw new AsmError(`unknown operator '${op}'`, line);
  }
}

class Pass {
  readonly #origin: bigint;
  readonly #known: ReadonlyMap<string, bigint>;
  readonly #final: boolean;
  readonly symbols: Map<string, bigint>;
  readonly #bytes: number[] = [];
  /** Indices of statements whose jump needed its long form, kept over all passes. */
  readonly #near: Set<number>;

  /** `known`: addresses of the pass before; on the first, labels not yet seen are guessed to be here. */
  constructor(options: AssembleOptions, known: ReadonlyMap<string, bigint>, near: Set<number>, final: boolean) {
    this.#near = near;
    this.#origin = options.origin;
    this.#known = known;
    this.#final = final;
    this.symbols = new Map(Object.entries(options.symbols ?? {}).map(([name, value]) => [name, BigInt(value)]));
  }

  run(statements: readonly Statement[]): Uint8Array {
    for (const [i, statement] of statements.entries()) {
      this.#statement(statement, i);
      if (this.#bytes.length > MAX_IMAGE) throw new AsmError(`the image grows past ${MAX_IMAGE} bytes`, statement.line);
    }
    return Uint8Array.from(this.#bytes);
  }

  get #here(): bigint {
    return this.#origin + BigInt(this.#bytes.length);
  }

  #value(expression: Expression, line: number): bigint {
    const here = this.#here;
    const resolve: Resolve = (name) =>
      this.symbols.get(name) ?? this.#known.get(name) ?? (this.#final ? undefined : here);
    return evaluate(expression, here, resolve, line);
  }

  #statement(statement: Statement, index: number): void {
    const { line } = statement;
    switch (statement.kind) {
      case 'label':
        if (this.symbols.has(statement.name)) throw new AsmError(`'${statement.name}' is defined twice`, line);
        this.symbols.set(statement.name, this.#here);
        break;
      case 'equ':
        this.symbols.set(statement.name, this.#value(statement.value, line));
        break;
      case 'data':
        for (const item of statement.items) {
          if (typeof item === 'string') this.#bytes.push(...utf8(item));
          else this.#number(this.#value(item, line), statement.size);
        }
        break;
      case 'reserve':
        this.#zeros(Number(this.#value(statement.count, line)), line);
        break;
      case 'align': {
        const to = Number(this.#value(statement.to, line));
        const over = Number(this.#here % BigInt(to));
        this.#zeros(over === 0 ? 0 : to - over, line);
        break;
      }
      case 'instruction':
        this.#instruction(statement, index);
        break;
    }
  }

  #instruction(statement: InstructionStatement, index: number): void {
    const encode = (near: boolean): number[] =>
      encodeInstruction(statement, {
        address: this.#here,
        value: (e) => this.#value(e, statement.line),
        final: this.#final,
        near,
      });
    const bytes = encode(this.#near.has(index));
    // A label that is not known yet is guessed to be here, so the first pass sees only short jumps.
    if (isJump(statement) && bytes.length > SHORT_JUMP) this.#near.add(index);
    this.#bytes.push(...bytes);
  }

  #number(value: bigint, size: number): void {
    for (let i = 0; i < size; i++) this.#bytes.push(Number((value >> BigInt(8 * i)) & 0xffn));
  }

  #zeros(count: number, line: number): void {
    if (!(count >= 0 && count <= MAX_IMAGE)) throw new AsmError(`cannot reserve ${count} bytes`, line);
    for (let i = 0; i < count; i++) this.#bytes.push(0);
  }
}

const SHORT_JUMP = 2;
const isJump = ({ mnemonic, operands }: InstructionStatement): boolean =>
  mnemonic.startsWith('j') && operands[0]?.kind === 'immediate';

const utf8 = (text: string): number[] => [...new TextEncoder().encode(text)];

/** Assembles 64-bit code. Throws AsmError with the line of what is wrong. */
export function assemble(source: string, options: AssembleOptions): Assembled {
  const statements = parse(source);
  const near = new Set<number>();
  let known: ReadonlyMap<string, bigint> = new Map();
  for (let i = 0; i < MAX_PASSES; i++) {
    const pass = new Pass(options, known, near, false);
    pass.run(statements);
    const settled = pass.symbols.size === known.size && [...pass.symbols].every(([name, at]) => known.get(name) === at);
    known = pass.symbols;
    if (!settled) continue;
    const last = new Pass(options, known, near, true);
    const bytes = last.run(statements);
    return { bytes, symbols: last.symbols };
  }
  throw new AsmError('jump sizes do not settle', 0);
}
