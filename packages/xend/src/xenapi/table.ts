/**
 * The table of the Xen-API: a class is its fields and methods, and from them come getters, setters, add_to_ and
 * remove_from_, get_record, get_all and the others (Xen 4.4 `XendAPI.py`, _decorate). Dispatch, host.list_methods,
 * system.listMethods and argument counts are read from the rows.
 */
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { XenApiPeer } from './api.ts';
import { handleInvalid, notAllowed } from './errors.ts';
import type { EventOperation } from './events.ts';
import type { Session } from './sessions.ts';
import { convert, type Answer, type Kind, type KindValues } from './values.ts';
import type { World } from './world.ts';

/** One call under way. */
export interface Call {
  readonly method: string;
  readonly peer: XenApiPeer;
  /** Of the caller; methods without one never read it. */
  readonly session: Session;
  /** Says how much of the work is done, in hundredths; only `Async.` calls show it. */
  readonly progress: (percent: number) => void;
}

export interface Param<K extends Kind = Kind> {
  readonly name: string;
  readonly kind: K;
  /** xend 4.4 did not take it, today's clients send it. */
  readonly optional?: boolean;
}

export interface Row {
  readonly name: string;
  readonly class: string;
  readonly doc: string;
  /** After the session. */
  readonly params: readonly Param[];
  /** Kind of the result, a class's name, or 'void'. */
  readonly returns: string;
  /** Whether there is an `Async.` form. */
  readonly async: boolean;
  /** Whether the first argument is a session. */
  readonly session: boolean;
  /** Whether Xen 4.4 has it. */
  readonly original: boolean;
  /** What listeners are told when it has succeeded. */
  readonly effect?: { readonly operation: EventOperation; readonly field: string };
  /** Whether it only reads. */
  readonly reads: boolean;
  run(world: World, call: Call, args: readonly XmlRpcValue[]): Promise<Answer>;
}

export interface ApiClass {
  readonly name: string;
  readonly doc: string;
  readonly rows: readonly Row[];
  readonly fields: readonly { readonly name: string; readonly kind: Kind; readonly writable: boolean }[];
  /** The record behind a reference, or undefined when there is no such object. */
  record(world: World, ref: string): Promise<Readonly<Record<string, Answer>> | undefined>;
}

export interface Field<T> {
  readonly name: string;
  readonly kind: Kind;
  readonly get: (world: World, object: T) => Answer | Promise<Answer>;
  readonly set?: (world: World, object: T, value: never, call: Call) => Promise<void> | void;
  /** Whether a map has add_to_ and remove_from_. */
  readonly entries?: boolean;
  /** Whether get_record leaves it out. */
  readonly apart?: boolean;
  readonly original?: boolean;
}

/** What a handler gives: nothing at all is '' to the caller. */
type Result = Answer | void | Promise<Answer> | Promise<void>;

type Args<P extends readonly Param[]> = {
  readonly [I in keyof P]: P[I] extends Param<infer K>
    ? P[I] extends { readonly optional: true }
      ? KindValues[K] | undefined
      : KindValues[K]
    : never;
};

/** A method of a class or of its objects, as it is written down. */
export interface Operation<T> {
  readonly name: string;
  readonly doc: string;
  readonly params: readonly Param[];
  readonly returns: string;
  /** Whether it is called on an object. */
  readonly onObject: boolean;
  readonly original: boolean;
  readonly reads: boolean;
  readonly session: boolean;
  run(world: World, call: Call, self: T | undefined, args: readonly unknown[]): Result;
}

interface OperationSpec<P extends readonly Param[]> {
  readonly name: string;
  readonly doc: string;
  readonly params?: P;
  readonly returns?: string;
  /** false: ours, Xen 4.4 lacks it. */
  readonly original?: boolean;
  readonly reads?: boolean;
  readonly session?: boolean;
}

/** Writes down the fields and methods of objects of one type. */
export interface Writer<T> {
  readonly ro: (
    name: string,
    kind: Kind,
    get: Field<T>['get'],
    more?: Pick<Field<T>, 'apart' | 'original'>,
  ) => Field<T>;
  readonly rw: <K extends Kind>(
    name: string,
    kind: K,
    get: Field<T>['get'],
    set: (world: World, object: T, value: KindValues[K], call: Call) => Promise<void> | void,
    more?: Pick<Field<T>, 'apart' | 'entries' | 'original'>,
  ) => Field<T>;
  readonly method: <const P extends readonly Param[] = readonly []>(
    spec: OperationSpec<P> & {
      run(world: World, call: Call, self: T, ...args: Args<P>): Result;
    },
  ) => Operation<T>;
  readonly func: <const P extends readonly Param[] = readonly []>(
    spec: OperationSpec<P> & { run(world: World, call: Call, ...args: Args<P>): Result },
  ) => Operation<T>;
}

