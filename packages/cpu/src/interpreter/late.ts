/**
 * Handlers of instructions that a guest seldom uses (those with a VEX prefix): generated in groups when the first of a
 * group is decoded, and put into the interpreter's table. Starting an engine costs nothing for them.
 */
import { LATE_GROUP, buildLateGroup, handlerTable, lateName, lateTable } from './generate.ts';
import { SPECIAL } from './handlers.ts';

/** Compiled groups, for all engines of the thread. */
const compiled = new Map<number, WebAssembly.Module>();

function moduleOf(group: number): WebAssembly.Module {
  const known = compiled.get(group);
  if (known) return known;
  const made = new WebAssembly.Module(buildLateGroup(group));
  compiled.set(group, made);
  return made;
}

export class LateHandlers {
  private readonly table: WebAssembly.Table;
  private readonly imports: WebAssembly.Imports;
  private readonly present = new Set<number>();

  /** `table`: the interpreter's, with its own handlers; `imports`: what the interpreter itself got. */
  constructor(table: WebAssembly.Table, imports: WebAssembly.Imports) {
    this.table = table;
    this.imports = imports;
  }

  /** Makes sure that the handler with this number can be called. */
  need(handler: number): void {
    const { first, shapes } = lateTable();
    const group = Math.floor((handler - first) / LATE_GROUP);
    if (this.present.has(group)) return;
    if (this.present.size === 0) this.table.grow(shapes.length);
    this.present.add(group);
    const { exports } = new WebAssembly.Instance(moduleOf(group), this.imports);
    const count = Math.min(LATE_GROUP, shapes.length - group * LATE_GROUP);
    const { inlineShapes, fusedShapes } = handlerTable();
    const at = first - SPECIAL.first - inlineShapes.length - fusedShapes.length + group * LATE_GROUP;
    for (let n = 0; n < count; n++) this.table.set(at + n, exports[lateName(n)]);
  }
}
