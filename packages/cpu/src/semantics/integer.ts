/** Semantics of the integer instructions: moves, arithmetic, logic, shifts, bits. Intel SDM vol. 2. */
import type { Algebra, Semantics, Width } from './algebra.ts';

const CF = 1;
const OF = 0x800;
const ALL_FLAGS = 0x8d5;

/** Bits of an operand size as a constant of its type. */
const bits = (size: Width): number => size * 8;
const same = <V>(e: Algebra<V>, size: Width, value: number | bigint): V => e.constant(size, value);
/** An i32 0 or 1 in the type of `size`. */
const widen = <V>(e: Algebra<V>, size: Width, value: V): V => (size === 8 ? e.extendU(value) : value);
const narrow = <V>(e: Algebra<V>, size: Width, value: V): V => (size === 8 ? e.wrap(value) : value);
/** Bit `n` of a value as i32. */
const bitAt = <V>(e: Algebra<V>, size: Width, value: V, n: number): V =>
  e.and(narrow(e, size, e.shrU(value, same(e, size, n))), e.i32(1));
const msb = <V>(e: Algebra<V>, size: Width, value: V): V => bitAt(e, size, value, bits(size) - 1);
/** CF and OF (i32 0 or 1 each) at their places. */
const carryOverflow = <V>(e: Algebra<V>, cf: V, of: V): V => e.or(cf, e.shl(of, e.i32(11)));

const add: Semantics = (e) => {
  const b = e.read(1);
  let a = b;
  const r = e.update(0, (old) => e.add((a = old), b));
  e.flagsAdd(e.size, a, b, r);
};
const sub: Semantics = (e) => {
  const b = e.read(1);
  let a = b;
  const r = e.update(0, (old) => e.sub((a = old), b));
  e.flagsSub(e.size, a, b, r);
};
const adc: Semantics = (e) => {
  const carry = widen(e, e.size, e.carry());
  const b = e.read(1);
  let a = b;
  const r = e.update(0, (old) => e.add(e.add((a = old), b), carry));
  e.flagsAdd(e.size, a, b, r);
};
const sbb: Semantics = (e) => {
  const carry = widen(e, e.size, e.carry());
  const b = e.read(1);
  let a = b;
  const r = e.update(0, (old) => e.sub(e.sub((a = old), b), carry));
  e.flagsSub(e.size, a, b, r);
};
const logic =
  (op: 'and' | 'or' | 'xor'): Semantics =>
  (e) => {
    const b = e.read(1);
    const r = e.update(0, (old) => e[op](old, b));
    e.flagsLogic(e.size, r);
  };

const shift =
  (kind: 'shl' | 'shr' | 'sar'): Semantics =>
  (e) => {
    const size = e.size;
    const count32 = e.and(e.read(1), e.i32(size === 8 ? 63 : 31));
    const count = widen(e, size, count32);
    let a = count;
    const r = e.update(0, (old) => {
      a = kind === 'sar' && size < 4 ? e.wrap(e.signExtend(size, old)) : old;
      return kind === 'shl' ? e.shl(a, count) : kind === 'shr' ? e.shrU(a, count) : e.shrS(a, count);
    });
    e.when(count32, () => {
      e.flagsShift(kind, size, a, count, r);
    });
  };

const rotate =
  (left: boolean): Semantics =>
  (e) => {
    const size = e.size;
    const count32 = e.and(e.read(1), e.i32(size === 8 ? 63 : 31));
    const r = e.update(0, (old) => {
      if (size >= 4) {
        const count = widen(e, size, count32);
        return left ? e.rotl(old, count) : e.rotr(old, count);
      }
      const n = e.and(count32, e.i32(bits(size) - 1));
      const m = e.sub(e.i32(bits(size)), n);
      return left ? e.or(e.shl(old, n), e.shrU(old, m)) : e.or(e.shrU(old, n), e.shl(old, m));
    });
    e.when(count32, () => {
      const top = msb(e, size, r);
      const cf = left ? bitAt(e, size, r, 0) : top;
      const of = left ? e.xor(top, cf) : e.xor(top, bitAt(e, size, r, bits(size) - 2));
      e.flagsChange(CF | OF, carryOverflow(e, cf, of));
    });
  };

