/**
 * What the x87 instructions do, one helper a semantics name. Arguments: linear address or register number, variant.
 * Intel SDM vol. 2; exceptions vol. 1, 8.5.
 */
import type { Helper } from '../helper.ts';
import { FpFlag } from '../../softfloat/context.ts';
import { BINARY32, BINARY64, EXTENDED, isNan, unpack } from '../../softfloat/format.ts';
import type { Relation } from '../../softfloat/sse.ts';
import {
  x87Angles,
  x87Arctangent,
  x87TwoToXMinusOne,
  x87YLog2X,
  x87YLog2XPlusOne,
} from '../../softfloat/transcendental.ts';
import {
  isDenormal,
  x87Binary,
  x87Compare,
  x87Examine,
  x87Extract,
  x87FromBcd,
  x87FromFormat,
  x87FromInteger,
  x87OperandFromFormat,
  x87Remainder,
  x87Round,
  x87Scale,
  x87Sqrt,
  x87ToBcd,
  x87ToFormat,
  x87ToInteger,
  type X87Binary,
} from '../../softfloat/x87.ts';
import { CONDITION, X87Unit } from './x87-unit.ts';
import { resetX87, updateSummary } from './fpu-state.ts';

type Body = (unit: X87Unit, operand: bigint, variant: number) => bigint | undefined;

/** A waiting instruction. */
const instruction =
  (body: (unit: X87Unit, operand: bigint, variant: number) => bigint | void): Helper =>
  (helper, args) => {
    const unit = new X87Unit(helper);
    unit.begin();
    return body(unit, args[0] ?? 0n, Number(args[1] ?? 0n));
  };

const OPERATIONS: readonly X87Binary[] = ['add', 'mul', 'sub', 'subr', 'div', 'divr'];
const operation = (variant: number): X87Binary => OPERATIONS[variant] ?? 'add';

interface MemoryOperand {
  value: bigint;
  isDenormal: boolean;
}

type MemoryKind = 'm32' | 'm64' | 'i16' | 'i32' | 'i64' | 'm80' | 'bcd';

function load10(unit: X87Unit, address: bigint): bigint {
  const bytes = new Uint8Array(10);
  unit.helper.memory.readBytes(address, bytes);
  const view = new DataView(bytes.buffer);
  return view.getBigUint64(0, true) | (BigInt(view.getUint16(8, true)) << 64n);
}

function store10(unit: X87Unit, address: bigint, value: bigint): void {
  const bytes = new Uint8Array(10);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, value), true);
  view.setUint16(8, Number(value >> 64n), true);
  unit.helper.memory.writeBytes(address, bytes);
}

const INTEGER_BYTES = { i16: 2, i32: 4, i64: 8 } as const;
const FLOAT_FORMATS = { m32: BINARY32, m64: BINARY64 } as const;

/** An arithmetic operand from memory as extended. */
function memoryOperand(unit: X87Unit, kind: 'm32' | 'm64' | 'i16' | 'i32', address: bigint): MemoryOperand {
  if (kind === 'i16' || kind === 'i32') {
    const size = INTEGER_BYTES[kind];
    return {
      value: x87FromInteger(BigInt.asIntN(size * 8, unit.helper.memory.read(address, size))),
      isDenormal: false,
    };
  }
  const format = FLOAT_FORMATS[kind];
  const bits = unit.helper.memory.read(address, kind === 'm32' ? 4 : 8);
  return { value: x87OperandFromFormat(format, bits), isDenormal: isDenormal(format, bits) };
}

const isNanPattern = (bits: bigint): boolean => isNan(unpack(EXTENDED, bits));

const arithmeticMemory = (kind: 'm32' | 'm64' | 'i16' | 'i32'): Helper =>
  instruction((unit, address, variant) => {
    const operand = memoryOperand(unit, kind, address);
    if (!unit.requireValid([0], 0)) return;
    const top = unit.read(0);
    const result = x87Binary(unit.context, operation(variant), top, operand.value);
    if (operand.isDenormal) unit.addDenormal(isNanPattern(top));
    unit.deliver(0, result);
  });

const arithmeticRegister = (target: 'st0' | 'sti', pops: boolean): Helper =>
  instruction((unit, register, variant) => {
    const i = Number(register);
    const to = target === 'st0' ? 0 : i;
    if (!unit.requireValid([0, i], to, pops)) return;
    const [left, right] = target === 'st0' ? [unit.read(0), unit.read(i)] : [unit.read(i), unit.read(0)];
    unit.deliver(to, x87Binary(unit.context, operation(variant), left, right), pops);
  });

