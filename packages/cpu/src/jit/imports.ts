/** What a module of regions imports. */
import type { ModuleBuilder } from '../wasm/builder.ts';
import { COMPILED_STRINGS, compiledStringName } from '../interpreter/fast-strings.ts';
import type { RegionImports } from './context.ts';

const CC = ['i32', 'i64', 'i64', 'i64'] as const;
/** Functions that regions import from the slow-path module. */
export const SLOW_NAMES = [
  'flags',
  'carry',
  'condition',
  ...COMPILED_STRINGS.map(({ name, size }) => compiledStringName(name, size)),
];

export interface DeclaredImports extends RegionImports {
  /** Index of the table of all regions. */
  readonly table: number;
}

export function declareImports(m: ModuleBuilder): DeclaredImports {
  m.importMemory('engine', 'private', 1, undefined, false);
  m.importMemory('engine', 'machine', 1, 65536, true);
  return {
    flags: m.importFunction('slow', 'flags', CC, ['i32']),
    carry: m.importFunction('slow', 'carry', CC, ['i32']),
    condition: m.importFunction('slow', 'condition', ['i32', ...CC], ['i32']),
    strings: new Map(
      COMPILED_STRINGS.map(({ name, size }) => {
        const own = compiledStringName(name, size);
        return [own, m.importFunction('slow', own, [], ['i32'])];
      }),
    ),
    table: m.importTable('engine', 'regions'),
  };
}

const nothing = { index: 0, type: 0 };
/** For code that is never built. */
export const emptyImports: RegionImports = {
  flags: nothing,
  carry: nothing,
  condition: nothing,
  strings: new Map(COMPILED_STRINGS.map(({ name, size }) => [compiledStringName(name, size), nothing])),
};
