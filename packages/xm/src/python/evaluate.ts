/**
 * A config file to its settings: statements of the subset are interpreted, everything else is an error with its line.
 * Nothing of the file is ever handed to a real interpreter. Work, sizes and nesting are bounded (values.ts).
 */
import type { SyntaxNode } from '@lezer/common';
import { parser } from '@lezer/python';
import { ConfigFileError } from './errors.ts';
import { makeFunction } from './functions.ts';
import { Expressions, arithmetic, nodesOf, type Scope } from './expressions.ts';
import { modulesOf, type PythonWorld } from './modules.ts';
import { PyError, meter, iterate, toStr, truth, type PyModule, type PyValue } from './values.ts';

/** Characters of a file. */
const MAX_SOURCE = 1 << 20;
/** Units of work (see Meter). */
const MAX_WORK = 5_000_000;
const MAX_BLOCK_DEPTH = 60;

export interface EvaluateModules {
  readonly world: PythonWorld;
  /** Where `print` goes. */
  print(line: string): void;
}

const REFUSED: Readonly<Record<string, string>> = {
  ClassDefinition: 'class definitions are not supported',
  DecoratedStatement: 'decorators are not supported',
  TryStatement: 'try is not supported',
  WithStatement: 'with is not supported',
  ScopeStatement: 'global is not supported',
  YieldStatement: "'yield' outside function",
  MatchStatement: 'match is not supported',
  TypeDefinition: 'type definitions are not supported',
  ExecStatement: 'exec is not supported',
};

class LoopJump extends Error {
  readonly kind: 'break' | 'continue';
  constructor(kind: 'break' | 'continue') {
    super(`'${kind}' outside loop`);
    this.kind = kind;
  }
}

/** What ends a function. */
class Return extends Error {
  readonly value: PyValue;
  constructor(value: PyValue) {
    super("'return' outside function");
    this.value = value;
  }
}

/** Runs the file in `scope`: what is in it is defined beforehand, what the file assigns is in it after. Throws ConfigFileError. */
export function evaluateConfig(source: string, scope: Scope, modules: EvaluateModules): void {
  if (source.length > MAX_SOURCE) throw new ConfigFileError(`the file is longer than ${MAX_SOURCE} characters`, 1);
  const text = source.replaceAll('\r\n', '\n').replace(/^\uFEFF/, '');
  const tree = parser.parse(text);
  checkSyntax(tree.topNode, text);
  meter.reset(MAX_WORK);
  const known = modulesOf(modules.world);
  for (const name of ['os', 'sys']) {
    const module = known.get(name);
    if (module) scope.set(name, module);
  }
  const print = (line: string): void => {
    modules.print(line);
  };
  new Interpreter(text, scope, known, print).run(tree.topNode);
}

const lineAt = (source: string, offset: number): number => source.slice(0, offset).split('\n').length;

/** The grammar recovers from errors and forgives odd indentation: a config file with either is refused. */
function checkSyntax(top: SyntaxNode, text: string): void {
  const cursor = top.cursor();
  let depth = 0;
  do {
    if (cursor.type.isError)
      throw new ConfigFileError('invalid syntax', lineAt(text, Math.min(cursor.from, text.length)));
    if (cursor.name === 'Body') depth += 1;
    if (depth > MAX_SOURCE) break;
  } while (cursor.next());
  checkIndentation(top, text, 0);
}

function checkIndentation(block: SyntaxNode, text: string, depth: number): void {
  let indent: string | undefined = block.name === 'Script' ? '' : undefined;
  if (depth > MAX_BLOCK_DEPTH) throw new ConfigFileError('blocks nested too deep', lineAt(text, block.from));
  for (const statement of nodesOf(block)) {
    if (statement.name === ':') continue;
    const lineStart = text.lastIndexOf('\n', statement.from - 1) + 1;
    const before = text.slice(lineStart, statement.from);
    // A statement behind `if x:` or `;` on the same line has no indentation of its own.
    if (/^[ \t\f]*$/.test(before)) {
      indent ??= before;
      if (before !== indent) throw new ConfigFileError('unexpected indent', lineAt(text, statement.from));
    }
    for (const child of nodesOf(statement)) if (child.name === 'Body') checkIndentation(child, text, depth + 1);
  }
}

class Interpreter {
  readonly #source: string;
  readonly #scope: Scope;
  readonly #expressions: Expressions;
  readonly #modules: ReadonlyMap<string, PyModule>;
  readonly #print: (line: string) => void;

  constructor(source: string, scope: Scope, modules: ReadonlyMap<string, PyModule>, print: (line: string) => void) {
    this.#source = source;
    this.#scope = scope;
    this.#expressions = new Expressions(source, scope);
    this.#modules = modules;
    this.#print = print;
  }