/** Arguments were converted by their parameters: the types that a handler declares hold. */
type AnyRun = (...all: readonly unknown[]) => Result;

export function writer<T>(): Writer<T> {
  const common = (spec: OperationSpec<readonly Param[]>) => ({
    name: spec.name,
    doc: spec.doc,
    params: spec.params ?? [],
    returns: spec.returns ?? 'void',
    original: spec.original ?? true,
    reads: spec.reads ?? false,
    session: spec.session ?? true,
  });
  return {
    ro: (name, kind, get, more) => ({ name, kind, get, ...more }),
    rw: (name, kind, get, set, more) => ({ name, kind, get, set, ...more }),
    method: (spec) => ({
      ...common(spec),
      onObject: true,
      run: (world, call, self, args) => (spec.run as AnyRun)(world, call, self, ...args),
    }),
    func: (spec) => ({
      ...common(spec),
      onObject: false,
      run: (world, call, _, args) => (spec.run as AnyRun)(world, call, ...args),
    }),
  };
}

export interface ClassSpec<T> {
  readonly name: string;
  readonly doc: string;
  /** false: ours, Xen 4.4 lacks the whole class. */
  readonly original?: boolean;
  /** Which of the methods of all classes it lacks. */
  readonly lacks?: readonly string[];
  /** What its objects are called in records' fields and events. */
  all(world: World, call: Call | undefined): Iterable<T> | Promise<Iterable<T>>;
  find(world: World, ref: string, call: Call | undefined): T | undefined | Promise<T | undefined>;
  refOf(object: T): string;
  /** Makes get_by_name_label. */
  label?(object: T): string;
  readonly fields: readonly Field<T>[];
  readonly operations?: readonly Operation<T>[];
}

const SELF = { name: 'self', kind: 'ref' } as const;

export function defineClass<T>(spec: ClassSpec<T>): ApiClass {
  const original = spec.original ?? true;
  const find = async (world: World, ref: XmlRpcValue | undefined, call: Call): Promise<T> => {
    const found = typeof ref === 'string' ? await spec.find(world, ref, call) : undefined;
    if (found === undefined) throw handleInvalid(spec.name, typeof ref === 'string' ? ref : '');
    return found;
  };
  const recordOf = async (world: World, object: T): Promise<Record<string, Answer>> => {
    const shown = spec.fields.filter((field) => !field.apart);
    const values = await Promise.all(shown.map(async (field) => field.get(world, object)));
    const pairs = shown.map((field, index): [string, Answer] => [field.name, values[index]]);
    return Object.fromEntries([['uuid', spec.refOf(object)], ...pairs]);
  };
  const row = (name: string, doc: string, returns: string, more: Partial<Row> & Pick<Row, 'run'>): Row => ({
    name: `${spec.name}.${name}`, class: spec.name, doc, returns,
    params: [], async: false, session: true, reads: true, original, ...more,
  }); // prettier-ignore
  const rows: Row[] = [
    row('get_all', 'References of all objects.', 'set', {
      async: true,
      run: async (world, call) => [...(await spec.all(world, call))].map((object) => spec.refOf(object)),
    }),
    row('get_all_records', 'Records of all objects, by reference.', 'struct', {
      async: true,
      async run(world, call) {
        const objects = [...(await spec.all(world, call))];
        const records = await Promise.all(objects.map((object) => recordOf(world, object)));
        return Object.fromEntries(objects.map((object, index) => [spec.refOf(object), records[index]]));
      },
    }),
    row('get_by_uuid', 'The object with a UUID.', spec.name, {
      async: true,
      params: [{ name: 'uuid', kind: 'string' }],
      run: async (world, call, args) => spec.refOf(await find(world, args[0], call)),
    }),
    row('get_uuid', 'The UUID of an object.', 'string', {
      params: [SELF],
      run: async (world, call, args) => spec.refOf(await find(world, args[0], call)),
    }),
    row('get_record', 'All fields of an object.', 'struct', {
      async: true,
      params: [SELF],
      run: async (world, call, args) => recordOf(world, await find(world, args[0], call)),
    }),
  ].filter((common) => !spec.lacks?.some((name) => common.name === `${spec.name}.${name}`));
  const label = spec.label?.bind(spec);
  if (label) {
    rows.push(
      row('get_by_name_label', 'References of the objects with a label.', 'set', {
        async: true,
        params: [{ name: 'label', kind: 'string' }],
        async run(world, call, args) {
          const objects = [...(await spec.all(world, call))].filter((object) => label(object) === args[0]);
          return objects.map((object) => spec.refOf(object));
        },
      }),
    );
  }
  for (const field of spec.fields) rows.push(...fieldRows(spec.name, field, find, row));
  for (const operation of spec.operations ?? []) rows.push(operationRow(spec.name, operation, find, row));
  return {
    name: spec.name,
    doc: spec.doc,
    rows,
    fields: [
      { name: 'uuid', kind: 'string', writable: false },
      ...spec.fields.map(({ name, kind, set }) => ({ name, kind, writable: set !== undefined })),
    ],
    async record(world, ref) {
      const object = await spec.find(world, ref, undefined);
      return object === undefined ? undefined : recordOf(world, object);
    },
  };
}

