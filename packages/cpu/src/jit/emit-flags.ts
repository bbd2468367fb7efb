/** Flags of the region compiler: setters describe, readers compute what they ask for. See lazy.ts, engine/flags.ts. */
import { CC } from '../engine/flags.ts';
import { NumericEmitter } from '../interpreter/emit-values.ts';
import type { HandlerShape, Value } from '../interpreter/emit-frame.ts';
import type { Width } from '../semantics/algebra.ts';
import { log2 } from '../semantics/base.ts';
import type { RegionContext } from './context.ts';
import { fold } from './fold.ts';
import { ALL_FLAGS, CONDITION_FLAGS, DEAD, GENERIC } from './lazy.ts';
import type { ArithmeticFlags, ChangedFlags, FlagState, ResultFlags, StepFlags } from './lazy.ts';

const KIND = { sub: CC.sub, add: CC.add, shl: CC.shl, shr: CC.shr, sar: CC.sar, inc: CC.inc, dec: CC.dec, result: CC.explicit } as const; // prettier-ignore
/** Kinds whose `ccA` has CF in bit 0, as a bit set. */
const CARRY_IN_A = (1 << CC.inc) | (1 << CC.dec) | (1 << CC.explicit);

type Described = ArithmeticFlags | StepFlags | ResultFlags;
const isStep = (state: FlagState): state is StepFlags => state.form === 'inc' || state.form === 'dec';

/** A description below `state` uses the locals of `form` already. */
function uses(state: FlagState, form: 'step' | 'changed'): boolean {
  if (form === 'step' ? isStep(state) : state.form === form) return true;
  return 'before' in state && uses(state.before, form);
}

export abstract class RegionFlagEmitter extends NumericEmitter {
  readonly context: RegionContext;
  private readonly isCarried: boolean;
  constructor(shape: HandlerShape, context: RegionContext) {
    super(shape, { f: context.f, temporaries: context.temporaries });
    this.context = context;
    this.isCarried = shape.semantics === 'adc' || shape.semantics === 'sbb';
  }

  override op(name: string, ...args: Value[]): Value {
    return fold(name, args) ?? super.op(name, ...args);
  }