  run(top: SyntaxNode): void {
    for (const statement of nodesOf(top)) {
      try {
        this.#statement(statement);
      } catch (error) {
        if (error instanceof LoopJump) throw new ConfigFileError(error.message, lineAt(this.#source, statement.from));
        if (error instanceof Return)
          throw new ConfigFileError("'return' outside function", lineAt(this.#source, statement.from));
        if (error instanceof RangeError)
          throw new ConfigFileError('nested too deep', lineAt(this.#source, statement.from));
        throw error;
      }
    }
  }

  #statement(node: SyntaxNode): void {
    try {
      meter.charge(1);
      this.#execute(node);
    } catch (error) {
      if (error instanceof PyError) throw new ConfigFileError(error.message, lineAt(this.#source, node.from));
      throw error;
    }
  }

  #execute(node: SyntaxNode): void {
    const parts = nodesOf(node);
    switch (node.name) {
      case 'StatementGroup':
        for (const part of parts) if (part.name !== ';') this.#statement(part);
        return;
      case 'ExpressionStatement':
        this.#expressionStatement(parts);
        return;
      case 'AssignStatement':
        this.#assign(parts);
        return;
      case 'UpdateStatement':
        this.#update(parts);
        return;
      case 'IfStatement':
        this.#if(parts);
        return;
      case 'ForStatement':
        this.#for(parts);
        return;
      case 'WhileStatement':
        this.#while(parts);
        return;
      case 'ImportStatement':
        this.#import(node);
        return;
      case 'PrintStatement':
        this.#print(
          parts
            .slice(1)
            .map((part) => toStr(this.#expressions.evaluate(part)))
            .join(' '),
        );
        return;
      case 'FunctionDefinition':
        this.#define(parts);
        return;
      case 'ReturnStatement':
        throw new Return(parts.length > 1 ? this.#expressions.evaluateList(parts.slice(1)) : null);
      case 'RaiseStatement':
        throw new PyError(this.#raised(parts.slice(1)));
      case 'AssertStatement':
        this.#assert(parts.slice(1));
        return;
      case 'DeleteStatement':
        this.#delete(parts.slice(1));
        return;
      case 'PassStatement':
        return;
      case 'BreakStatement':
        throw new LoopJump('break');
      case 'ContinueStatement':
        throw new LoopJump('continue');
      default:
        throw new PyError(REFUSED[node.name] ?? `${node.name} is not supported`);
    }
  }

  #expressionStatement(parts: readonly SyntaxNode[]): void {
    const [only] = parts;
    if (only?.name === 'CallExpression' && parts.length === 1) {
      const [callee, args] = nodesOf(only);
      if (callee && args && this.#expressions.text(callee) === 'print') {
        const values = nodesOf(args).filter((part) => !['(', ')', ','].includes(part.name));
        this.#print(values.map((part) => toStr(this.#expressions.evaluate(part))).join(' '));
        return;
      }
    }
    this.#expressions.evaluateList(parts);
  }

  /** `a = b, c = value`: all but the last part are targets. */
  #assign(parts: readonly SyntaxNode[]): void {
    if (parts.some((part) => part.name === 'TypeDef')) throw new PyError('type annotations are not supported');
    const groups: SyntaxNode[][] = [[]];
    for (const part of parts) {
      if (part.name === 'AssignOp') groups.push([]);
      else groups.at(-1)?.push(part);
    }
    const value = this.#expressions.evaluateList(groups.pop() ?? []);
    for (const targets of groups) this.#expressions.assign(targets, value);
  }

  #update(parts: readonly SyntaxNode[]): void {
    const [target, operator, ...rest] = parts;
    if (!target || !operator) throw new PyError('incomplete assignment');
    const symbol = this.#expressions.text(operator).slice(0, -1);
    const current = this.#expressions.evaluate(target);
    this.#expressions.assign([target], arithmetic(symbol, current, this.#expressions.evaluateList(rest)));
  }

  #if(parts: readonly SyntaxNode[]): void {
    for (let i = 0; i < parts.length;) {
      const keyword = parts[i]?.name;
      if (keyword === 'else') {
        this.#body(parts[i + 1]);
        return;
      }
      const condition = parts[i + 1];
      if (condition && truth(this.#expressions.evaluate(condition))) {
        this.#body(parts[i + 2]);
        return;
      }
      i += 3;
    }
  }

  #for(parts: readonly SyntaxNode[]): void {
    const inAt = parts.findIndex((part) => part.name === 'in');
    const bodyAt = parts.findIndex((part) => part.name === 'Body');
    const items: readonly PyValue[] = iterate(this.#expressions.evaluateList(parts.slice(inAt + 1, bodyAt)));
    for (const item of items) {
      this.#expressions.assign(parts.slice(1, inAt), item);
      if (!this.#loopBody(parts[bodyAt])) return;
    }
    this.#body(parts[bodyAt + 2]);
  }

  #while(parts: readonly SyntaxNode[]): void {
    const [, condition, body, , otherwise] = parts;
    while (condition && truth(this.#expressions.evaluate(condition))) {
      meter.charge(1);
      if (!this.#loopBody(body)) return;
    }
    this.#body(otherwise);
  }

  /** False when the loop was left by break. */
  #loopBody(body: SyntaxNode | undefined): boolean {
    try {
      this.#body(body);
    } catch (error) {
      if (!(error instanceof LoopJump)) throw error;
      return error.kind === 'continue';
    }
    return true;
  }

  #body(body: SyntaxNode | undefined): void {
    if (!body) return;
    for (const statement of nodesOf(body)) if (statement.name !== ':') this.#statement(statement);
  }

  #define(parts: readonly SyntaxNode[]): void {
    const [, name, list, body] = parts;
    if (name?.name !== 'VariableName' || list?.name !== 'ParamList' || body?.name !== 'Body') {
      throw new PyError('this function definition is not supported');
    }
    const named = this.#expressions.text(name);
    const made = makeFunction(named, this.#expressions.parameters(list), this.#scope, (scope) =>
      new Interpreter(this.#source, scope, this.#modules, this.#print).#runFunction(body),
    );
    this.#scope.set(named, made);
  }

  #runFunction(body: SyntaxNode): PyValue {
    try {
      this.#body(body);
    } catch (error) {
      if (error instanceof Return) return error.value;
      if (error instanceof LoopJump) throw new PyError(error.message);
      throw error;
    }
    return null;
  }

  /** `raise ValueError`, `raise ValueError, text`, `raise ValueError(text)`: the file's own refusal. */
  #raised(parts: readonly SyntaxNode[]): string {
    const [what, , detail] = parts;
    const [callee, list] = what?.name === 'CallExpression' ? nodesOf(what) : [what];
    const name = callee ? this.#expressions.text(callee) : '';
    if (!/^\w*(?:Error|Exception)$/.test(name))
      throw new PyError('raise is supported with the name of an exception only');
    const inside = list ? nodesOf(list).find((node) => !['(', ')', ','].includes(node.name)) : detail;
    return inside ? toStr(this.#expressions.evaluate(inside)) : name;
  }

  #assert([condition, , text]: readonly SyntaxNode[]): void {
    if (condition && truth(this.#expressions.evaluate(condition))) return;
    throw new PyError(text ? toStr(this.#expressions.evaluate(text)) : 'AssertionError');
  }

  #delete(parts: readonly SyntaxNode[]): void {
    for (const part of parts) {
      if (part.name === ',') continue;
      if (part.name !== 'VariableName') throw new PyError('del is supported for names only');
      const name = this.#expressions.text(part);
      if (!this.#scope.delete(name)) throw new PyError(`name '${name}' is not defined or not supported`);
    }
  }

  #import(node: SyntaxNode): void {
    const words = this.#expressions
      .text(node)
      .replaceAll(/[()\\]/g, ' ')
      .trim();
    const from = /^from\s+([\w.]+)\s+import\s+(.+)$/s.exec(words);
    const [, moduleName = '', names = ''] = from ?? [];
    const plain = /^import\s+(.+)$/s.exec(words)?.[1] ?? '';
    if (from) {
      const module = this.#module(moduleName);
      if (names.trim() === '*') {
        for (const [name, member] of module.members) this.#scope.set(name, member);
        return;
      }
      for (const [name, as] of splitNames(names)) {
        const member = module.members.get(name);
        if (member === undefined)
          throw new PyError(`cannot import name ${name} from ${moduleName}: it is not supported`);
        this.#scope.set(as, member);
      }
      return;
    }
    for (const [name, as] of splitNames(plain)) {
      const module = this.#module(name);
      // `import os.path` gives the name os.
      if (as === name && name.includes('.'))
        this.#scope.set(name.split('.')[0] ?? name, this.#module(name.split('.')[0] ?? name));
      else this.#scope.set(as, module);
    }
  }

  #module(name: string): PyModule {
    const module = this.#modules.get(name);
    if (!module) throw new PyError(`import of ${name} is not supported (os, os.path, sys, string and re are)`);
    return module;
  }
}

/** `a, b as c` as pairs of name and local name. */
function splitNames(text: string): [string, string][] {
  return text.split(',').flatMap((part): [string, string][] => {
    const match = /^\s*([\w.]+)(?:\s+as\s+(\w+))?\s*$/.exec(part);
    return match?.[1] === undefined ? [] : [[match[1], match[2] ?? match[1]]];
  });
}
