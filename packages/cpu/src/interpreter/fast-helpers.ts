/**
 * Helpers that guests call all the time, in Wasm: the plain case of each, everything else goes on to the helper itself.
 * What they answer is what the helpers answer (`SIGNAL`). The string instructions are in `fast-strings.ts`.
 */
import { OFFSET, SEG, SEGMENT_STRIDE } from '../engine/state.ts';
import { HELPERS } from '../semantics/helpers/index.ts';
import type { FunctionRef, ModuleBuilder } from '../wasm/builder.ts';
import { HELPER_ARITY_SHIFT } from './emit-frame.ts';
import { COMPILED_STRINGS, STRING_NAMES, buildCompiledString, buildCopy, buildString } from './fast-strings.ts';
import type { ElementAccess } from './fast-strings.ts';
import { RECORD, SIGNAL } from './memory-map.ts';

const SIZES = [1, 2, 4, 8] as const;
/** Arguments of a string helper: element size, address size, repeat (0 none, 1 REPE, 2 REPNE), segment. */
const STRING_ARG = {
  size: OFFSET.args,
  addressSize: OFFSET.args + 8,
  repeat: OFFSET.args + 16,
  segment: OFFSET.args + 24,
};
const CRC_ARG = { crc: OFFSET.args, value: OFFSET.args + 8, bytes: OFFSET.args + 16 };
/** The polynomial 11EDC6F41h of CRC32, reflected. */
const CRC32C = 0x82f6_3b78;
/** atomic.fence */
const FENCE = [0xfe, 0x03, 0x00] as const;

export interface FastHelperImports {
  /** As the engine's `tryTranslate`: access word -> TRANSLATED. */
  readonly tryTranslate: FunctionRef;
  /** The helpers themselves: (word, record) -> SIGNAL. */
  readonly helper: FunctionRef;
  /** Slow accesses of one element, by size. */
  readonly access: Readonly<Record<number, ElementAccess>>;
}

const HELPER_NAMES = Object.keys(HELPERS);

/** Exports `helper(word, record)`, the door of generated code to helpers, and `COMPILED_STRINGS`. */
export function buildFastHelpers(m: ModuleBuilder, imports: FastHelperImports): void {
  const modules = { ...imports, copy: buildCopy(m) };
  const strings = STRING_NAMES.map((name) => ({
    name,
    bySize: SIZES.map((size) => ({ size, f: buildString(m, name, size, modules) })),
  }));
  for (const { name, size } of COMPILED_STRINGS) buildCompiledString(m, name, size, modules);
  const f = m.function(['i32', 'i32'], ['i32'], 'helper');
  const [word, record] = [0, 1];
  const ifHelper = (name: string, then: () => void): void => {
    const id = HELPER_NAMES.indexOf(name);
    if (id < 0) throw new Error(`no helper '${name}'`);
    f.get(word)
      .i32((1 << HELPER_ARITY_SHIFT) - 1)
      .op('i32.and')
      .i32(id)
      .op('i32.eq')
      .if();
    then();
    f.end();
  };
  ifHelper('fence', () => {
    f.raw(...FENCE)
      .i32(SIGNAL.none)
      .return();
  });
  ifHelper('selector', () => {
    f.i32(0).i32(0).load32(OFFSET.args).i32(SEGMENT_STRIDE).op('i32.mul').access(0x33, OFFSET.esSelector);
    f.store64(OFFSET.result).i32(SIGNAL.none).return();
  });
  const rest = f.local('i64');
  const steps = f.local('i64');
  ifHelper('crc32', () => {
    // Bit by bit: the operand's bits meet the checksum's as they come to its end.
    f.i32(0).load64(CRC_ARG.value).i64(64).i32(0).load64(CRC_ARG.bytes).i64(3).op('i64.shl').tee(steps).op('i64.sub').op('i64.shl');
    f.i64(64).get(steps).op('i64.sub').op('i64.shr_u').i32(0).load64(CRC_ARG.crc).op('i64.xor').set(rest);
    const bit = f.loop();
    f.get(rest).i64(1).op('i64.shr_u').i64(CRC32C).i64(0).get(rest).i64(1).op('i64.and').op('i64.sub').op('i64.and');
    f.op('i64.xor').set(rest);
    f.get(steps).i64(1).op('i64.sub').tee(steps).op('i64.eqz').op('i32.eqz').brIf(bit);
    f.end();
    f.i32(0).get(rest).store64(OFFSET.result).i32(SIGNAL.none).return();
  }); // prettier-ignore
  for (const { name, bySize } of strings)
    ifHelper(name, () => {
      f.i32(0)
        .load32(STRING_ARG.addressSize)
        .i32(8)
        .op('i32.eq')
        .i32(0)
        .load32(STRING_ARG.repeat)
        .i32(0)
        .op('i32.ne')
        .op('i32.and');
      f.i32(0).load32(STRING_ARG.segment).i32(SEG.ds).op('i32.le_u').op('i32.and').if();
      for (const { size, f: string } of bySize)
        f.i32(0).load32(STRING_ARG.size).i32(size).op('i32.eq').if().get(record).call(string).return().end();
      f.end();
    });
  // Helpers find RIP in the state.
  f.i32(0).i32(0).load64(OFFSET.ripBase).get(record).access(0x33, RECORD.offset).op('i64.add').store64(OFFSET.rip);
  f.get(word).get(record).call(imports.helper);
}
