/**
 * Expressions of a config file, evaluated straight from the syntax tree of @lezer/python. The grammar's own grouping of
 * operators is not used: it binds `not` looser than `and` and does not chain comparisons.
 */
import type { SyntaxNode } from '@lezer/common';
import { builtins, methodOf } from './builtins.ts';
import { formatPercent } from './format.ts';
import { makeFunction, parametersOf, type Parameter } from './functions.ts';
import {
  PyDict,
  PyError,
  PyFunction,
  PyList,
  PyModule,
  PyTuple,
  checkedInt,
  checkedItems,
  checkedString,
  compare,
  dictKey,
  equal,
  indexOf,
  iterate,
  meter,
  numberOf,
  repr,
  sizeOf,
  toStr,
  truth,
  typeName,
  type PyValue,
} from './values.ts';
import { parseNumber, parseString } from './literals.ts';

/** Names to values; assignments of the file go here. */
export type Scope = Map<string, PyValue>;

export const nodesOf = (node: SyntaxNode): SyntaxNode[] => {
  const nodes: SyntaxNode[] = [];
  for (let child = node.firstChild; child; child = child.nextSibling) if (child.name !== 'Comment') nodes.push(child);
  return nodes;
};

const REFUSED: Readonly<Record<string, string>> = {
  AwaitExpression: 'await is not supported',
  YieldExpression: 'yield is not supported',
  FormatString: 'f-strings are not supported',
  SetExpression: 'sets are not supported',
  SetComprehensionExpression: 'sets are not supported',
  NamedExpression: ':= is not supported',
  Ellipsis: '... is not supported',
};

type Token = { readonly operator: string; readonly unary: boolean } | { readonly operand: SyntaxNode };

const BINARY_POWER: Readonly<Record<string, number>> = {
  or: 1, and: 2, in: 4, 'not in': 4, is: 4, 'is not': 4, '<': 4, '>': 4, '<=': 4, '>=': 4, '==': 4, '!=': 4, '<>': 4,
  '|': 5, '^': 6, '&': 7, '<<': 8, '>>': 8, '+': 9, '-': 9, '*': 10, '/': 10, '//': 10, '%': 10, '**': 12,
}; // prettier-ignore
const NOT_POWER = 3;
const SIGN_POWER = 11;
const COMPARISON_POWER = 4;
/** A deeper expression is refused before it can exhaust the stack. */
const MAX_EXPRESSION_DEPTH = 200;

export class Expressions {
  readonly #source: string;
  readonly #scope: Scope;
  #depth = 0;

  constructor(source: string, scope: Scope) {
    this.#source = source;
    this.#scope = scope;
  }

  text(node: SyntaxNode): string {
    return this.#source.slice(node.from, node.to);
  }