/** RCL and RCR: a rotation of size + 1 bits, done in 64-bit halves that never shift by 64. */
const rotateCarry =
  (left: boolean): Semantics =>
  (e) => {
    const size = e.size;
    const width = bits(size);
    const masked = e.and(e.read(1), e.i32(size === 8 ? 63 : 31));
    const n32 = size < 4 ? e.op('i32.rem_u', masked, e.i32(width + 1)) : masked;
    const n = e.extendU(n32);
    const carry = e.extendU(e.carry());
    const one = e.i64(1);
    const rest = e.sub(e.i64(width), n);
    let cf = n;
    const r = e.update(0, (old) => {
      const a = size === 8 ? old : e.extendU(old);
      const rotated = left
        ? e.or(e.or(e.shl(a, n), e.shl(carry, e.sub(n, one))), e.shrU(e.shrU(a, one), rest))
        : e.or(e.or(e.shrU(a, n), e.shl(carry, rest)), e.shl(e.shl(a, one), rest));
      cf = e.and(e.shrU(a, left ? rest : e.sub(n, one)), one);
      return e.truncate(size, e.select(n32, rotated, a));
    });
    e.when(n32, () => {
      const cf32 = e.wrap(cf);
      const top = msb(e, size, r);
      e.flagsChange(CF | OF, carryOverflow(e, cf32, e.xor(top, left ? cf32 : bitAt(e, size, r, width - 2))));
    });
  };

const doubleShift =
  (left: boolean): Semantics =>
  (e) => {
    const size = e.size;
    const width = bits(size);
    const count32 = e.and(e.read(2), e.i32(size === 8 ? 63 : 31));
    const n = e.extendU(count32);
    const b = e.zeroExtend(size, e.read(1));
    let before = b;
    let cf = b;
    const r = e.update(0, (old) => {
      const a = e.zeroExtend(size, old);
      before = old;
      let shifted: typeof a;
      if (size === 2) {
        // Counts above 16 are undefined: the concatenation runs out.
        const both = left ? e.or(e.shl(a, e.i64(16)), b) : e.or(e.shl(b, e.i64(16)), a);
        shifted = left ? e.shrU(e.shl(both, n), e.i64(16)) : e.shrU(both, n);
        cf = left ? e.shrU(e.shl(both, n), e.i64(32)) : e.shrU(both, e.sub(n, e.i64(1)));
      } else {
        const rest = e.sub(e.i64(width - 1), n);
        const one = e.i64(1);
        shifted = left
          ? e.or(e.shl(a, n), e.shrU(e.shrU(b, one), rest))
          : e.or(e.shrU(a, n), e.shl(e.shl(b, one), rest));
        cf = e.shrU(a, left ? e.sub(e.i64(width), n) : e.sub(n, one));
      }
      return e.truncate(size, e.select(count32, shifted, a));
    });
    e.when(count32, () => {
      const of = e.xor(msb(e, size, before), msb(e, size, r));
      e.flagsResult(size, r, carryOverflow(e, e.and(e.wrap(cf), e.i32(1)), of));
    });
  };

