/**
 * What a row of the table of methods is, and how arguments are taken from what came over the wire. Dispatch,
 * system.listMethods, methodHelp and methodSignature all come from the rows.
 */
import { Float, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { DomainManager } from '../domain/manager.ts';
import type { Vm } from '../domain/vm.ts';
import { XendError } from '../errors.ts';
import { parseCpuList } from '../config/cpus.ts';

export interface MethodContext {
  readonly manager: DomainManager;
}

/** What a parameter may be. `dom` is a name, an id or a UUID; `sxp` a configuration; `cpus` a list of pCPUs as text. */
export interface ParamTypes {
  dom: string;
  string: string;
  int: number;
  optionalInt: number | undefined;
  bool: boolean;
  optionalString: string | undefined;
  optionalBool: boolean | undefined;
  names: readonly string[];
  sxp: Sxp;
  cpus: readonly number[];
  any: XmlRpcValue;
}

export interface Param<T extends keyof ParamTypes = keyof ParamTypes> {
  readonly name: string;
  readonly type: T;
  /** Makes the parameter optional. */
  readonly default?: ParamTypes[T];
}

/** XML-RPC's own names of types, for methodSignature. */
export type WireType = 'nil' | 'int' | 'boolean' | 'string' | 'array' | 'struct';

export const WIRE_TYPES: Readonly<Record<keyof ParamTypes, WireType>> = {
  dom: 'string',
  string: 'string',
  optionalString: 'string',
  int: 'int',
  optionalInt: 'int',
  bool: 'boolean',
  optionalBool: 'boolean',
  names: 'array',
  sxp: 'array',
  cpus: 'string',
  any: 'string',
};

export interface Method {
  readonly name: string;
  readonly doc: string;
  readonly params: readonly Param[];
  readonly returns: WireType;
  /** Faults other than 1, for the API page. */
  readonly faults: readonly string[];
  run(context: MethodContext, args: readonly XmlRpcValue[]): Promise<XmlRpcValue>;
}

type Args<P extends readonly Param[]> = {
  readonly [I in keyof P]: P[I] extends Param<infer T> ? ParamTypes[T] : never;
};

/** A row whose handler gets its arguments converted. */
export function method<const P extends readonly Param[]>(row: {
  readonly name: string;
  readonly doc: string;
  readonly params: P;
  readonly returns: WireType;
  readonly faults?: readonly string[];
  run(context: MethodContext, ...args: Args<P>): Promise<XmlRpcValue>;
}): Method {
  return {
    ...row,
    faults: row.faults ?? [],
    run: (context, args) => row.run(context, ...(convertAll(row.name, row.params, args) as Args<P>)),
  };
}

/** Wrong counts and types of arguments: our caller's mistakes that Python raised as TypeError, so fault 1. */
export class ArgumentError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ArgumentError';
  }
}

function convertAll(name: string, params: readonly Param[], args: readonly XmlRpcValue[]): unknown[] {
  const required = params.filter((param) => !('default' in param)).length;
  if (args.length < required || args.length > params.length) {
    throw new ArgumentError(countText(name, required, params.length, args.length));
  }
  return params.map((param, index) => (index < args.length ? convert(param, args[index] ?? null) : param.default));
}

/** Methods that 4.4 handed to the domain through a lambda of (domid, *args). */
const DISPATCHED = new Set([
  'device_create', 'device_configure', 'destroyDevice', 'getDeviceSxprs', 'setMemoryTarget', 'setName', 'setVCpuCount',
  'shutdown', 'send_sysrq', 'getVCPUInfo', 'waitForDevices', 'getRestartCount', 'getBlockDeviceClass',
]); // prettier-ignore

/** The Python function behind a method, and whether it counts its `self` among the arguments. */
function pythonFunction(name: string): { readonly callee: string; readonly self: 0 | 1 } {
  const short = name.slice(name.lastIndexOf('.') + 1);
  if (name === 'xend.node.log') return { callee: 'get_log', self: 0 };
  if (/^xend\.(?:domain|domains|domains_with_state|security\..*)$/.test(name) || name.startsWith('system.')) {
    return { callee: short, self: 0 };
  }
  if (name === 'xend.domain.create' || name === 'xend.domain.restore') return { callee: `domain_${short}`, self: 0 };
  if (name.startsWith('xend.cpu_pool.')) return { callee: `pool_${short}`, self: 1 };
  if (name.startsWith('xend.domain.')) return { callee: DISPATCHED.has(short) ? short : `domain_${short}`, self: 1 };
  return { callee: short, self: 1 };
}