  evaluate(node: SyntaxNode): PyValue {
    this.#depth += 1;
    if (this.#depth > MAX_EXPRESSION_DEPTH) throw new PyError('expression nested too deep');
    try {
      const value = this.#evaluate(node);
      meter.charge(1);
      return value;
    } finally {
      this.#depth -= 1;
    }
  }

  /** `a, b` without brackets is a tuple; one expression is itself. */
  evaluateList(nodes: readonly SyntaxNode[]): PyValue {
    const items = nodes.filter((node) => node.name !== ',');
    const [only] = items;
    if (only && items.length === 1 && nodes.length === 1) return this.evaluate(only);
    return new PyTuple(items.map((item) => this.evaluate(item)));
  }

  #evaluate(node: SyntaxNode): PyValue {
    switch (node.name) {
      case 'Number':
        return parseNumber(this.text(node));
      case 'String':
        return parseString(this.text(node));
      case 'ContinuedString':
        return checkedString(
          nodesOf(node)
            .map((part) => toStr(this.evaluate(part)))
            .join(''),
        );
      case 'Boolean':
        return this.text(node) === 'True';
      case 'None':
        return null;
      case 'VariableName':
        return this.#name(this.text(node));
      case 'ParenthesizedExpression': {
        const [inner] = nodesOf(node).filter((child) => child.name !== '(' && child.name !== ')');
        if (!inner) throw new PyError('empty expression');
        return this.evaluate(inner);
      }
      case 'ArrayExpression':
        return new PyList(checkedItems(this.#elements(node)));
      case 'TupleExpression':
        return new PyTuple(this.#elements(node));
      case 'DictionaryExpression':
        return this.#dict(node);
      case 'ArrayComprehensionExpression':
      case 'ComprehensionExpression':
        return this.#comprehension(node);
      case 'ConditionalExpression': {
        const [value, , condition, , other] = nodesOf(node);
        if (!value || !condition || !other) throw new PyError('incomplete expression');
        return this.evaluate(truth(this.evaluate(condition)) ? value : other);
      }
      case 'BinaryExpression':
      case 'UnaryExpression':
        return this.#operators(node);
      case 'MemberExpression':
        return this.#member(node);
      case 'CallExpression':
        return this.#call(node);
      case 'LambdaExpression':
        return this.#lambda(node);
      default:
        throw new PyError(REFUSED[node.name] ?? `${node.name} is not supported`);
    }
  }

  #name(name: string): PyValue {
    const own = this.#scope.get(name);
    if (own !== undefined) return own;
    const builtin = builtins.get(name);
    if (builtin !== undefined) return builtin;
    throw new PyError(`name '${name}' is not defined or not supported`);
  }

  #elements(node: SyntaxNode): PyValue[] {
    const items: PyValue[] = [];
    for (const child of nodesOf(node)) {
      if (['[', ']', '(', ')', ','].includes(child.name)) continue;
      if (child.name === '*') throw new PyError('* in lists is not supported');
      items.push(this.evaluate(child));
    }
    return items;
  }

  #dict(node: SyntaxNode): PyDict {
    const nodes = nodesOf(node).filter((child) => !['{', '}', ','].includes(child.name));
    const dict = new PyDict(nodes.filter((child) => child.name === ':').length);
    for (let i = 0; i < nodes.length; i += 3) {
      const [key, colon, value] = nodes.slice(i, i + 3);
      if (!key || colon?.name !== ':' || !value) throw new PyError('** in dicts is not supported');
      const k = this.evaluate(key);
      dict.entries.set(dictKey(k), [k, this.evaluate(value)]);
    }
    return dict;
  }