  // Setters ----------------------------------------------------------------------------------------------------------
  private kept(role: 'a' | 'b' | 'r' | 'step' | 'bits' | 'change', value: Value): Value {
    if (value.local < 0) return value;
    const local = this.context.flagLocal(role, value.type);
    this.push1(value);
    this.f.set(local);
    return this.context.local(value.type, local);
  }
  /** In i32 for sizes up to four bytes, sign-extended to it. */
  private narrowed(size: Width, value: Value): Value {
    if (size >= 4) return value;
    return this.op(size === 1 ? 'i32.extend8_s' : 'i32.extend16_s', value);
  }
  private noteKill(): boolean {
    const { events } = this.context;
    if (this.context.depth === 0) {
      events.sets = true;
      if (!events.observes) events.kills = true;
    }
    if (!this.context.flagsAreDead) return false;
    this.context.flags = DEAD;
    return true;
  }
  private arithmetic(form: 'sub' | 'add', size: Width, a: Value, b: Value, r: Value): void {
    if (this.noteKill()) return;
    this.context.flags = {
      form, size, type: size === 8 ? 'i64' : 'i32', isPlain: !this.isCarried,
      a: this.kept('a', this.narrowed(size, a)), b: this.kept('b', this.narrowed(size, b)), r: this.kept('r', this.narrowed(size, r)),
    }; // prettier-ignore
  }
  flagsSub(size: Width, a: Value, b: Value, r: Value): void {
    this.arithmetic('sub', size, a, b, r);
  }
  flagsAdd(size: Width, a: Value, b: Value, r: Value): void {
    this.arithmetic('add', size, a, b, r);
  }
  override flagsLogic(size: Width, r: Value): void {
    if (this.noteKill()) return;
    const kept = this.kept('r', this.narrowed(size, r));
    const type = size === 8 ? 'i64' : 'i32';
    this.context.flags = { form: 'sub', size, type, isPlain: true, a: kept, b: this.constant(size, 0), r: kept };
  }
  private step(form: 'inc' | 'dec', size: Width, r: Value): void {
    const { context } = this;
    if (!context.events.sets) context.events.usesFlags = true;
    if (context.flagsAreDead) {
      context.flags = DEAD;
      return;
    }
    let before = context.flags;
    if (isStep(before)) before = before.before;
    if (uses(before, 'step')) before = this.makeGeneric(context.flags);
    const type = size === 8 ? 'i64' : 'i32';
    context.flags = { form, size, type, r: this.kept('step', this.narrowed(size, r)), before };
  }
  flagsInc(size: Width, r: Value): void {
    this.step('inc', size, r);
  }
  flagsDec(size: Width, r: Value): void {
    this.step('dec', size, r);
  }
  flagsShift(kind: 'shl' | 'shr' | 'sar', size: Width, a: Value, count: Value, r: Value): void {
    if (this.noteKill()) return;
    this.context.flags = {
      form: kind, size, type: size === 8 ? 'i64' : 'i32', isPlain: true,
      a: this.kept('a', a), b: this.kept('b', count), r: this.kept('r', this.narrowed(size, r)),
    }; // prettier-ignore
  }
  flagsResult(size: Width, r: Value, bits: Value): void {
    if (this.noteKill()) return;
    const type = size === 8 ? 'i64' : 'i32';
    this.context.flags = { form: 'result', size, type, r: this.kept('r', this.narrowed(size, r)), bits: this.kept('bits', bits) }; // prettier-ignore
  }
  flagsChange(mask: number, bits: Value): void {
    const { context } = this;
    const isAll = (mask & ALL_FLAGS) === ALL_FLAGS;
    if (isAll && this.noteKill()) return;
    if (!context.events.sets) context.events.usesFlags = true;
    if (context.flagsAreDead) {
      context.flags = DEAD;
      return;
    }
    let before = context.flags;
    if (before.form === 'changed' && (before.mask & ~mask) === 0) before = before.before;
    else if (!isAll && uses(before, 'changed')) before = this.makeGeneric(before);
    context.flags = { form: 'changed', mask, bits: this.kept('change', bits), before };
  }

  // Readers ----------------------------------------------------------------------------------------------------------
  flags(): Value {
    this.context.use();
    return this.flagsOf(this.context.flags);
  }
  carry(): Value {
    this.context.use();
    return this.carryOf(this.context.flags);
  }
  condition(code: number): Value {
    this.context.use();
    const value = this.conditionOf(this.context.flags, code >> 1);
    return code & 1 ? this.eqz(value) : value;
  }

  /** Kind, result and operands on the Wasm stack, for the functions of the slow module. */
  private pushLazy(state: Described): void {
    const { f } = this;
    const wide = (value: Value, signed: boolean): void => {
      this.push1(value.type === 'i64' ? value : this.op(signed ? 'i64.extend_i32_s' : 'i64.extend_i32_u', value));
    };
    // Operands first where they need code of their own.
    const carried = isStep(state) ? this.extendU(this.carryOf(state.before)) : undefined;
    f.i32(KIND[state.form] | (log2(state.size) << 4));
    wide(state.r, true);
    if (carried) this.push1(carried);
    else if (state.form === 'result') wide(state.bits, false);
    else if (!isStep(state)) wide(state.a, state.form !== 'shl' && state.form !== 'shr');
    if (state.form === 'result' || isStep(state)) f.i64(0);
    else wide(state.b, state.form === 'sub' || state.form === 'add');
  }
  private pushGeneric(): void {
    const { cc } = this.context;
    this.f.get(cc.kind).get(cc.result).get(cc.a).get(cc.b);
  }
  private flagsOf(state: FlagState): Value {
    switch (state.form) {
      case 'dead':
      case 'joined':
        throw new Error(`flags that were thought ${state.form} are looked at`);
      case 'changed': {
        const bits = this.and(state.bits, this.i32(state.mask));
        if ((state.mask & ALL_FLAGS) === ALL_FLAGS) return bits;
        return this.or(this.and(this.flagsOf(state.before), this.i32(~state.mask)), bits);
      }
      case 'generic':
        this.pushGeneric();
        break;
      default:
        this.pushLazy(state);
    }
    this.f.call(this.context.imports.flags);
    return this.bind('i32');
  }