/** Sets rDX:rAX (AX for bytes) to a product. */
function multiply<V>(e: Algebra<V>, signed: boolean): void {
  const size = e.size;
  const source = e.read(0);
  if (size === 8) {
    const a = e.gpr(0, 8);
    const low = e.mul(a, source);
    const high = signed ? e.mulHighS(a, source) : e.mulHighU(a, source);
    const overflow = signed ? e.ne(high, e.shrS(low, e.i64(63))) : e.ne(high, e.i64(0));
    e.setGpr(0, 8, low);
    e.setGpr(2, 8, high);
    e.flagsResult(8, low, carryOverflow(e, overflow, overflow));
    return;
  }
  const extend = (v: V): V => (signed ? e.signExtend(size, v) : e.zeroExtend(size, v));
  const product = e.mul(extend(e.gpr(0, size)), extend(source));
  const low = e.truncate(size, product);
  const overflow = e.ne(extend(low), product);
  if (size === 1) e.setGpr(0, 2, e.truncate(2, product));
  else {
    e.setGpr(0, size, low);
    e.setGpr(2, size, e.truncate(size, e.shrU(product, e.i64(bits(size)))));
  }
  e.flagsResult(size, low, carryOverflow(e, overflow, overflow));
}

function imulTo<V>(e: Algebra<V>, a: V, b: V): void {
  const size = e.size;
  let overflow: V;
  let r: V;
  if (size === 8) {
    r = e.mul(a, b);
    overflow = e.ne(e.mulHighS(a, b), e.shrS(r, e.i64(63)));
  } else {
    const product = e.mul(e.signExtend(size, a), e.signExtend(size, b));
    r = e.truncate(size, product);
    overflow = e.ne(e.signExtend(size, r), product);
  }
  e.write(0, r);
  e.flagsResult(size, r, carryOverflow(e, overflow, overflow));
}

function divide<V>(e: Algebra<V>, signed: boolean): void {
  const size = e.size;
  const divisor = e.read(0);
  e.faultWhen(e.eqz(divisor), 0);
  if (size === 8) {
    const low = e.gpr(0, 8);
    const high = e.gpr(2, 8);
    const simple = signed ? e.and(e.eq(high, e.shrS(low, e.i64(63))), e.ne(divisor, e.i64(-1))) : e.eqz(high);
    e.when(
      simple,
      () => {
        const suffix = signed ? 's' : 'u';
        const quotient = e.op(`i64.div_${suffix}`, low, divisor);
        const remainder = e.op(`i64.rem_${suffix}`, low, divisor);
        e.setGpr(0, 8, quotient);
        e.setGpr(2, 8, remainder);
      },
      () => {
        e.helper(signed ? 'idiv128' : 'div128', divisor);
      },
    );
    return;
  }
  const suffix = signed ? 's' : 'u';
  const d = signed ? e.signExtend(size, divisor) : e.zeroExtend(size, divisor);
  const n =
    size === 1
      ? signed ? e.signExtend(2, e.gpr(0, 2)) : e.zeroExtend(2, e.gpr(0, 2))
      : size === 4
        ? e.or(e.shl(e.zeroExtend(4, e.gpr(2, 4)), e.i64(32)), e.zeroExtend(4, e.gpr(0, 4)))
        : ((v: V) => (signed ? e.signExtend(4, v) : e.zeroExtend(4, v)))(e.or(e.shl(e.gpr(2, 2), e.i32(16)), e.gpr(0, 2))); // prettier-ignore
  if (signed && size === 4)
    // The one quotient that i64.div_s cannot hold.
    e.faultWhen(e.and(e.eq(n, e.i64(-(1n << 63n))), e.eq(d, e.i64(-1))), 0);
  const quotient = e.op(`i64.div_${suffix}`, n, d);
  const low = e.truncate(size, quotient);
  e.faultWhen(e.ne(signed ? e.signExtend(size, low) : e.zeroExtend(size, low), quotient), 0);
  const remainder = e.truncate(size, e.op(`i64.rem_${suffix}`, n, d));
  if (size === 1) e.setGpr(0, 2, e.or(e.and(low, e.i32(0xff)), e.shl(remainder, e.i32(8))));
  else {
    e.setGpr(0, size, low);
    e.setGpr(2, size, remainder);
  }
}

