/** Semantics of stack instructions and near transfers, and of string instructions. Intel SDM vol. 2. */
import type { Algebra, Semantics, Width } from './algebra.ts';
import { memoryType } from './base.ts';

/** The next RIP in the type of the operand size. */
const returnAddress = <V>(e: Algebra<V>): V => e.truncate(e.size, e.nextRip());
const widened = <V>(e: Algebra<V>, value: V): V => e.zeroExtend(e.size, value);

const counter = <V>(e: Algebra<V>): V => e.zeroExtend(e.addressSize, e.gpr(1, e.addressSize));

type StringName = 'movs' | 'cmps' | 'stos' | 'lods' | 'scas' | 'ins' | 'outs';
const RSI = 6;
const RDI = 7;

const stringHelper = <V>(e: Algebra<V>, name: StringName): void => {
  const repeat = e.repeat === 'none' ? 0 : e.repeat === 'rep' ? 1 : 2;
  e.helper(name, e.i32(elementSize(e)), e.i32(e.addressSize), e.i32(repeat), e.segment());
};
const elementSize = <V>(e: Algebra<V>): Width =>
  e.operands[0]?.kind === 'memory' ? (e.operands[0].size as Width) : e.size;

/** One element, 64-bit addresses, no segment base; registers move after everything that can fault. */
function stringStep<V>(e: Algebra<V>, name: StringName): void {
  const size = elementSize(e);
  const type = memoryType(size);
  const backwards = e.and(e.field('eflags'), e.i32(0x400));
  const stride = e.select(backwards, e.i64(-size), e.i64(size));
  const source = e.gpr(RSI, 8);
  const destination = e.gpr(RDI, 8);
  const advance = (n: number, from: V): void => {
    e.setGpr(n, 8, e.add(from, stride));
  };
  switch (name) {
    case 'movs':
      e.store(type, destination, e.load(type, source));
      advance(RSI, source);
      advance(RDI, destination);
      return;
    case 'stos':
      e.store(type, destination, e.gpr(0, size));
      advance(RDI, destination);
      return;
    case 'lods': {
      const value = e.load(type, source);
      e.setGpr(0, size, value);
      advance(RSI, source);
      return;
    }
    case 'scas': {
      const a = e.gpr(0, size);
      const b = e.load(type, destination);
      e.flagsSub(size, a, b, e.sub(a, b));
      advance(RDI, destination);
      return;
    }
    default: {
      // Processors read the destination first unless the instruction is repeated: where both fault, one can tell.
      const early = e.repeat === 'none' ? e.load(type, destination) : undefined;
      const a = e.load(type, source);
      const b = early ?? e.load(type, destination);
      e.flagsSub(size, a, b, e.sub(a, b));
      advance(RSI, source);
      advance(RDI, destination);
    }
  }
}

/**
 * String instructions. In 64-bit mode one element is done here, and so are the repetitions of LODS, an element at a time;
 * others, other address sizes and segments with a base are the helpers' (`helpers/string-operations.ts`), which work in whole pages.
 */
const string =
  (name: StringName): Semantics =>
  (e) => {
    if (e.mode !== 64 || e.addressSize !== 8 || name === 'ins' || name === 'outs') {
      stringHelper(e, name);
      return;
    }
    const based = e.ltU(e.i32(3), e.segment());
    if (e.repeat === 'none') {
      e.when(based, () => { stringHelper(e, name); }, () => { stringStep(e, name); });
      return;
    }
    const count = e.gpr(1, 8);
    const bulk = name === 'lods' ? based : e.or(based, e.ltU(e.i64(1), count));
    e.when(bulk, () => { stringHelper(e, name); }, () => {
      e.when(e.ne(count, e.i64(0)), () => {
        stringStep(e, name);
        const left = e.sub(count, e.i64(1));
        e.setGpr(1, 8, left);
        if (name === 'lods') e.when(e.ne(left, e.i64(0)), () => { e.again(); });
      });
    });
  }; // prettier-ignore

export const controlSemantics: Readonly<Record<string, Semantics>> = {
  push: (e) => {
    e.push(e.size, e.read(0));
  },
  pop: (e) => {
    const { value, commit } = e.pop(e.size);
    commit();
    e.write(0, value);
  },
  popmem: (e) => {
    // The address is made with the stack pointer already moved: the operand's displacement says so (`bindOperand`).
    const { value, commit } = e.pop(e.size);
    const isMemory = e.operands[0]?.kind === 'memory';
    if (!isMemory) commit();
    e.write(0, value);
    if (isMemory) commit();
  },
  pusha: (e) => {
    e.helper('pusha', e.i32(e.size));
  },
  popa: (e) => {
    e.helper('popa', e.i32(e.size));
  },
  enter: (e) => {
    e.helper('enter', e.i32(e.size), e.read(0), e.read(1));
  },
  leave: (e) => {
    const frame = e.gpr(5, 8);
    const value = e.stackRead(e.size, frame);
    e.setStackPointer(e.add(frame, e.i64(e.size)));
    e.setGpr(5, e.size, value);
  },
  pushf: (e) => {
    const rest = e.and(e.field('eflags'), e.i32(0x3c7f00 & ~0x30000));
    const flags = e.or(e.or(e.flags(), rest), e.i32(2));
    e.push(e.size, e.truncate(e.size, e.extendU(flags)));
  },
  popf: (e) => {
    const { value, commit } = e.pop(e.size);
    commit();
    e.helper('popf', e.i32(e.size), widened(e, value));
  },
  jmp: (e) => {
    e.jumpRelative(0);
  },
  jcc: (e) => {
    e.when(e.condition(e.variant), () => {
      e.jumpRelative(0);
    });
  },
  loop: (e) => {
    const size = e.addressSize as Width;
    const left = e.sub(counter(e), e.i64(1));
    e.setGpr(1, size, e.truncate(size, left));
    let taken = e.ne(e.zeroExtend(size, e.truncate(size, left)), e.i64(0));
    if (e.variant < 2) taken = e.and(taken, e.condition(e.variant === 1 ? 4 : 5));
    e.when(taken, () => {
      e.jumpRelative(0);
    });
  },
  jrcxz: (e) => {
    e.when(e.eqz(counter(e)), () => {
      e.jumpRelative(0);
    });
  },
  call: (e) => {
    e.push(e.size, returnAddress(e));
    e.jumpRelative(0);
  },
  callind: (e) => {
    const target = widened(e, e.read(0));
    e.canonicalTarget(target);
    e.push(e.size, returnAddress(e));
    e.jump(target);
  },
  jmpind: (e) => {
    const target = widened(e, e.read(0));
    e.canonicalTarget(target);
    e.jump(target);
  },
  ret: (e) => {
    const { value, commit } = e.pop(e.size);
    const target = widened(e, value);
    e.canonicalTarget(target);
    commit();
    if (e.operands.length > 0) e.setStackPointer(e.add(e.gpr(4, 8), e.zeroExtend(2, e.read(0))));
    e.jump(target);
  },
  movs: string('movs'),
  cmps: string('cmps'),
  stos: string('stos'),
  lods: string('lods'),
  scas: string('scas'),
  ins: string('ins'),
  outs: string('outs'),
};