  private carryOf(state: FlagState): Value {
    switch (state.form) {
      case 'generic':
        return this.genericCarry();
      case 'joined':
        throw new Error('the carry of joined flags is asked for');
      case 'inc':
      case 'dec':
        return this.carryOf(state.before);
      case 'result':
        return this.and(state.bits, this.i32(1));
      case 'changed':
        return state.mask & 1 ? this.and(state.bits, this.i32(1)) : this.carryOf(state.before);
      case 'sub':
        if (state.isPlain) return this.ltU(state.a, state.b);
        return this.sign(this.borrowOf(state.a, state.b, state.r));
      case 'add':
        if (state.isPlain) return this.ltU(state.r, state.a);
        return this.sign(this.or(this.and(state.a, state.b), this.and(this.or(state.a, state.b), this.not(state.r))));
      default:
        return this.and(this.flagsOf(state), this.i32(1));
    }
  }
  private sign(value: Value): Value {
    return this.op(`${value.type}.lt_s`, value, value.type === 'i64' ? this.i64(0) : this.i32(0));
  }
  private borrowOf(a: Value, b: Value, r: Value): Value {
    const inverted = this.not(a);
    return this.or(this.and(inverted, b), this.and(this.or(inverted, b), r));
  }
  private genericCarry(): Value {
    const { f, context } = this;
    const { cc } = context;
    f.get(cc.kind).i32(15).op('i32.and').op('i32.eqz').if('i32');
    // The borrow of ccA - ccB = ccResult.
    f.get(cc.a).i64(-1).op('i64.xor').get(cc.b).op('i64.and');
    f.get(cc.a).i64(-1).op('i64.xor').get(cc.b).op('i64.or').get(cc.result).op('i64.and').op('i64.or');
    f.i64(0).op('i64.lt_s').else();
    f.i32(CARRY_IN_A).get(cc.kind).i32(15).op('i32.and').op('i32.shr_u').i32(1).op('i32.and').if('i32');
    f.get(cc.a).op('i32.wrap_i64').i32(1).op('i32.and').else();
    this.pushGeneric();
    f.call(context.imports.carry).end().end();
    return this.bind('i32');
  }