// Comparisons ---------------------------------------------------------------------------------------------------------

const CONDITION_BITS: Readonly<Record<Relation, number>> = {
  greater: 0,
  less: CONDITION.c0,
  equal: CONDITION.c3,
  unordered: CONDITION.c0 | CONDITION.c2 | CONDITION.c3,
};
const ALL_CONDITIONS = CONDITION.c0 | CONDITION.c2 | CONDITION.c3;

/** Sets C3, C2, C0 after a comparison, also (as AMD's processors do) after an unmasked exception, which forbids the pop. */
function finishCompare(unit: X87Unit, relation: Relation, pops: number): void {
  unit.settle();
  unit.setConditions(ALL_CONDITIONS, CONDITION_BITS[relation]);
  if (unit.context.hasNoResult) return;
  for (let n = 0; n < pops; n++) unit.pop();
}

function compareStackFault(unit: X87Unit, pops: number): void {
  const isMasked = unit.stackFault(false);
  unit.setConditions(ALL_CONDITIONS, CONDITION_BITS.unordered);
  if (!isMasked) return;
  for (let n = 0; n < pops; n++) unit.pop();
}

const compareMemory = (kind: 'm32' | 'm64' | 'i16' | 'i32'): Helper =>
  instruction((unit, address, pops) => {
    const operand = memoryOperand(unit, kind, address);
    if (unit.isEmpty(0)) {
      compareStackFault(unit, pops);
      return;
    }
    const top = unit.read(0);
    const relation = x87Compare(unit.context, top, operand.value, true);
    if (operand.isDenormal) unit.addDenormal(isNanPattern(top));
    finishCompare(unit, relation, pops);
  });

function compareRegisters(unit: X87Unit, i: number, pops: number, signalsQuiet: boolean): void {
  if (unit.isEmpty(0) || unit.isEmpty(i)) {
    compareStackFault(unit, pops);
    return;
  }
  finishCompare(unit, x87Compare(unit.context, unit.read(0), unit.read(i), signalsQuiet), pops);
}

const EFLAGS_BITS: Readonly<Record<Relation, bigint>> = { greater: 0n, less: 0x01n, equal: 0x40n, unordered: 0x45n };

/** FCOMI, FUCOMI: variant bit 0 signals quiet NaNs, bit 1 pops. */
const compareFlags: Body = (unit, register, variant) => {
  const i = Number(register);
  const pops = (variant & 2) !== 0;
  if (unit.isEmpty(0) || unit.isEmpty(i)) {
    if (unit.stackFault(false) && pops) unit.pop();
    return EFLAGS_BITS.unordered;
  }
  const relation = x87Compare(unit.context, unit.read(0), unit.read(i), (variant & 1) !== 0);
  unit.settle(true);
  if (pops && !unit.context.hasNoResult) unit.pop();
  return EFLAGS_BITS[relation];
};

// Loads and stores ----------------------------------------------------------------------------------------------------

const load = (kind: MemoryKind): Helper =>
  instruction((unit, address) => {
    let value: bigint;
    switch (kind) {
      case 'm32':
      case 'm64': {
        const bits = unit.helper.memory.read(address, kind === 'm32' ? 4 : 8);
        if (unit.isEmpty(-1)) value = x87FromFormat(unit.context, FLOAT_FORMATS[kind], bits);
        else value = 0n;
        // A denormal is loaded even when its exception is not masked.
        unit.context.masks |= FpFlag.denormal;
        break;
      }
      case 'm80':
        value = load10(unit, address);
        break;
      case 'bcd':
        value = x87FromBcd(load10(unit, address));
        break;
      default: {
        const size = INTEGER_BYTES[kind];
        value = x87FromInteger(BigInt.asIntN(size * 8, unit.helper.memory.read(address, size)));
      }
    }
    unit.pushChecked(value);
  });

/** Exceptions whose unmasked form keeps a result from memory. */
const STORE_FLAGS = FpFlag.invalid | FpFlag.denormal | FpFlag.zeroDivide | FpFlag.overflow | FpFlag.underflow;

const PAGE_BYTES = 4096;
const PAGE_MASK = 0xfffn;