/** What Python's TypeError says of a wrong count of arguments: scripts show it to people, and some match it. */
function countText(name: string, required: number, most: number, given: number): string {
  const { callee, self } = pythonFunction(name);
  if (given === 0 && DISPATCHED.has(callee)) return '<lambda>() takes at least 1 argument (0 given)';
  // The lambda takes the domain away and the method gets itself instead.
  const extra = DISPATCHED.has(callee) ? 0 : self;
  const [how, count] =
    required === most
      ? ['exactly', required + extra]
      : given < required
        ? ['at least', required + extra]
        : ['at most', most + extra];
  const wanted = count === 0 ? 'no arguments' : `${how} ${count} argument${count === 1 ? '' : 's'}`;
  return `${callee}() takes ${wanted} (${given + extra} given)`;
}

function convert(param: Param, value: XmlRpcValue): unknown {
  const refuse = (wanted: string): never => {
    throw new ArgumentError(`${param.name}: ${wanted} is required`);
  };
  switch (param.type) {
    case 'any':
      return value;
    case 'dom':
    case 'string':
      if (typeof value === 'number') return String(value);
      return typeof value === 'string' ? value : refuse('a string');
    case 'optionalString':
      return value === null ? undefined : convert({ ...param, type: 'string' }, value);
    case 'optionalBool':
      return value === null ? undefined : convert({ ...param, type: 'bool' }, value);
    case 'names':
      if (!Array.isArray(value)) return refuse('a list of names');
      return (value as XmlRpcValue[]).map((item) => convert({ ...param, type: 'string' }, item));
    case 'optionalInt':
      return value === null ? undefined : (integer(value) ?? refuse('an integer'));
    case 'int':
      return integer(value) ?? refuse('an integer');
    case 'bool':
      if (typeof value === 'boolean' || value === null) return value === true;
      // Python's truth: xm of Xen 4.4 sends the word `-f` where something is forced.
      return (integer(value) ?? (typeof value === 'string' ? value.length : refuse('a boolean'))) !== 0;
    case 'cpus': {
      const cpus = typeof value === 'number' ? [value] : typeof value === 'string' ? parseCpuList(value) : undefined;
      if (!cpus) return refuse('a list of CPUs');
      if (cpus.length === 0) throw new XendError('no CPUs given');
      return cpus;
    }
    case 'sxp': {
      const sxp = Array.isArray(value) ? sxpOf(value) : undefined;
      return sxp ?? refuse('an SXP list');
    }
  }
}

function integer(value: XmlRpcValue): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value === 'boolean') return Number(value);
  if (value instanceof Float) return Number.isInteger(value.value) ? value.value : undefined;
  if (typeof value === 'string' && /^\s*-?\d{1,15}\s*$/.test(value)) return Number(value);
  return undefined;
}

/** A struct (xm of Xen 4.4 sends `cpuid` as one) is a list of pairs; dates and bytes have no place in SXP. */
function sxpOf(value: XmlRpcValue): Sxp | undefined {
  if (value === null || typeof value !== 'object' || value instanceof Float) return value;
  if (value instanceof Date || value instanceof Uint8Array) return undefined;
  const items = Array.isArray(value) ? (value as readonly XmlRpcValue[]) : Object.entries(value as XmlRpcStruct);
  const list: Sxp[] = [];
  for (const item of items) {
    const sxp = sxpOf(item);
    if (sxp === undefined) return undefined;
    list.push(sxp);
  }
  return list;
}

/** The parameter that most methods start with. */
export const DOM = { name: 'dom', type: 'dom' } as const;
export const INVALID_DOMAIN = '3 invalid domain';
export const XEND_ERROR = '2 xend error';

/** The machine that an argument means. */
export const vmOf = (context: MethodContext, dom: string): Promise<Vm> => context.manager.lookup(dom);
