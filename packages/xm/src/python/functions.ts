/** Functions that a config file defines (`def`, `lambda`): parameters, their binding to arguments, the scope of a call. */
import type { SyntaxNode } from '@lezer/common';
import { PyError, PyFunction, meter, type PyValue } from './values.ts';

/** Names of a running function: what it assigns is its own, what it does not have is looked for outside. */
export class LocalScope extends Map<string, PyValue> {
  readonly #outside: ReadonlyMap<string, PyValue>;
  constructor(outside: ReadonlyMap<string, PyValue>) {
    super();
    this.#outside = outside;
  }
  override get(name: string): PyValue | undefined {
    return super.get(name) ?? (super.has(name) ? null : this.#outside.get(name));
  }
}

export interface Parameter {
  readonly name: string;
  readonly fallback: PyValue | undefined;
}

/** The parameters of a list; defaults are evaluated now, as Python does. Throws PyError. */
export function parametersOf(
  list: readonly SyntaxNode[],
  text: (node: SyntaxNode) => string,
  evaluate: (node: SyntaxNode) => PyValue,
): Parameter[] {
  const parameters: Parameter[] = [];
  const nodes = list.filter((node) => !['(', ')'].includes(node.name));
  for (let i = 0; i < nodes.length; i += 1) {
    const node = nodes[i];
    if (!node || node.name === ',') continue;
    if (node.name !== 'VariableName') throw new PyError(`parameters with ${text(node)} are not supported`);
    const value = nodes[i + 1]?.name === 'AssignOp' ? nodes[i + 2] : undefined;
    if (value) i += 2;
    parameters.push({ name: text(node), fallback: value ? evaluate(value) : undefined });
  }
  return parameters;
}

/** A function whose body is run by `run` in a scope with its arguments. */
export function makeFunction(
  name: string,
  parameters: readonly Parameter[],
  outside: ReadonlyMap<string, PyValue>,
  run: (scope: LocalScope) => PyValue,
): PyFunction {
  return new PyFunction(name, (args, keywords) => {
    const scope = new LocalScope(outside);
    if (args.length > parameters.length) {
      throw new PyError(`${name}() takes ${parameters.length} arguments (${args.length} given)`);
    }
    for (const keyword of keywords.keys()) {
      const at = parameters.findIndex((parameter) => parameter.name === keyword);
      if (at < 0) throw new PyError(`${name}() got an unexpected keyword argument '${keyword}'`);
      if (at < args.length) throw new PyError(`${name}() got multiple values for keyword argument '${keyword}'`);
    }
    for (const [i, parameter] of parameters.entries()) {
      const value = args[i] ?? (i < args.length ? null : (keywords.get(parameter.name) ?? parameter.fallback));
      if (value === undefined)
        throw new PyError(`${name}() takes ${parameters.length} arguments (${args.length} given)`);
      scope.set(parameter.name, value);
    }
    return meter.within(() => run(scope));
  });
}