  /** `[value for a in b if c ...]`: as in Python 2, the loop's names stay. */
  #comprehension(node: SyntaxNode): PyList {
    const nodes = nodesOf(node).slice(1, -1);
    const [value, ...clauses] = nodes;
    if (!value) throw new PyError('empty expression');
    const items: PyValue[] = [];
    const run = (at: number): void => {
      const keyword = clauses[at];
      if (!keyword) {
        items.push(this.evaluate(value));
        checkedItems(items);
        return;
      }
      if (keyword.name === 'if') {
        const condition = clauses[at + 1];
        if (condition && truth(this.evaluate(condition))) run(at + 2);
        return;
      }
      const inAt = clauses.findIndex((child, i) => i > at && child.name === 'in');
      const source = clauses[inAt + 1];
      if (keyword.name !== 'for' || inAt < 0 || !source) throw new PyError('this comprehension is not supported');
      for (const item of iterate(this.evaluate(source))) {
        this.assign(clauses.slice(at + 1, inAt), item);
        run(inAt + 2);
      }
    };
    run(0);
    return new PyList(items);
  }

  /** Gives `value` to a target: a name, a list of targets, an element of a list or dict. */
  assign(targets: readonly SyntaxNode[], value: PyValue): void {
    const parts = targets.filter((node) => node.name !== ',');
    const [only] = parts;
    if (!only) throw new PyError('nothing to assign to');
    if (parts.length > 1 || targets.length > 1) {
      this.#unpack(parts, value);
      return;
    }
    switch (only.name) {
      case 'VariableName':
        this.#scope.set(this.text(only), value);
        return;
      case 'TupleExpression':
      case 'ArrayExpression':
      case 'ParenthesizedExpression':
        this.#unpack(
          nodesOf(only).filter((node) => !['(', ')', '[', ']', ','].includes(node.name)),
          value,
        );
        return;
      case 'MemberExpression':
        this.#assignMember(only, value);
        return;
      default:
        throw new PyError(`cannot assign to ${this.text(only)}`);
    }
  }

  #unpack(targets: readonly SyntaxNode[], value: PyValue): void {
    const items = iterate(value);
    if (items.length !== targets.length) {
      throw new PyError(`cannot unpack ${items.length} values into ${targets.length} names`);
    }
    targets.forEach((target, i) => {
      this.assign([target], items[i] ?? null);
    });
  }

  #assignMember(node: SyntaxNode, value: PyValue): void {
    const [object, bracket, index, close] = nodesOf(node);
    if (!object || bracket?.name !== '[' || !index || close?.name !== ']') {
      throw new PyError(`cannot assign to ${this.text(node)}`);
    }
    const container = this.evaluate(object);
    const key = this.evaluate(index);
    if (container instanceof PyDict) {
      container.entries.set(dictKey(key), [key, value]);
    } else if (container instanceof PyList) {
      const at = position(key, container.items.length);
      container.items[at] = value;
    } else {
      throw new PyError(`'${typeName(container)}' object does not support item assignment`);
    }
  }

  #member(node: SyntaxNode): PyValue {
    const [object, kind, ...rest] = nodesOf(node);
    if (!object) throw new PyError('incomplete expression');
    const value = this.evaluate(object);
    if (kind?.name === '.') {
      const name = rest[0] ? this.text(rest[0]) : '';
      if (value instanceof PyModule) {
        const member = value.members.get(name);
        if (member === undefined) throw new PyError(`${value.name}.${name} is not supported`);
        return member;
      }
      return methodOf(value, name);
    }
    const inside = rest.slice(0, -1);
    if (inside.some((part) => part.name === ':')) return this.#slice(value, inside);
    const key = this.evaluateList(inside);
    if (value instanceof PyDict) {
      const entry = value.entries.get(dictKey(key));
      if (!entry) throw new PyError(`KeyError: ${repr(key)}`);
      return entry[1];
    }
    if (typeof value === 'string') return value.charAt(position(key, value.length));
    if (value instanceof PyList || value instanceof PyTuple)
      return value.items[position(key, value.items.length)] ?? null;
    throw new PyError(`'${typeName(value)}' object cannot be indexed`);
  }

  #slice(value: PyValue, inside: readonly SyntaxNode[]): PyValue {
    const bounds: (number | undefined)[] = [undefined];
    for (const part of inside) {
      if (part.name === ':') bounds.push(undefined);
      else bounds[bounds.length - 1] = indexOf(this.evaluate(part));
    }
    const [from, to, step] = bounds;
    if (step !== undefined && step !== 1) throw new PyError('slices with a step are not supported');
    if (typeof value === 'string') return value.slice(from ?? 0, to ?? value.length);
    if (value instanceof PyList) return new PyList(value.items.slice(from ?? 0, to ?? value.items.length));
    if (value instanceof PyTuple) return new PyTuple(value.items.slice(from ?? 0, to ?? value.items.length));
    throw new PyError(`'${typeName(value)}' object cannot be sliced`);
  }

  #call(node: SyntaxNode): PyValue {
    const [callee, argList] = nodesOf(node);
    if (!callee || !argList) throw new PyError('incomplete call');
    const target = this.evaluate(callee);
    if (!(target instanceof PyFunction)) throw new PyError(`'${typeName(target)}' object is not callable`);
    const args: PyValue[] = [];
    const keywords = new Map<string, PyValue>();
    const parts = nodesOf(argList).filter((part) => !['(', ')', ','].includes(part.name));
    for (let i = 0; i < parts.length; i += 1) {
      const part = parts[i];
      if (!part) break;
      if (part.name === '*' || part.name === '**') throw new PyError('* in calls is not supported');
      const value = parts[i + 2];
      if (parts[i + 1]?.name === 'AssignOp' && value) {
        keywords.set(this.text(part), this.evaluate(value));
        i += 2;
      } else {
        args.push(this.evaluate(part));
      }
    }
    for (const arg of args) meter.charge(sizeOf(arg));
    const result = target.call(args, keywords);
    meter.charge(sizeOf(result));
    return result;
  }

  #lambda(node: SyntaxNode): PyValue {
    const nodes = nodesOf(node);
    const list = nodes.find((part) => part.name === 'ParamList');
    const body = nodes.at(-1);
    if (!body) throw new PyError('incomplete expression');
    return makeFunction('<lambda>', this.parameters(list), this.#scope, (scope) =>
      new Expressions(this.#source, scope).evaluate(body),
    );
  }

  /** The parameters of a definition. */
  parameters(list: SyntaxNode | undefined): Parameter[] {
    return parametersOf(
      list ? nodesOf(list) : [],
      (node) => this.text(node),
      (node) => this.evaluate(node),
    );
  }

  // Operators

  #operators(node: SyntaxNode): PyValue {
    const tokens: Token[] = [];
    this.#flatten(node, tokens);
    const climb = new Climber(tokens, (operand) => this.evaluate(operand));
    return climb.expression(0, true);
  }

  #flatten(node: SyntaxNode, tokens: Token[]): void {
    if (node.name !== 'BinaryExpression' && node.name !== 'UnaryExpression') {
      tokens.push({ operand: node });
      return;
    }
    const parts = nodesOf(node);
    const unary = node.name === 'UnaryExpression';
    const operator = parts
      .slice(unary ? 0 : 1, -1)
      .map((part) => this.text(part))
      .join(' ');
    const [left] = parts;
    const right = parts.at(-1);
    if (!left || !right || parts.length < 2) throw new PyError('incomplete expression');
    if (!unary) this.#flatten(left, tokens);
    tokens.push({ operator, unary });
    this.#flatten(right, tokens);
  }
}

