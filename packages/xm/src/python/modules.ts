/**
 * The modules that a config file may import: os, os.path, sys, string and a little of re. Their members only look: at
 * the environment given, at paths, at the name of the system. Nothing is run, opened or written.
 */
import { posix } from 'node:path';
import { stringMethods } from './builtins.ts';
import { PyDict, PyError, PyFunction, PyList, PyModule, PyTuple, dictKey, iterate, type PyValue } from './values.ts';

/** What config files may look at. */
export interface PythonWorld {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** sysname, nodename, release, version, machine. */
  readonly uname: readonly string[];
  /** What is at a path. */
  kindOf(path: string): 'file' | 'directory' | 'other' | undefined;
}

type TextFunction = (...texts: (string | undefined)[]) => PyValue;

function ofTexts(name: string, min: number, max: number, call: TextFunction): readonly [string, PyFunction] {
  return [
    name,
    new PyFunction(name, (args) => {
      if (args.length < min || args.length > max)
        throw new PyError(`${name}() takes ${min} arguments (${args.length} given)`);
      return call(
        ...args.map((arg) => {
          if (typeof arg !== 'string') throw new PyError(`${name}() wants a string`);
          return arg;
        }),
      );
    }),
  ];
}

const MANY = 64;
/** A pattern that is plain text, with at most an anchor at each end. */
const PLAIN_PATTERN = /^(\^?)([\w\s/:=,@%~#<>!&"';-]*)(\$?)$/;

export function modulesOf(world: PythonWorld): ReadonlyMap<string, PyModule> {
  const absolute = (path: string): string => posix.resolve(world.cwd, path);
  const environ = new PyDict();
  for (const [key, value] of Object.entries(world.env)) {
    if (value !== undefined) environ.entries.set(dictKey(key), [key, value]);
  }
  const path = new PyModule(
    'os.path',
    new Map<string, PyValue>([
      ofTexts('basename', 1, 1, (p = '') => p.slice(p.lastIndexOf('/') + 1)),
      ofTexts('dirname', 1, 1, (p = '') => p.slice(0, p.lastIndexOf('/') + 1).replace(/(.)\/+$/, '$1')),
      ofTexts('join', 1, MANY, (...parts) => joinPath(parts.map((part) => part ?? ''))),
      ofTexts('exists', 1, 1, (p = '') => world.kindOf(absolute(p)) !== undefined),
      ofTexts('isfile', 1, 1, (p = '') => world.kindOf(absolute(p)) === 'file'),
      ofTexts('isdir', 1, 1, (p = '') => world.kindOf(absolute(p)) === 'directory'),
      ofTexts('isabs', 1, 1, (p = '') => p.startsWith('/')),
      ofTexts('abspath', 1, 1, (p = '') => absolute(p)),
      ofTexts('realpath', 1, 1, (p = '') => absolute(p)),
      ofTexts('normpath', 1, 1, (p = '') => posix.normalize(p)),
      ofTexts('splitext', 1, 1, (p = '') => {
        const ending = posix.extname(p);
        return new PyTuple([p.slice(0, p.length - ending.length), ending]);
      }),
      ['sep', '/'],
    ]),
  );
  const os = new PyModule(
    'os',
    new Map<string, PyValue>([
      ['path', path],
      ['environ', environ],
      ['sep', '/'],
      ['linesep', '\n'],
      ['curdir', '.'],
      ['name', 'posix'],
      ofTexts('getcwd', 0, 0, () => world.cwd),
      ofTexts('uname', 0, 0, () => new PyTuple(world.uname)),
      ofTexts('getenv', 1, 2, (...[key = '', fallback]: (string | undefined)[]) => world.env[key] ?? fallback ?? null),
    ]),
  );
  const sys = new PyModule(
    'sys',
    new Map<string, PyValue>([
      ['platform', 'linux2'],
      ['argv', new PyList(['xm'])],
      ['version', '2.7'],
    ]),
  );
  const re = new PyModule('re', new Map<string, PyValue>([searchFunction('search', ''), searchFunction('match', '^')]));
  const modules = [path, os, sys, re, stringModule()];
  return new Map(modules.map((module) => [module.name, module]));
}

function joinPath(parts: readonly string[]): string {
  return parts.reduce((joined, part) => {
    if (part.startsWith('/') || joined === '') return part;
    return joined.endsWith('/') ? joined + part : `${joined}/${part}`;
  });
}

/** Patterns with operators could be made to run for years: only plain text is looked for. */
function searchFunction(name: string, anchor: string): readonly [string, PyFunction] {
  return ofTexts(name, 2, 2, (pattern = '', subject = '') => {
    const match = PLAIN_PATTERN.exec(pattern);
    if (!match) throw new PyError(`re.${name}() is supported for plain text only, not for ${pattern}`);
    const [, start = '', words = '', end = ''] = match;
    const fromStart = (anchor || start) !== '';
    if (fromStart && end) return subject === words || null;
    if (fromStart) return subject.startsWith(words) || null;
    return (end ? subject.endsWith(words) : subject.includes(words)) || null;
  });
}

/** Functions of Python 2's string module: methods with the string as first argument, and `join` the other way round. */
function stringModule(): PyModule {
  const members = new Map<string, PyValue>();
  for (const name of [
    'split',
    'strip',
    'lstrip',
    'rstrip',
    'upper',
    'lower',
    'replace',
    'find',
    'zfill',
    'count',
    'capitalize',
  ]) {
    const method = stringMethods[name];
    if (!method) continue;
    members.set(
      name,
      new PyFunction(name, ([self = null, ...args]) => {
        if (typeof self !== 'string') throw new PyError(`string.${name}() wants a string`);
        return method(self, ...args);
      }),
    );
  }
  members.set(
    'join',
    new PyFunction('join', ([items = null, separator = ' ']) => {
      if (typeof separator !== 'string') throw new PyError('string.join() wants a string');
      return stringMethods['join']?.(separator, new PyList([...iterate(items)])) ?? '';
    }),
  );
  members.set('digits', '0123456789');
  members.set('letters', 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ');
  return new PyModule('string', members);
}