/** BT and its kin: a register bit offset reaches beyond a memory operand. */
const bitTest =
  (change: 'none' | 'set' | 'reset' | 'complement'): Semantics =>
  (e) => {
    const size = e.size;
    const offset = e.read(1);
    const immediate = e.operands[1]?.kind === 'immediate';
    const n = e.and(immediate && size === 8 ? e.zeroExtend(1, offset) : offset, same(e, size, bits(size) - 1));
    const mask = e.shl(same(e, size, 1), n);
    let value = n;
    const apply = (old: typeof n): typeof n => {
      value = old;
      if (change === 'set') return e.or(old, mask);
      if (change === 'reset') return e.and(old, e.not(mask));
      return e.xor(old, mask);
    };
    if (e.operands[0]?.kind === 'memory' && !immediate) {
      const log2 = size === 8 ? 3 : size === 4 ? 2 : 1;
      const distance = e.shl(e.shrS(e.signExtend(size, offset), e.i64(log2 + 3)), e.i64(log2));
      const address = e.add(e.address(0), distance);
      if (change === 'none') value = e.load(size === 8 ? 'u64' : size === 4 ? 'u32' : 'u16', address);
      else e.updateMemory(address, size, apply);
    } else if (change === 'none') value = e.read(0);
    else e.update(0, apply);
    e.flagsChange(CF, e.and(narrow(e, size, e.shrU(value, n)), e.i32(1)));
  };

/** A BSF, BSR source, TZCNT and LZCNT count in the type of the operand size. */
function scanned<V>(e: Algebra<V>, source: V, reverse: boolean): V {
  const size = e.size;
  if (!reverse) return e.ctz(size === 2 ? e.or(source, e.i32(0x10000)) : source);
  const zeros = e.clz(source);
  return size === 2 ? e.sub(zeros, e.i32(16)) : zeros;
}

const countZeros =
  (leading: boolean): Semantics =>
  (e) => {
    const source = e.read(1);
    const count = scanned(e, source, leading);
    e.write(0, count);
    e.flagsChange(ALL_FLAGS, e.or(e.eqz(source), e.shl(e.eqz(count), e.i32(6))));
  };
const bitScan =
  (reverse: boolean): Semantics =>
  (e) => {
    const source = e.read(1);
    e.when(e.ne(source, same(e, e.size, 0)), () => {
      const count = scanned(e, source, reverse);
      e.write(0, reverse ? e.xor(count, same(e, e.size, bits(e.size) - 1)) : count);
    });
    e.flagsResult(e.size, source, e.i32(0));
  };