/** Stores what `convert` makes of ST(0) in `size` bytes; `indefinite` answers an empty register. */
function storeMemory(
  unit: X87Unit,
  address: bigint,
  size: number,
  pops: boolean,
  indefinite: bigint,
  convert: (top: bigint) => bigint,
): void {
  const put = (value: bigint): void => {
    if (size === 10) store10(unit, address, value);
    else unit.helper.memory.write(address, size, value);
  };
  /** A store that does not happen faults all the same. */
  const probe = (): void => {
    const inFirstPage = Math.min(size, PAGE_BYTES - Number(address & PAGE_MASK));
    unit.helper.memory.span(address, inFirstPage, true);
    if (inFirstPage < size) unit.helper.memory.span(address + BigInt(inFirstPage), size - inFirstPage, true);
  };
  if (unit.isEmpty(0)) {
    // The store comes first: a page fault must leave the status word alone.
    if ((unit.state.fcw & FpFlag.invalid) !== 0) put(indefinite);
    else probe();
    if (unit.stackFault(false) && pops) unit.pop();
    return;
  }
  const value = convert(unit.read(0));
  const { context } = unit;
  const isHeldBack = (context.flags & ~context.masks & STORE_FLAGS) !== 0;
  if (isHeldBack) probe();
  else put(value);
  unit.settle();
  if (!isHeldBack && pops) unit.pop();
}

const storeFloat = (kind: 'm32' | 'm64'): Helper =>
  instruction((unit, address, variant) => {
    const format = FLOAT_FORMATS[kind];
    storeMemory(unit, address, kind === 'm32' ? 4 : 8, variant !== 0, format.defaultNan, (top) =>
      x87ToFormat(unit.context, format, top),
    );
  });

const storeInteger = (kind: 'i16' | 'i32' | 'i64', truncates: boolean): Helper =>
  instruction((unit, address, variant) => {
    const size = INTEGER_BYTES[kind];
    const bits = size * 8;
    storeMemory(unit, address, size, truncates || variant !== 0, 1n << BigInt(bits - 1), (top) =>
      x87ToInteger(unit.context, bits, top, truncates),
    );
  });

const BCD_INDEFINITE = 0xffffc000000000000000n;

// Constants: the exact values rounded by the control word. -------------------------------------------------------------

/** Nearest, down, up, zero. */
const CONSTANTS: readonly (readonly [bigint, bigint, bigint, bigint])[] = [
  same(0x3fff8000000000000000n),
  rounded(0x4000d49a784bcd1b8afen, 'up'),
  rounded(0x3fffb8aa3b295c17f0bbn, 'nearestIsUp'),
  rounded(0x4000c90fdaa22168c234n, 'nearestIsUp'),
  rounded(0x3ffd9a209a84fbcff798n, 'nearestIsUp'),
  rounded(0x3ffeb17217f7d1cf79abn, 'nearestIsUp'),
  same(0n),
];

function same(value: bigint): [bigint, bigint, bigint, bigint] {
  return [value, value, value, value];
}

/** `truncated` is the value cut off; what the nearest is, the second argument tells. */
function rounded(truncated: bigint, nearest: 'up' | 'nearestIsUp'): [bigint, bigint, bigint, bigint] {
  const above = truncated + 1n;
  return nearest === 'nearestIsUp' ? [above, truncated, above, truncated] : [truncated, truncated, above, truncated];
}

// Everything else -----------------------------------------------------------------------------------------------------

const EXAMINE_BITS = {
  unsupported: 0,
  nan: CONDITION.c0,
  normal: CONDITION.c2,
  infinity: CONDITION.c2 | CONDITION.c0,
  zero: CONDITION.c3,
  denormal: CONDITION.c3 | CONDITION.c2,
} as const;
const EXAMINE_EMPTY = CONDITION.c3 | CONDITION.c0;

/** An operation from ST(0) to ST(0). */
const unary = (compute: (unit: X87Unit, top: bigint) => bigint): Helper =>
  instruction((unit) => {
    if (!unit.requireValid([0], 0)) return;
    unit.deliver(0, compute(unit, unit.read(0)));
  });

/** An operation of ST(0) and ST(1) to ST(1), popping. */
const binaryPop = (compute: (unit: X87Unit, st0: bigint, st1: bigint) => bigint): Helper =>
  instruction((unit) => {
    if (!unit.requireValid([0, 1], 1, true)) return;
    unit.deliver(1, compute(unit, unit.read(0), unit.read(1)), true);
  });

const remainder = (roundsToNearest: boolean): Helper =>
  instruction((unit) => {
    unit.setConditions(CONDITION.c2, 0);
    if (!unit.requireValid([0, 1], 0)) return;
    const { value, quotient, isComplete } = x87Remainder(unit.context, unit.read(0), unit.read(1), roundsToNearest);
    unit.deliver(0, value);
    if (quotient === undefined || unit.context.hasNoResult) return;
    const bits = isComplete
      ? ((quotient & 4) !== 0 ? CONDITION.c0 : 0) |
        ((quotient & 2) !== 0 ? CONDITION.c3 : 0) |
        ((quotient & 1) !== 0 ? CONDITION.c1 : 0)
      : CONDITION.c2;
    unit.setConditions(ALL_CONDITIONS | CONDITION.c1, bits);
  });

