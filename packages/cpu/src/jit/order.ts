/**
 * Compiling on another thread: a plan as plain data that can be posted, made into a plan again there, and into a module. Whoever
 * ordered it installs the module; what it is made from are the bytes that the plan was made from, read once.
 */
import { decodeInstruction } from '../isa/decode.ts';
import { ModuleBuilder } from '../wasm/builder.ts';
import { declareImports } from './imports.ts';
import { placed, returnsOf } from './plan.ts';
import type { Block, RegionPlan, RegionShape } from './plan.ts';
import { RegionBuilder } from './region.ts';

/** One block: its code from `at` on, and how it goes on. */
export interface OrderedBlock {
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly fallsThrough: boolean;
  readonly isEntry: boolean;
}
export interface OrderedRegion {
  readonly blocks: readonly OrderedBlock[];
  /** Distances of its pages by their small numbers. */
  readonly pages: readonly number[];
}
/** Regions for one module; `id` is the orderer's. */
export interface CompileOrder {
  readonly id: number;
  readonly regions: readonly OrderedRegion[];
}
export interface CompiledOrder {
  readonly id: number;
  /** Undefined where a bug of ours came between. */
  readonly module: WebAssembly.Module | undefined;
  /** Size of the module. */
  readonly bytes: number;
  readonly compileNs: number;
}

/** Name of the function of the `n`th region of a module. */
export const regionName = (n: number): string => `r${n}`;

/** The module of these regions, each under its `regionName`. */
export function buildModule(shapes: readonly RegionShape[]): Uint8Array {
  const m = new ModuleBuilder();
  const imports = declareImports(m);
  const regionType = m.type(['i32', 'i32'], ['i32']);
  // Function 0 would be given to the optimising compiler at once.
  m.function([], []);
  shapes.forEach((shape, n) => {
    const f = m.function(['i32', 'i32'], ['i32'], regionName(n));
    new RegionBuilder(shape, f, { imports, regionType, table: imports.table }).emit();
  });
  return m.build();
}

export function orderOf(plan: RegionPlan): OrderedRegion {
  let span = 0;
  const blocks = plan.blocks.map(({ at, next, fallsThrough, isEntry }): OrderedBlock => {
    // Spans are those of the blocks in their order, cut where pages end.
    const bytes = new Uint8Array(next - at);
    for (let end = at; end < next; span++) {
      const part = plan.spans[span];
      if (part?.at !== end) throw new Error(`no bytes of a block at ${end}`);
      bytes.set(part.bytes, end - at);
      end += part.bytes.length;
    }
    return { at, bytes, fallsThrough, isEntry };
  });
  return { blocks, pages: [...plan.pageNumbers.keys()] };
}

function shapeOf({ blocks: ordered, pages }: OrderedRegion): RegionShape {
  const blocks = ordered.map(({ at, bytes, fallsThrough, isEntry }): Block => {
    const instructions = [];
    for (let offset = 0; offset < bytes.length;) {
      const instruction = decodeInstruction(bytes, 64, offset, bytes.length);
      if (typeof instruction === 'string') throw new Error(`${instruction} code at ${at + offset} of a region`);
      instructions.push(placed(at + offset, instruction));
      offset += instruction.length;
    }
    return { at, instructions, next: at + bytes.length, fallsThrough, isEntry };
  });
  const indexOf = new Map(blocks.map((block, n) => [block.at, n]));
  const pageNumbers = new Map(pages.map((distance, n) => [distance, n]));
  return { blocks, indexOf, pageNumbers, returnsOf: returnsOf(blocks, indexOf) };
}

/** On the other thread. */
export function compileOrder({ id, regions }: CompileOrder): CompiledOrder {
  const started = performance.now();
  const bytes = buildModule(regions.map(shapeOf));
  const module = new WebAssembly.Module(bytes);
  return { id, module, bytes: bytes.length, compileNs: (performance.now() - started) * 1e6 };
}