export const integerSemantics: Readonly<Record<string, Semantics>> = {
  mov: (e) => {
    e.write(0, e.read(1));
  },
  movzx: (e) => {
    e.write(0, e.truncate(e.size, e.zeroExtend(e.operands[1]?.size as Width, e.read(1))));
  },
  movsx: (e) => {
    e.write(0, e.truncate(e.size, e.signExtend(e.operands[1]?.size as Width, e.read(1))));
  },
  lea: (e) => {
    e.write(0, e.truncate(e.size, e.offset(1)));
  },
  nop: () => undefined,
  xchg: (e) => {
    const b = e.read(1);
    if (e.operands[0]?.kind === 'memory') {
      let old = b;
      e.update(0, (o) => ((old = o), b), true);
      e.write(1, old);
    } else {
      const a = e.read(0);
      e.write(0, b);
      e.write(1, a);
    }
  },
  add, sub, adc, sbb,
  and: logic('and'), or: logic('or'), xor: logic('xor'),
  cmp: (e) => {
    const a = e.read(0);
    const b = e.read(1);
    e.flagsSub(e.size, a, b, e.sub(a, b));
  },
  test: (e) => {
    e.flagsLogic(e.size, e.and(e.read(0), e.read(1)));
  },
  inc: (e) => {
    e.flagsInc(e.size, e.update(0, (old) => e.add(old, same(e, e.size, 1))));
  },
  dec: (e) => {
    e.flagsDec(e.size, e.update(0, (old) => e.sub(old, same(e, e.size, 1))));
  },
  not: (e) => {
    e.update(0, (old) => e.not(old));
  },
  neg: (e) => {
    const zero = same(e, e.size, 0);
    let b = zero;
    const r = e.update(0, (old) => e.sub(zero, (b = old)));
    e.flagsSub(e.size, zero, b, r);
  },
  shl: shift('shl'), shr: shift('shr'), sar: shift('sar'),
  rol: rotate(true), ror: rotate(false), rcl: rotateCarry(true), rcr: rotateCarry(false),
  shld: doubleShift(true), shrd: doubleShift(false),
  mul: (e) => { multiply(e, false); },
  imul1: (e) => { multiply(e, true); },
  imul2: (e) => { imulTo(e, e.read(0), e.read(1)); },
  imul3: (e) => { imulTo(e, e.read(1), e.read(2)); },
  div: (e) => { divide(e, false); },
  idiv: (e) => { divide(e, true); },
  cbw: (e) => {
    const half = (e.size / 2) as Width;
    e.setGpr(0, e.size, e.truncate(e.size, e.signExtend(half, e.gpr(0, half))));
  },
  cwd: (e) => {
    const sign = e.shrS(e.signExtend(e.size, e.gpr(0, e.size)), e.i64(63));
    e.setGpr(2, e.size, e.truncate(e.size, sign));
  },
  setcc: (e) => { e.write(0, e.condition(e.variant)); },
  cmov: (e) => {
    const source = e.read(1);
    e.write(0, e.select(e.condition(e.variant), source, e.read(0)));
  },
  bt: bitTest('none'), bts: bitTest('set'), btr: bitTest('reset'), btc: bitTest('complement'),
  bsf: bitScan(false), bsr: bitScan(true), tzcnt: countZeros(false), lzcnt: countZeros(true),
  popcnt: (e) => {
    const source = e.read(1);
    e.write(0, e.popcnt(source));
    e.flagsChange(ALL_FLAGS, e.shl(e.eqz(source), e.i32(6)));
  },
  bswap: (e) => { e.write(0, swapBytes(e, e.operands[0]?.size as Width, e.read(0))); },
  movbe: (e) => { e.write(0, swapBytes(e, e.size, e.read(1))); },
  cmpxchg: (e) => {
    const expected = e.gpr(0, e.size);
    const replacement = e.read(1);
    let old = expected;
    if (e.operands[0]?.kind === 'register') {
      // A register that differs is not written at all: the upper half of a 64-bit one stays.
      old = e.read(0);
      e.flagsSub(e.size, expected, old, e.sub(expected, old));
      e.when(
        e.eq(old, expected),
        () => { e.write(0, replacement); },
        () => { e.setGpr(0, e.size, old); },
      ); // prettier-ignore
      return;
    }
    e.update(0, (o) => e.select(e.eq((old = o), expected), replacement, o));
    e.flagsSub(e.size, expected, old, e.sub(expected, old));
    e.when(e.ne(old, expected), () => { e.setGpr(0, e.size, old); });
  },
  cmpxchg8b: (e) => {
    const join = (high: number, low: number) =>
      e.or(e.shl(e.extendU(e.gpr(high, 4)), e.i64(32)), e.extendU(e.gpr(low, 4)));
    const expected = join(2, 0);
    const replacement = join(1, 3);
    let old = expected;
    e.updateMemory(e.address(0), 8, (o) => e.select(e.eq((old = o), expected), replacement, o));
    const equal = e.eq(old, expected);
    e.when(e.eqz(equal), () => {
      e.setGpr(0, 4, e.wrap(old));
      e.setGpr(2, 4, e.wrap(e.shrU(old, e.i64(32))));
    });
    e.flagsChange(0x40, e.shl(equal, e.i32(6)));
  },
  cmpxchg16b: (e) => {
    const address = e.address(0);
    e.aligned(address, 16);
    if (e.locked) {
      e.flagsChange(0x40, e.wrap(e.helper('cmpxchg16b', address)));
      return;
    }
    // Without LOCK nothing is promised against other CPUs. Both halves lie in the page that the first access checked.
    const next = e.add(address, e.i64(8));
    let [low, high, equal] = [address, address, address];
    e.updateMemory(address, 8, (old) => {
      low = old;
      high = e.load('u64', next);
      equal = e.and(e.eq(low, e.gpr(0, 8)), e.eq(high, e.gpr(2, 8)));
      return e.select(equal, e.gpr(3, 8), low);
    });
    e.store('u64', next, e.select(equal, e.gpr(1, 8), high));
    e.when(e.eqz(equal), () => {
      e.setGpr(0, 8, low);
      e.setGpr(2, 8, high);
    });
    e.flagsChange(0x40, e.shl(equal, e.i32(6)));
  },
  xadd: (e) => {
    const source = e.read(1);
    let old = source;
    if (e.operands[0]?.kind === 'memory') {
      const r = e.update(0, (o) => e.add((old = o), source));
      e.write(1, old);
      e.flagsAdd(e.size, old, source, r);
    } else {
      old = e.read(0);
      const r = e.add(old, source);
      e.write(1, old);
      e.write(0, r);
      e.flagsAdd(e.size, old, source, r);
    }
  },
  crc32: (e) => {
    const size = e.operands[1]?.size as Width;
    const value = e.zeroExtend(size, e.read(1));
    const crc = e.helper('crc32', e.zeroExtend(4, e.operands[0]?.size === 8 ? e.wrap(e.read(0)) : e.read(0)), value, e.i32(size)); // prettier-ignore
    e.write(0, e.truncate(e.operands[0]?.size as Width, crc));
  },
  clc: (e) => { e.flagsChange(CF, e.i32(0)); },
  stc: (e) => { e.flagsChange(CF, e.i32(1)); },
  cmc: (e) => { e.flagsChange(CF, e.xor(e.carry(), e.i32(1))); },
  cld: (e) => { e.setField('eflags', e.and(e.field('eflags'), e.i32(~0x400))); },
  std: (e) => { e.setField('eflags', e.or(e.field('eflags'), e.i32(0x400))); },
  sahf: (e) => { e.flagsChange(0xd5, e.wrap(e.shrU(e.gpr(0, 8), e.i64(8)))); },
  lahf: (e) => {
    const flags = e.or(e.and(e.flags(), e.i32(0xd5)), e.i32(2));
    e.setGpr(0, 2, e.or(e.shl(flags, e.i32(8)), e.gpr(0, 1)));
  },
  salc: (e) => { e.setGpr(0, 1, e.sub(e.i32(0), e.carry())); },
  xlat: (e) => {
    e.setGpr(0, 1, e.load('u8', e.add(e.address(0), e.extendU(e.gpr(0, 1)))));
  },
  aaa: (e) => { e.helper('bcd', e.i32(0)); },
  aas: (e) => { e.helper('bcd', e.i32(1)); },
  daa: (e) => { e.helper('bcd', e.i32(2)); },
  das: (e) => { e.helper('bcd', e.i32(3)); },
  aam: (e) => { e.helper('aam', e.read(0)); },
  aad: (e) => { e.helper('aad', e.read(0)); },
  bound: (e) => { e.helper('bound', e.read(0), e.address(1), e.i32(e.size)); },
}; // prettier-ignore

function swapBytes<V>(e: Algebra<V>, size: Width, value: V): V {
  if (size === 2) return e.or(e.shl(value, e.i32(8)), e.shrU(value, e.i32(8)));
  if (size === 4) {
    const odd = e.and(e.rotl(value, e.i32(8)), e.i32(0x00ff00ff));
    return e.or(odd, e.and(e.rotr(value, e.i32(8)), e.i32(0xff00ff00 | 0)));
  }
  const high = swapBytes(e, 4, e.wrap(value));
  const low = swapBytes(e, 4, e.wrap(e.shrU(value, e.i64(32))));
  return e.or(e.shl(e.extendU(high), e.i64(32)), e.extendU(low));
}