/** FSIN and FCOS: C2 when the argument is out of range, and nothing else then. */
const angle = (wanted: 'sine' | 'cosine'): Helper =>
  instruction((unit) => {
    unit.setConditions(CONDITION.c2, 0);
    if (!unit.requireValid([0], 0)) return;
    const result = x87Angles(unit.context, unit.read(0), wanted);
    unit.setConditions(CONDITION.c2, result.isOutOfRange ? CONDITION.c2 : 0);
    if (result.isOutOfRange) unit.settle();
    else unit.deliver(0, result[wanted]);
  });

/** FSINCOS and FPTAN: replace ST(0) and push. */
const anglePush = (wanted: 'both' | 'tangent'): Helper =>
  instruction((unit) => {
    const isEmpty = unit.isEmpty(0);
    unit.setConditions(CONDITION.c2, 0);
    if (isEmpty || !unit.isEmpty(-1)) {
      if (!unit.stackFault(!isEmpty)) return;
      unit.write(0, EXTENDED.defaultNan);
      unit.push(EXTENDED.defaultNan);
      return;
    }
    const result = x87Angles(unit.context, unit.read(0), wanted);
    unit.setConditions(CONDITION.c2, result.isOutOfRange ? CONDITION.c2 : 0);
    unit.settle();
    if (result.isOutOfRange || unit.context.hasNoResult) return;
    unit.write(0, wanted === 'both' ? result.sine : result.tangent);
    const isNumber = !isNanPattern(result.tangent) || wanted === 'both';
    unit.push(wanted === 'both' ? result.cosine : isNumber ? EXTENDED_ONE : result.tangent);
  });

const EXTENDED_ONE = 0x3fff8000000000000000n;
const SIGN = 1n << 79n;

const exchange: Body = (unit, register) => {
  const pair = [0, Number(register)] as const;
  const empty = pair.filter((n) => unit.isEmpty(n));
  if (empty.length > 0) {
    if (!unit.stackFault(false)) return undefined;
    for (const n of empty) unit.write(n, EXTENDED.defaultNan);
  } else unit.setConditions(CONDITION.c1, 0);
  const [a, b] = [unit.read(pair[0]), unit.read(pair[1])];
  unit.write(pair[0], b);
  unit.write(pair[1], a);
  return undefined;
};

const EXCEPTION_BITS = 0x80ff;