  /** Condition `group` (code / 2) by flags at their places. */
  private conditionOfBits(bits: Value, group: number): Value {
    const bit = (n: number): Value => this.and(this.shrU(bits, this.i32(n)), this.i32(1));
    if (group === 6) return this.xor(bit(7), bit(11));
    if (group === 7) return this.or(this.xor(bit(7), bit(11)), bit(6));
    const mask = CONDITION_FLAGS[group] ?? 0;
    return this.ne(this.and(bits, this.i32(mask)), this.i32(0));
  }
  private conditionOf(state: FlagState, group: number): Value {
    switch (state.form) {
      case 'generic':
        return this.genericCondition(group);
      case 'dead':
      case 'joined':
        throw new Error(`flags that were thought ${state.form} decide a condition`);
      case 'changed': {
        const wanted = CONDITION_FLAGS[group] ?? 0;
        if ((wanted & ~state.mask) === 0) return this.conditionOfBits(state.bits, group);
        if ((wanted & state.mask) === 0) return this.conditionOf(state.before, group);
        return this.conditionOfBits(this.flagsOf(state), group);
      }
      default:
        return this.describedCondition(state, group);
    }
  }
  private describedCondition(state: Described, group: number): Value {
    const { r } = state;
    const zero = state.type === 'i64' ? this.i64(0) : this.i32(0);
    const isCompare = state.form === 'sub' && state.isPlain;
    switch (group) {
      case 1:
        return this.carryOf(state);
      case 2:
        return this.eqz(r);
      case 3:
        if (isCompare) return this.op(`${state.type}.le_u`, state.a, state.b);
        return this.or(this.carryOf(state), this.eqz(r));
      case 4:
        return this.ltS(r, zero);
      case 5: {
        const low = this.and(state.type === 'i64' ? this.wrap(r) : r, this.i32(0xff));
        return this.eqz(this.and(this.popcnt(low), this.i32(1)));
      }
      case 6:
        if (isCompare) return this.ltS(state.a, state.b);
        break;
      case 7:
        if (isCompare) return this.op(`${state.type}.le_s`, state.a, state.b);
        break;
    }
    const overflow = this.overflowOf(state);
    if (group === 0) return overflow;
    const less = this.xor(this.ltS(r, zero), overflow);
    return group === 6 ? less : this.or(less, this.eqz(r));
  }
  private overflowOf(state: Described): Value {
    switch (state.form) {
      case 'sub':
        return this.sign(this.and(this.xor(state.a, state.b), this.xor(state.a, state.r)));
      case 'add':
        return this.sign(this.and(this.xor(state.a, state.r), this.xor(state.b, state.r)));
      case 'inc':
      case 'dec': {
        const minimum = -(1n << BigInt(8 * state.size - 1));
        const edge = state.form === 'inc' ? minimum : -minimum - 1n;
        return this.eq(state.r, state.type === 'i64' ? this.i64(edge) : this.i32(Number(edge)));
      }
      case 'result':
        return this.and(this.shrU(state.bits, this.i32(11)), this.i32(1));
      default:
        return this.and(this.shrU(this.flagsOf(state), this.i32(11)), this.i32(1));
    }
  }
  private genericCondition(group: number): Value {
    const { f, context } = this;
    const { cc } = context;
    if (group === 1) return this.genericCarry();
    if (group === 2) {
      f.get(cc.result).op('i64.eqz');
      return this.bind('i32');
    }
    const compared = { 3: 'i64.le_u', 6: 'i64.lt_s', 7: 'i64.le_s' }[group];
    const general = (): void => {
      f.i32(2 * group);
      this.pushGeneric();
      f.call(context.imports.condition);
    };
    if (compared === undefined && group !== 4) general();
    else {
      // A comparison without borrow, which the kind alone does not say: ccResult does.
      f.get(cc.kind).i32(15).op('i32.and').op('i32.eqz');
      f.get(cc.a).get(cc.b).op('i64.sub').get(cc.result).op('i64.eq').op('i32.and').if('i32');
      if (compared === undefined) f.get(cc.result).i64(0).op('i64.lt_s');
      else f.get(cc.a).get(cc.b).op(compared);
      f.else();
      general();
      f.end();
    }
    return this.bind('i32');
  }

  // The lazy words of the state --------------------------------------------------------------------------------------
  /** Makes the run-time form of `state`; what is known of the flags is not touched. */
  emitGeneric(state: FlagState): void {
    const { f, context } = this;
    const { cc } = context;
    if (state.form === 'generic' || state.form === 'dead') return;
    if (state.form === 'joined') throw new Error('joined flags cannot be made generic here');
    if (state.form === 'changed') {
      this.emitUnfolded(state);
      return;
    }
    this.pushLazy(state);
    f.set(cc.b).set(cc.a).set(cc.result).set(cc.kind);
  }
  /** As `lazyHalvesFrom`: words that fold to the flags that `state` stands for. */
  private emitUnfolded(state: ChangedFlags): void {
    const { f, context } = this;
    const all = this.flagsOf(state);
    const zero = this.and(all, this.i32(0x40));
    const sign = this.shl(this.extendU(this.and(all, this.i32(0x80))), this.i64(56));
    const parity = this.select(this.and(all, this.i32(4)), this.i64(3), this.i64(1));
    const result = this.select(zero, this.i64(0), this.or(sign, parity));
    const inverted = this.xor(this.and(all, this.i32(0x84)), this.i32(4));
    const kept = this.and(all, this.i32(0x811));
    const a = this.extendU(this.or(kept, this.select(zero, inverted, this.i32(0))));
    this.push1(result);
    f.set(context.cc.result);
    this.push1(a);
    f.set(context.cc.a)
      .i32(CC.explicit | (3 << 4))
      .set(context.cc.kind)
      .i64(0)
      .set(context.cc.b);
  }
  protected makeGeneric(state: FlagState): FlagState {
    this.emitGeneric(state);
    return GENERIC;
  }
}
