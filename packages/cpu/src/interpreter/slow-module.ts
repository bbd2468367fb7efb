/**
 * The slow-path module: folding of flags, and memory accesses that missed the TLB. A module of its own, because V8
 * inlines small functions of the same module into every handler.
 */
import { CC } from '../engine/flags.ts';
import { OFFSET } from '../engine/state.ts';
import type { ValueType } from '../semantics/algebra.ts';
import { LOADS, ModuleBuilder, STORES } from '../wasm/builder.ts';
import type { FunctionBuilder, FunctionRef } from '../wasm/builder.ts';
import { MACHINE, TemporaryPool } from './emit-frame.ts';
import { HandlerEmitter } from './emitter.ts';
import { buildFastHelpers } from './fast-helpers.ts';
import type { ElementAccess } from './fast-strings.ts';
import type { CcField, Frame, Value } from './emit-frame.ts';
import { buildRecall } from './recall.ts';
import { ACCESS } from './translated.ts';

const never = (): never => {
  throw new Error('not in a slow path');
};

/** A frame for functions with the flag words as parameters, from parameter `first` on: kind, result, a, b. */
function flagFrame(f: FunctionBuilder, first: number): Frame {
  const index: Record<CcField, number> = { ccKind: first, ccResult: first + 1, ccA: first + 2, ccB: first + 3 };
  return {
    f, record: -1, pushView: never, setCc: never, fault: never, jump: never, taken: never, again: never, next: never, helperResult: never,
    getCc: (field) => { f.get(index[field]); },
  }; // prettier-ignore
}

function emitterFor(f: FunctionBuilder, first: number): HandlerEmitter {
  return new HandlerEmitter(
    { semantics: '', size: 8, mode: 64, variant: 0, operands: [], locked: false, addressSize: 8, repeat: 'none' },
    { frame: flagFrame(f, first), slow: {} as never, temporaries: new TemporaryPool(f), helperIds: new Map() },
  );
}

const param = (type: ValueType, local: number): Value => ({ type, local, constant: 0n });

/** The body of `flags`; answers to `flagsOf` of engine/flags.ts. */
function foldFlags(e: HandlerEmitter): Value {
  const kindWord = param('i32', 0);
  const r = param('i64', 1);
  const a = param('i64', 2);
  const b = param('i64', 3);
  const kind = e.and(kindWord, e.i32(15));
  const bits = e.extendU(e.shl(e.i32(8), e.and(e.shrU(kindWord, e.i32(4)), e.i32(3))));
  const top = (v: Value): Value => e.wrap(e.shrU(v, e.i64(63)));
  const parity = e.xor(e.and(e.wrap(e.popcnt(e.and(r, e.i64(255)))), e.i32(1)), e.i32(1));
  const fromResult = e.or(e.or(e.shl(parity, e.i32(2)), e.shl(e.eqz(r), e.i32(6))), e.shl(top(r), e.i32(7)));
  const flags = (cf: Value, af: Value, of: Value): Value => e.or(e.or(cf, af), e.shl(of, e.i32(11)));
  const auxiliary = (): Value => e.and(e.wrap(e.xor(e.xor(a, b), r)), e.i32(16));
  const is = (k: number): Value => e.eq(kind, e.i32(k));
  const none = e.i32(0);
  const minimum = e.shl(e.i64(-1), e.sub(bits, e.i64(1)));
  const nibble = (value: number): Value => e.shl(e.eq(e.and(e.wrap(r), e.i32(15)), e.i32(value)), e.i32(4));
  const bit0 = (v: Value): Value => e.and(e.wrap(v), e.i32(1));
  const one = e.i64(1);
  const cases: [number, () => Value][] = [
    [CC.sub, () => flags(top(e.or(e.and(e.not(a), b), e.and(e.or(e.not(a), b), r))), auxiliary(), top(e.and(e.xor(a, b), e.xor(a, r))))],
    [CC.add, () => flags(top(e.or(e.and(a, b), e.and(e.or(a, b), e.not(r)))), auxiliary(), top(e.and(e.xor(a, r), e.xor(b, r))))],
    [CC.inc, () => flags(bit0(a), nibble(0), e.eq(r, minimum))],
    [CC.dec, () => flags(bit0(a), nibble(15), e.eq(r, e.not(minimum)))],
    [CC.shl, () => {
      const cf = e.select(e.ltU(bits, b), none, bit0(e.shrU(a, e.sub(bits, b))));
      return flags(cf, none, e.xor(cf, top(r)));
    }],
    [CC.shr, () => flags(bit0(e.shrU(a, e.sub(b, one))), none, bit0(e.shrU(a, e.sub(bits, one))))],
    [CC.sar, () => flags(bit0(e.shrS(a, e.sub(b, one))), none, none)],
  ]; // prettier-ignore
  const explicit = (): Value => {
    const low = e.wrap(a);
    return e.or(e.xor(fromResult, e.and(low, e.i32(0x84))), e.and(low, e.i32(0x811)));
  };
  const chain = (n: number): Value => {
    const entry = cases[n];
    if (!entry) return explicit();
    return e.choose(
      'i32',
      is(entry[0]),
      () => e.or(fromResult, entry[1]()),
      () => chain(n + 1),
    );
  };
  return chain(0);
}