export const x87InstructionHelpers: Readonly<Record<string, Helper>> = {
  'x87.arithmetic.m32': arithmeticMemory('m32'),
  'x87.arithmetic.m64': arithmeticMemory('m64'),
  'x87.arithmetic.i16': arithmeticMemory('i16'),
  'x87.arithmetic.i32': arithmeticMemory('i32'),
  'x87.arithmetic.st0': arithmeticRegister('st0', false),
  'x87.arithmetic.sti': arithmeticRegister('sti', false),
  'x87.arithmetic.pop': arithmeticRegister('sti', true),
  'x87.compare.m32': compareMemory('m32'),
  'x87.compare.m64': compareMemory('m64'),
  'x87.compare.i16': compareMemory('i16'),
  'x87.compare.i32': compareMemory('i32'),
  'x87.compare.sti': instruction((unit, register, pops) => {
    compareRegisters(unit, Number(register), pops, true);
  }),
  'x87.compareunordered': instruction((unit, register, pops) => {
    compareRegisters(unit, Number(register), pops, false);
  }),
  'x87.comparepop': instruction((unit, _, variant) => {
    compareRegisters(unit, 1, 2, variant === 0);
  }),
  'x87.compareflags': instruction(compareFlags),
  'x87.ftst': instruction((unit) => {
    if (unit.isEmpty(0)) compareStackFault(unit, 0);
    else finishCompare(unit, x87Compare(unit.context, unit.read(0), 0n, true), 0);
  }),
  'x87.fxam': instruction((unit) => {
    const bits = unit.isEmpty(0) ? EXAMINE_EMPTY : EXAMINE_BITS[x87Examine(unit.read(0))];
    const sign = (unit.read(0) & SIGN) !== 0n ? CONDITION.c1 : 0;
    unit.setConditions(ALL_CONDITIONS | CONDITION.c1, bits | sign);
  }),
  'x87.load.m32': load('m32'),
  'x87.load.m64': load('m64'),
  'x87.load.m80': load('m80'),
  'x87.load.i16': load('i16'),
  'x87.load.i32': load('i32'),
  'x87.load.i64': load('i64'),
  'x87.load.bcd': load('bcd'),
  'x87.load.sti': instruction((unit, register) => {
    const i = Number(register);
    if (unit.isEmpty(i)) {
      if (unit.stackFault(false)) unit.push(EXTENDED.defaultNan);
    } else unit.pushChecked(unit.read(i));
  }),
  'x87.store.m32': storeFloat('m32'),
  'x87.store.m64': storeFloat('m64'),
  'x87.store.m80': instruction((unit, address) => {
    storeMemory(unit, address, 10, true, EXTENDED.defaultNan, (top) => top);
  }),
  'x87.store.bcd': instruction((unit, address) => {
    storeMemory(unit, address, 10, true, BCD_INDEFINITE, (top) => x87ToBcd(unit.context, top));
  }),
  'x87.store.sti': instruction((unit, register, variant) => {
    const i = Number(register);
    if (!unit.requireValid([0], i, variant !== 0)) return;
    unit.deliver(i, unit.read(0), variant !== 0);
  }),
  'x87.integer.i16': storeInteger('i16', false),
  'x87.integer.i32': storeInteger('i32', false),
  'x87.integer.i64': storeInteger('i64', false),
  'x87.truncate.i16': storeInteger('i16', true),
  'x87.truncate.i32': storeInteger('i32', true),
  'x87.truncate.i64': storeInteger('i64', true),
  'x87.exchange': instruction(exchange),
  'x87.constant': instruction((unit, _, variant) => {
    const choices = CONSTANTS[variant];
    unit.pushChecked(choices?.[unit.context.rounding] ?? 0n);
  }),
  'x87.fchs': unary((_, top) => top ^ SIGN),
  'x87.fabs': unary((_, top) => top & ~SIGN),
  'x87.fsqrt': unary((unit, top) => x87Sqrt(unit.context, top)),
  'x87.frndint': unary((unit, top) => x87Round(unit.context, top)),
  'x87.f2xm1': unary((unit, top) => x87TwoToXMinusOne(unit.context, top)),
  'x87.fscale': instruction((unit) => {
    if (!unit.requireValid([0, 1], 0)) return;
    unit.deliver(0, x87Scale(unit.context, unit.read(0), unit.read(1)));
  }),
  'x87.fyl2x': binaryPop((unit, x, y) => x87YLog2X(unit.context, x, y)),
  'x87.fyl2xp1': binaryPop((unit, x, y) => x87YLog2XPlusOne(unit.context, x, y)),
  'x87.fpatan': binaryPop((unit, x, y) => x87Arctangent(unit.context, x, y)),
  'x87.fprem': remainder(false),
  'x87.fprem1': remainder(true),
  'x87.fsin': angle('sine'),
  'x87.fcos': angle('cosine'),
  'x87.fsincos': anglePush('both'),
  'x87.fptan': anglePush('tangent'),
  'x87.fxtract': instruction((unit) => {
    const isEmpty = unit.isEmpty(0);
    if (isEmpty || !unit.isEmpty(-1)) {
      if (!unit.stackFault(!isEmpty)) return;
      unit.write(0, EXTENDED.defaultNan);
      unit.push(EXTENDED.defaultNan);
      return;
    }
    const { exponent, significand } = x87Extract(unit.context, unit.read(0));
    unit.settle();
    if (unit.context.hasNoResult) return;
    unit.write(0, exponent);
    unit.push(significand);
  }),
  'x87.fincstp': instruction((unit) => {
    unit.moveTop(1);
    unit.setConditions(CONDITION.c1, 0);
  }),
  'x87.fdecstp': instruction((unit) => {
    unit.moveTop(-1);
    unit.setConditions(CONDITION.c1, 0);
  }),
  'x87.ffree': instruction((unit, register, variant) => {
    unit.free(Number(register));
    if (variant !== 0) unit.pop();
    unit.setConditions(CONDITION.c1, 0);
  }),
  'x87.fcmov': instruction((unit, register, condition) => {
    const i = Number(register);
    if (!unit.requireValid([0, i], 0)) return;
    if (condition !== 0) unit.write(0, unit.read(i));
  }),
  'x87.fldcw': instruction((unit, address) => {
    unit.state.fcw = (Number(unit.helper.memory.read(address, 2)) & 0x1f3f) | 0x40;
    updateSummary(unit.state);
  }),
  'x87.fnclex': ({ state }) => {
    state.fsw &= ~EXCEPTION_BITS;
  },
  'x87.fninit': ({ state }) => {
    resetX87(state);
  },
};