/** Precedence climbing over a flat row of operators and operands; `live` false skips what Python would not evaluate. */
class Climber {
  readonly #tokens: readonly Token[];
  readonly #operand: (node: SyntaxNode) => PyValue;
  #at = 0;

  constructor(tokens: readonly Token[], operand: (node: SyntaxNode) => PyValue) {
    this.#tokens = tokens;
    this.#operand = operand;
  }

  expression(minimum: number, live: boolean): PyValue {
    let left = this.#prefix(live);
    for (;;) {
      const token = this.#tokens[this.#at];
      if (!token || !('operator' in token)) return left;
      const power = BINARY_POWER[token.operator];
      if (power === undefined) throw new PyError(`operator ${token.operator} is not supported`);
      if (power < minimum) return left;
      if (power === COMPARISON_POWER) {
        left = this.#comparisons(left, live);
        continue;
      }
      this.#at += 1;
      if (token.operator === 'and' || token.operator === 'or') {
        const decided = live && truth(left) === (token.operator === 'or');
        const right = this.expression(power + 1, live && !decided);
        if (!decided) left = right;
      } else {
        // ** binds to the right.
        const right = this.expression(token.operator === '**' ? SIGN_POWER : power + 1, live);
        if (live) left = arithmetic(token.operator, left, right);
      }
    }
  }

  #prefix(live: boolean): PyValue {
    const token = this.#tokens[this.#at];
    this.#at += 1;
    if (!token) throw new PyError('incomplete expression');
    if ('operand' in token) return live ? this.#operand(token.operand) : null;
    if (!token.unary) throw new PyError('incomplete expression');
    const value = this.expression(token.operator === 'not' ? NOT_POWER : SIGN_POWER, live);
    if (!live) return null;
    return token.operator === 'not' ? !truth(value) : sign(token.operator, value);
  }

  /** `a < b < c` is `a < b and b < c`. */
  #comparisons(first: PyValue, live: boolean): PyValue {
    let left = first;
    let result = true;
    for (;;) {
      const token = this.#tokens[this.#at];
      if (!token || !('operator' in token) || BINARY_POWER[token.operator] !== COMPARISON_POWER) return result;
      this.#at += 1;
      const right = this.expression(COMPARISON_POWER + 1, live && result);
      if (live && result) result = compareBy(token.operator, left, right);
      left = right;
    }
  }
}

function sign(operator: string, value: PyValue): PyValue {
  const number = numberOf(value);
  if (number === undefined) throw new PyError(`bad operand type for unary ${operator}: '${typeName(value)}'`);
  if (operator === '+') return number;
  if (operator === '-') return -number;
  if (operator === '~' && typeof number === 'bigint') return ~number;
  throw new PyError(`operator ${operator} is not supported`);
}

function compareBy(operator: string, a: PyValue, b: PyValue): boolean {
  switch (operator) {
    case '==':
      return equal(a, b);
    case '!=':
    case '<>':
      return !equal(a, b);
    case 'is':
      return a === b;
    case 'is not':
      return a !== b;
    case 'in':
      return contains(b, a);
    case 'not in':
      return !contains(b, a);
    default: {
      const order = compare(a, b);
      if (operator === '<') return order < 0;
      if (operator === '>') return order > 0;
      return operator === '<=' ? order <= 0 : order >= 0;
    }
  }
}

