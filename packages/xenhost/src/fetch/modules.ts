/**
 * Kernel modules: which files a set of modules needs, and the modules.dep / modules.alias that modprobe reads. The facts
 * come from each module's .modinfo section, so no depmod is needed.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isElf, parseElf } from '@xenhost/elf';

export interface KernelModule {
  readonly name: string;
  /** Path below lib/modules/VERSION. */
  readonly path: string;
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
  readonly data: Uint8Array;
}

const canonical = (name: string): string => name.replaceAll('-', '_');

/** All .ko files of a module tree by canonical name; nothing is read yet. */
async function listModules(tree: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await readdir(tree, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ko')) continue;
    const path = join(entry.parentPath, entry.name).slice(tree.length + 1);
    found.set(canonical(entry.name.slice(0, -'.ko'.length)), path);
  }
  return found;
}

/** `key=value` strings of the .modinfo section: NUL-separated, found by section name. */
export function modinfo(elf: Uint8Array): ReadonlyMap<string, readonly string[]> {
  const info = new Map<string, string[]>();
  for (const item of section(elf, '.modinfo').toString('latin1').split('\0')) {
    const equals = item.indexOf('=');
    if (equals > 0)
      info.set(item.slice(0, equals), [...(info.get(item.slice(0, equals)) ?? []), item.slice(equals + 1)]);
  }
  return info;
}

function section(file: Uint8Array, wanted: string): Buffer {
  if (!isElf(file)) throw new Error('not an ELF64 module');
  const elf = parseElf(file);
  if (elf.bits !== 64) throw new Error('not an ELF64 module');
  const found = elf.sections.find(({ name }) => name === wanted);
  if (!found) throw new Error(`module has no section ${wanted}`);
  return Buffer.from(found.bytes);
}

/** The wanted modules and all that they depend on. Names that the kernel does not have as modules are left out. */
export async function moduleClosure(tree: string, wanted: readonly string[]): Promise<KernelModule[]> {
  const files = await listModules(tree);
  const chosen = new Map<string, KernelModule>();
  const visit = async (name: string): Promise<void> => {
    const path = files.get(name);
    if (path === undefined || chosen.has(name)) return;
    const data = await readFile(join(tree, path));
    const info = modinfo(data);
    const depends = (info.get('depends')?.[0] ?? '').split(',').filter(Boolean).map(canonical);
    chosen.set(name, { name, path, depends, aliases: info.get('alias') ?? [], data });
    for (const dependency of depends) await visit(dependency);
  };
  for (const name of wanted) await visit(canonical(name));
  return [...chosen.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** All dependencies in the order modprobe must load them in reverse: nearest first, as depmod writes them. */
function dependencyPaths(module: KernelModule, all: ReadonlyMap<string, KernelModule>): string[] {
  const order: string[] = [];
  const visit = (current: KernelModule): void => {
    for (const name of current.depends) {
      const next = all.get(name);
      if (!next) continue;
      const at = order.indexOf(next.path);
      if (at >= 0) order.splice(at, 1);
      order.push(next.path);
      visit(next);
    }
  };
  visit(module);
  return order;
}

export function modulesDep(modules: readonly KernelModule[]): string {
  const all = new Map(modules.map((module) => [module.name, module]));
  return modules.map((module) => `${[`${module.path}:`, ...dependencyPaths(module, all)].join(' ')}\n`).join('');
}

export function modulesAlias(modules: readonly KernelModule[]): string {
  return modules.flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`)).join('');
}