type Find<T> = (world: World, ref: XmlRpcValue | undefined, call: Call) => Promise<T>;
type MakeRow = (name: string, doc: string, returns: string, more: Partial<Row> & Pick<Row, 'run'>) => Row;

function fieldRows<T>(className: string, field: Field<T>, find: Find<T>, make: MakeRow): Row[] {
  const { name, kind } = field;
  const extra = field.original === false ? { original: false } : {};
  const rows = [
    make(`get_${name}`, `The field ${name}.`, kind, {
      ...extra,
      params: [SELF],
      run: async (world, call, args) => field.get(world, await find(world, args[0], call)),
    }),
  ];
  const { set } = field;
  if (!set) return rows;
  const effect = { operation: 'mod', field: name } as const;
  const write = async (world: World, object: T, value: unknown, call: Call): Promise<void> => {
    await set(world, object, value as never, call);
  };
  const what = `${className}.${name}`;
  rows.push(
    make(`set_${name}`, `Sets the field ${name}.`, 'void', {
      ...extra,
      reads: false,
      effect,
      params: [SELF, { name: 'value', kind }],
      async run(world, call, args) {
        await write(world, await find(world, args[0], call), convert(kind, args[1] ?? null, what), call);
        return '';
      },
    }),
  );
  if (!field.entries) return rows;
  const entries = async (world: World, object: T): Promise<Record<string, string>> => ({
    ...((await field.get(world, object)) as Record<string, string>),
  });
  rows.push(
    make(`add_to_${name}`, `Sets one entry of the field ${name}.`, 'void', {
      ...extra,
      async: true,
      reads: false,
      effect,
      params: [SELF, { name: 'key', kind: 'string' }, { name: 'value', kind: 'string' }],
      async run(world, call, args) {
        const object = await find(world, args[0], call);
        const [key, value] = [convert('string', args[1] ?? null, what), convert('string', args[2] ?? null, what)];
        const next = { ...(await entries(world, object)), [key]: value };
        await write(world, object, convert('map', next, what), call);
        return '';
      },
    }),
    make(`remove_from_${name}`, `Takes one entry from the field ${name}.`, 'void', {
      ...extra,
      async: true,
      reads: false,
      effect,
      params: [SELF, { name: 'key', kind: 'string' }],
      async run(world, call, args) {
        const object = await find(world, args[0], call);
        const key = convert('string', args[1] ?? null, what);
        const before = await entries(world, object);
        if (Object.hasOwn(before, key)) {
          const rest = Object.fromEntries(Object.entries(before).filter(([other]) => other !== key));
          await write(world, object, rest, call);
        }
        return '';
      },
    }),
  );
  return rows;
}

/** Methods by whose names listeners know what happened. */
const EFFECTS: Readonly<Record<string, EventOperation>> = {
  create: 'add', create_VLAN: 'add', snapshot: 'add', clone: 'add', copy: 'add', destroy: 'del',
}; // prettier-ignore

function operationRow<T>(className: string, operation: Operation<T>, find: Find<T>, make: MakeRow): Row {
  const { name, params, onObject } = operation;
  const effect = EFFECTS[name];
  return make(name, operation.doc, operation.returns, {
    params: onObject ? [SELF, ...params] : params,
    async: operation.session,
    session: operation.session,
    reads: operation.reads,
    ...(operation.original ? {} : { original: false }),
    ...(effect ? { effect: { operation: effect, field: '' } } : {}),
    async run(world, call, given) {
      const self = onObject ? await find(world, given[0], call) : undefined;
      const rest = onObject ? given.slice(1) : given;
      const args = params.map((param, index) =>
        index < rest.length
          ? convert(param.kind, rest[index] ?? null, `${className}.${name} ${param.name}`)
          : undefined,
      );
      return (await operation.run(world, call, self, args)) ?? '';
    },
  });
}

/** A class of hardware that this host has none of: every reference is invalid, every list empty. */
export function emptyClass(spec: {
  readonly name: string;
  readonly doc: string;
  readonly original?: boolean;
  readonly fields: readonly (readonly [name: string, kind: Kind])[];
  /** Names of the fields that have setters. */
  readonly writable?: readonly string[];
  readonly operations?: readonly Operation<never>[];
}): ApiClass {
  const none = (): never => {
    throw notAllowed('there is no object of this class');
  };
  return defineClass<never>({
    ...spec,
    all: () => [],
    find: () => undefined,
    refOf: () => '',
    fields: spec.fields.map(([name, kind]) => ({
      name,
      kind,
      get: none,
      ...(spec.writable?.includes(name) ? { set: none } : {}),
    })),
  });
}