function buildCondition(f: FunctionBuilder, flagsFunction: FunctionRef): void {
  const e = emitterFor(f, 1);
  f.get(1).get(2).get(3).get(4).call(flagsFunction);
  const all = f.local('i32');
  f.set(all);
  const flags = param('i32', all);
  const code = param('i32', 0);
  const flag = (n: number): Value => e.and(e.shrU(flags, e.i32(n)), e.i32(1));
  const less = (): Value => e.xor(flag(7), flag(11));
  const values = [() => flag(11), () => flag(0), () => flag(6), () => e.or(flag(0), flag(6)), () => flag(7), () => flag(2), less, () => e.or(less(), flag(6))]; // prettier-ignore
  const chain = (n: number): Value => {
    const value = values[n] ?? less;
    if (n === values.length - 1) return value();
    return e.choose('i32', e.eq(code, e.i32(2 * n)), value, () => chain(n + 1));
  };
  f.get(chain(0).local);
}

export function buildSlowModule(): Uint8Array {
  const m = new ModuleBuilder();
  m.importMemory('engine', 'private', 1, undefined, false);
  m.importMemory('engine', 'machine', 1, 65536, true);
  const translate = m.importFunction('engine', 'translate', ['i32', 'i32'], ['i32']);
  const tryTranslate = m.importFunction('engine', 'tryTranslate', ['i32'], ['i32']);
  const helper = m.importFunction('engine', 'helper', ['i32', 'i32'], ['i32']);

  const recall = buildRecall(m);
  const flags = m.function(['i32', 'i64', 'i64', 'i64'], ['i32'], 'flags');
  flags.get(foldFlags(emitterFor(flags, 0)).local);
  const carry = m.function(['i32', 'i64', 'i64', 'i64'], ['i32'], 'carry');
  carry.get(0).get(1).get(2).get(3).call(flags).i32(1).op('i32.and');
  buildCondition(m.function(['i32', 'i32', 'i64', 'i64', 'i64'], ['i32'], 'condition'), flags);

  const elements: Record<number, ElementAccess> = {};
  const direct = (f: FunctionBuilder): FunctionBuilder => f.i32(0).load32(OFFSET.slowHost);
  for (const [size, type] of [
    [1, 'u8'],
    [2, 'u16'],
    [4, 'u32'],
    [8, 'u64'],
    [16, 'v128'],
  ] as const) {
    // prettier-ignore
    const valueType = size === 16 ? 'v128' : size === 8 ? 'i64' : 'i32';
    const access = (f: FunctionBuilder, memory: number, isStore: boolean): void => {
      const offset = memory === MACHINE ? 0 : OFFSET.bounce;
      if (type === 'v128') f.simdAccess(isStore ? 11 : 0, offset, memory);
      else f.access(isStore ? STORES[type][0] : LOADS[type][0], offset, memory);
    };
    const load = m.function(['i64', 'i32'], [valueType], `load${size}`);
    const loadHost = load.local('i32');
    load.get(0).i32(size).call(recall).tee(loadHost).i32(-1).op('i32.ne').if(valueType);
    access(load.get(loadHost), MACHINE, false);
    load.else();
    load.i32(0).get(0).store64(OFFSET.slowAddress);
    load.i32(size).get(1).call(translate).op('i32.eqz').if(valueType);
    access(direct(load), MACHINE, false);
    load.else();
    access(load.i32(0), 0, false);
    load.end().end();

    const store = m.function(['i64', valueType, 'i32'], [], `store${size}`);
    const storeHost = store.local('i32');
    store
      .get(0)
      .i32(size | ACCESS.write)
      .call(recall)
      .tee(storeHost)
      .i32(-1)
      .op('i32.ne')
      .if();
    access(store.get(storeHost).get(1), MACHINE, true);
    store.else();
    store.i32(0).get(0).store64(OFFSET.slowAddress);
    access(store.i32(0).get(1), 0, true);
    store
      .i32(size | ACCESS.write)
      .get(2)
      .call(translate)
      .op('i32.eqz')
      .if();
    access(direct(store).get(1), MACHINE, true);
    store.end().end();
    elements[size] = { load, store };
  }
  const rmw = m.function(['i64', 'i32', 'i32'], ['i32'], 'rmw');
  const rmwHost = rmw.local('i32');
  rmw.get(0).get(1).i32(ACCESS.write).op('i32.or').call(recall).tee(rmwHost).i32(-1).op('i32.ne').if();
  rmw.get(rmwHost).return().end();
  rmw.i32(0).get(0).store64(OFFSET.slowAddress);
  rmw
    .get(1)
    .i32(ACCESS.write | ACCESS.update)
    .op('i32.or')
    .get(2)
    .call(translate)
    .op('i32.eqz')
    .if('i32');
  direct(rmw).else().i32(-1).end();
  buildFastHelpers(m, { tryTranslate, helper, access: elements });
  return m.build();
}