function contains(container: PyValue, item: PyValue): boolean {
  if (typeof container === 'string') {
    if (typeof item !== 'string') throw new PyError("'in <string>' requires string as left operand");
    return container.includes(item);
  }
  if (container instanceof PyDict) return container.entries.has(dictKey(item));
  return iterate(container).some((other) => equal(item, other));
}

/** An index counted from the end when negative. Throws PyError. */
function position(key: PyValue, length: number): number {
  const index = indexOf(key);
  const at = index < 0 ? index + length : index;
  if (at < 0 || at >= length) throw new PyError('index out of range');
  return at;
}

export function arithmetic(operator: string, a: PyValue, b: PyValue): PyValue {
  meter.charge(sizeOf(a) + sizeOf(b));
  if (operator === '%' && typeof a === 'string') return formatPercent(a, b);
  if (operator === '+') {
    if (typeof a === 'string' && typeof b === 'string') return checkedString(a + b);
    if (a instanceof PyList && b instanceof PyList) return new PyList(checkedItems([...a.items, ...b.items]));
    if (a instanceof PyTuple && b instanceof PyTuple) return new PyTuple(checkedItems([...a.items, ...b.items]));
  }
  if (operator === '*') {
    const repeated = repeat(a, b) ?? repeat(b, a);
    if (repeated !== undefined) return repeated;
  }
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x === undefined || y === undefined) {
    throw new PyError(`unsupported operand types for ${operator}: '${typeName(a)}' and '${typeName(b)}'`);
  }
  if (typeof x === 'bigint' && typeof y === 'bigint') return integers(operator, x, y);
  return floats(operator, Number(x), Number(y));
}

function repeat(value: PyValue, count: PyValue): PyValue | undefined {
  if (!(typeof value === 'string' || value instanceof PyList || value instanceof PyTuple)) return undefined;
  if (typeof count !== 'bigint' && typeof count !== 'boolean') return undefined;
  const times = Math.max(0, indexOf(count));
  const length = typeof value === 'string' ? value.length : value.items.length;
  if (length * times > 1_000_000) throw new PyError('value too long');
  meter.charge(length * times);
  if (typeof value === 'string') return checkedString(value.repeat(times));
  const items = checkedItems(Array.from({ length: times }, () => value.items).flat());
  return value instanceof PyList ? new PyList(items) : new PyTuple(items);
}

const MAX_SHIFT = 4096n;

function integers(operator: string, x: bigint, y: bigint): PyValue {
  switch (operator) {
    case '+':
      return checkedInt(x + y);
    case '-':
      return checkedInt(x - y);
    case '*':
      return checkedInt(x * y);
    case '/':
    case '//':
      return floorDivide(x, y);
    case '%':
      return x - floorDivide(x, y) * y;
    case '**':
      if (y < 0n) return Number(x) ** Number(y);
      if (y > MAX_SHIFT && x !== 0n && x !== 1n && x !== -1n) throw new PyError('number too large');
      return checkedInt(x ** (y > MAX_SHIFT ? 2n + (y & 1n) : y));
    case '<<':
    case '>>':
      if (y < 0n) throw new PyError('negative shift count');
      if (operator === '>>') return y > MAX_SHIFT ? (x < 0n ? -1n : 0n) : x >> y;
      if (y > MAX_SHIFT) throw new PyError('number too large');
      return checkedInt(x << y);
    case '&':
      return x & y;
    case '|':
      return x | y;
    case '^':
      return x ^ y;
    default:
      throw new PyError(`operator ${operator} is not supported`);
  }
}

/** Python 2's division of ints rounds down. */
function floorDivide(x: bigint, y: bigint): bigint {
  if (y === 0n) throw new PyError('integer division or modulo by zero');
  const quotient = x / y;
  return quotient * y !== x && x < 0n !== y < 0n ? quotient - 1n : quotient;
}

function floats(operator: string, x: number, y: number): number {
  switch (operator) {
    case '+':
      return x + y;
    case '-':
      return x - y;
    case '*':
      return x * y;
    case '/':
    case '//':
    case '%': {
      if (y === 0) throw new PyError('float division by zero');
      if (operator === '/') return x / y;
      return operator === '//' ? Math.floor(x / y) : x - Math.floor(x / y) * y;
    }
    case '**':
      return x ** y;
    default:
      throw new PyError(`unsupported operand types for ${operator}: 'float'`);
  }
}
