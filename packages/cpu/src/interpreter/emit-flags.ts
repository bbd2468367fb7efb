/** Lazily kept flags of the generator: what setters leave, and what conditions read. Kinds: engine/flags.ts. */
import { CC } from '../engine/flags.ts';
import type { Width } from '../semantics/algebra.ts';
import { log2 } from '../semantics/base.ts';
import type { CcField, Value } from './emit-frame.ts';
import { MemoryEmitter } from './emit-memory.ts';

export abstract class FlagEmitter extends MemoryEmitter {
  /** The flags are known to be those of a plain comparison that this handler made itself. */
  flagsAreCompare = false;

  protected setCc(field: CcField, value: Value): void {
    this.push1(value);
    this.frame.setCc(field);
  }
  protected getCc(field: CcField): Value {
    this.frame.getCc(field);
    return this.bind(field === 'ccKind' ? 'i32' : 'i64');
  }
  protected setKind(kind: number, size: Width): void {
    this.setCc('ccKind', this.i32(kind | (log2(size) << 4)));
  }
  protected flagsOperands(kind: number, size: Width, a: Value, b: Value, r: Value): void {
    this.setCc('ccA', this.signExtend(size, a));
    this.setCc('ccB', this.signExtend(size, b));
    this.setCc('ccResult', this.signExtend(size, r));
    this.setKind(kind, size);
  }
  flagsSub(size: Width, a: Value, b: Value, r: Value): void {
    this.flagsOperands(CC.sub, size, a, b, r);
  }
  flagsAdd(size: Width, a: Value, b: Value, r: Value): void {
    this.flagsOperands(CC.add, size, a, b, r);
  }
  override flagsLogic(size: Width, r: Value): void {
    const result = this.signExtend(size, r);
    this.setCc('ccA', result);
    this.setCc('ccB', this.i64(0));
    this.setCc('ccResult', result);
    this.setKind(CC.sub, size);
  }
  flagsInc(size: Width, r: Value): void {
    this.incDec(CC.inc, size, r);
  }
  flagsDec(size: Width, r: Value): void {
    this.incDec(CC.dec, size, r);
  }
  protected incDec(kind: number, size: Width, r: Value): void {
    this.setCc('ccA', this.extendU(this.carry()));
    this.setCc('ccResult', this.signExtend(size, r));
    this.setKind(kind, size);
  }
  flagsShift(kind: 'shl' | 'shr' | 'sar', size: Width, a: Value, count: Value, r: Value): void {
    const wide = (v: Value): Value => (v.type === 'i64' ? v : this.extendU(v));
    this.setCc('ccA', kind === 'sar' ? this.signExtend(size, a) : wide(a));
    this.setCc('ccB', wide(count));
    this.setCc('ccResult', this.signExtend(size, r));
    this.setKind(CC[kind], size);
  }
  flagsResult(size: Width, r: Value, bits: Value): void {
    this.setCc('ccResult', this.signExtend(size, r));
    this.setCc('ccA', this.extendU(bits));
    this.setKind(CC.explicit, size);
  }
  flagsChange(mask: number, bits: Value): void {
    const change = this.and(bits, this.i32(mask));
    const all = mask === 0x8d5 ? change : this.or(this.and(this.flags(), this.i32(~mask)), change);
    if (mask & 0xc4) {
      const zero = this.and(all, this.i32(0x40));
      const sign = this.shl(this.extendU(this.and(all, this.i32(0x80))), this.i64(56));
      const parity = this.select(this.and(all, this.i32(4)), this.i64(3), this.i64(1));
      this.setCc('ccResult', this.select(zero, this.i64(0), this.or(sign, parity)));
      const inverted = this.xor(this.and(all, this.i32(0x84)), this.i32(4));
      const kept = this.and(all, this.i32(0x811));
      this.setCc('ccA', this.extendU(this.or(kept, this.select(zero, inverted, this.i32(0)))));
    } else {
      const isExplicit = this.eq(this.and(this.getCc('ccKind'), this.i32(15)), this.i32(CC.explicit));
      const inverted = this.and(this.wrap(this.getCc('ccA')), this.i32(0x84));
      const kept = this.and(all, this.i32(0x811));
      this.setCc('ccA', this.extendU(this.or(kept, this.select(isExplicit, inverted, this.i32(0)))));
    }
    this.setKind(CC.explicit, 8);
  }
  protected pushCc(): void {
    this.frame.getCc('ccKind');
    this.frame.getCc('ccResult');
    this.frame.getCc('ccA');
    this.frame.getCc('ccB');
  }
  flags(): Value {
    this.pushCc();
    this.f.call(this.slow.flags);
    return this.bind('i32');
  }
  /** With the kind known to be `sub` inline, else by the slow module. */
  protected bySub(inline: () => void, otherwise: () => void): Value {
    this.frame.getCc('ccKind');
    this.f.i32(15).op('i32.and').op('i32.eqz').if('i32');
    inline();
    this.f.else();
    otherwise();
    this.f.end();
    return this.bind('i32');
  }
  /** i64 whose sign is the borrow of ccA - ccB = ccResult. */
  protected pushBorrow(): void {
    const { f, frame } = this;
    frame.getCc('ccA');
    f.i64(-1).op('i64.xor');
    frame.getCc('ccB');
    f.op('i64.and');
    frame.getCc('ccA');
    f.i64(-1).op('i64.xor');
    frame.getCc('ccB');
    f.op('i64.or');
    frame.getCc('ccResult');
    f.op('i64.and').op('i64.or');
  }
  /** i64 whose sign is SF xor OF of a subtraction. */
  protected pushLess(): void {
    const { f, frame } = this;
    frame.getCc('ccA');
    frame.getCc('ccB');
    f.op('i64.xor');
    frame.getCc('ccA');
    frame.getCc('ccResult');
    f.op('i64.xor').op('i64.and');
    frame.getCc('ccResult');
    f.op('i64.xor');
  }
  carry(): Value {
    return this.bySub(
      () => {
        this.pushBorrow();
        this.f.i64(63).op('i64.shr_u').op('i32.wrap_i64');
      },
      () => {
        this.pushCc();
        this.f.call(this.slow.carry);
      },
    );
  }
  /** The condition after this handler's own comparison of ccA with ccB. */
  protected conditionOfCompare(code: number): Value {
    const { f, frame } = this;
    const operator = { 1: 'lt_u', 3: 'le_u', 6: 'lt_s', 7: 'le_s' }[code >> 1];
    if (operator) {
      frame.getCc('ccA');
      frame.getCc('ccB');
      f.op(`i64.${operator}`);
    } else {
      frame.getCc('ccResult');
      if (code >> 1 === 2) f.op('i64.eqz');
      else f.i64(0).op('i64.lt_s');
    }
    const value = this.bind('i32');
    return code & 1 ? this.eqz(value) : value;
  }
  condition(code: number): Value {
    if (this.flagsAreCompare) return this.conditionOfCompare(code);
    const { f, frame } = this;
    const inverted = code & 1;
    const general = (): void => {
      f.i32(code & ~1);
      this.pushCc();
      f.call(this.slow.condition);
    };
    const sign = (): void => {
      f.i64(0).op('i64.lt_s');
    };
    const zero = (): void => {
      frame.getCc('ccResult');
      f.op('i64.eqz');
    };
    let value: Value;
    switch (code >> 1) {
      case 1:
        value = this.carry();
        break;
      case 2:
        zero();
        value = this.bind('i32');
        break;
      case 3:
        value = this.bySub(() => { this.pushBorrow(); sign(); zero(); f.op('i32.or'); }, general); // prettier-ignore
        break;
      case 4:
        value = this.bySub(() => { frame.getCc('ccResult'); sign(); }, general); // prettier-ignore
        break;
      case 6:
        value = this.bySub(() => { this.pushLess(); sign(); }, general); // prettier-ignore
        break;
      case 7:
        value = this.bySub(() => { this.pushLess(); sign(); zero(); f.op('i32.or'); }, general); // prettier-ignore
        break;
      default:
        general();
        value = this.bind('i32');
    }
    return inverted ? this.eqz(value) : value;
  }
}
