/** Far transfers, interrupts by instruction and returns from them, fast system calls. Intel SDM vol. 2, vol. 3 chapters 5 and 6. */
import { ExitReason } from '../../engine/exit-reason.ts';
import { ATTR, RFLAGS, SEG } from '../../engine/state.ts';
import type { Segment } from '../../engine/state.ts';
import { VECTOR } from '../helper.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { EFER, is64Bit, isCanonical, isLongMode, isProtected, isVirtual8086, setStackPointer, stackRead, stackWrite } from './addressing.ts'; // prettier-ignore
import { dplOf, isCode, isConforming, loadSegmentRegister, markAccessed, readDescriptor, setSegmentFrom, typeOf } from './segments.ts'; // prettier-ignore
import type { Descriptor } from './segments.ts';
import { flagsAfterPop } from './system.ts';

const FLAT_CODE = ATTR.present | ATTR.s | 0xb | ATTR.granularity;
const FLAT_DATA = ATTR.present | ATTR.s | 0x3 | ATTR.granularity | ATTR.big;

/** CS and SS as the fast system calls set them: flat, by selector and privilege alone. */
function flatPair(context: HelperContext, cs: number, ss: number, cpl: number, long: boolean): void {
  const dpl = cpl << ATTR.dplShift;
  const { state } = context;
  state.setSegment(SEG.cs, { selector: cs, attributes: FLAT_CODE | dpl | (long ? ATTR.long : ATTR.big), limit: 0xffff_ffff, base: 0n }); // prettier-ignore
  state.setSegment(SEG.ss, { selector: ss, attributes: FLAT_DATA | dpl, limit: 0xffff_ffff, base: 0n });
  state.cpl = cpl;
  context.changed('mode');
}

function checkTarget(context: HelperContext, cs: Segment, rip: bigint): void {
  const long = isLongMode(context.state) && (cs.attributes & ATTR.long) !== 0;
  if (long ? !isCanonical(rip) : rip > BigInt(cs.limit)) context.fault(VECTOR.generalProtection, 0);
}

function realFar(context: HelperContext, selector: number, offset: bigint): void {
  const { state } = context;
  if (offset > BigInt(state.csLimit)) context.fault(VECTOR.generalProtection, 0);
  const cs = state.segment(SEG.cs);
  setSegmentFrom(context, SEG.cs, { ...cs, selector, base: BigInt(selector) << 4n });
  context.jump(offset);
}

/** A code descriptor for JMP and CALL at the current privilege. */
function directCode(context: HelperContext, d: Descriptor): Segment {
  const { state, fault } = context;
  const error = d.selector & 0xfffc;
  if (isConforming(d) ? dplOf(d) > state.cpl : (d.selector & 3) > state.cpl || dplOf(d) !== state.cpl)
    fault(VECTOR.generalProtection, error);
  if (!(d.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  if (isLongMode(state) && d.attributes & ATTR.long && d.attributes & ATTR.big) fault(VECTOR.generalProtection, error);
  return { ...markAccessed(context, d), selector: error | state.cpl };
}

/** In the type of a data segment. */
const EXPAND_DOWN = 4;
const CALL_GATES: Readonly<Record<number, number>> = { 4: 2, 12: 4 };

interface Gate {
  selector: number;
  offset: bigint;
  size: number;
  parameters: number;
}
function readGate(context: HelperContext, d: Descriptor): Gate {
  const { state, memory, fault } = context;
  const error = d.selector & 0xfffc;
  const size = isLongMode(state) ? (typeOf(d) === 12 ? 8 : 0) : (CALL_GATES[typeOf(d)] ?? 0);
  // Task gates and TSS descriptors: no hardware task switches (docs/LIMITS.md).
  if (size === 0 || d.attributes & ATTR.s) fault(VECTOR.generalProtection, error);
  if (dplOf(d) < state.cpl || dplOf(d) < (d.selector & 3)) fault(VECTOR.generalProtection, error);
  if (!(d.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  let offset = (d.raw & 0xffffn) | (size > 2 ? (d.raw >> 32n) & 0xffff_0000n : 0n);
  if (size === 8) offset |= (memory.read(d.address + 8n, 8, true) & 0xffff_ffffn) << 32n;
  return { selector: Number((d.raw >> 16n) & 0xffffn), offset, size, parameters: Number((d.raw >> 32n) & 31n) };
}

/** RSP0..2 (or SS:ESP) of the task state segment for a privilege level. */
export function stackFromTss(context: HelperContext, cpl: number): { ss: number; rsp: bigint } {
  const { state, memory, fault } = context;
  const error = state.trSelector & 0xfffc;
  if (isLongMode(state)) {
    const offset = 4 + 8 * cpl;
    if (offset + 7 > state.trLimit) fault(VECTOR.invalidTss, error);
    return { ss: cpl, rsp: memory.read(state.trBase + BigInt(offset), 8, true) };
  }
  const wide = (state.trAttributes & 8) !== 0;
  const offset = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
  if (offset + (wide ? 5 : 3) > state.trLimit) fault(VECTOR.invalidTss, error);
  const rsp = memory.read(state.trBase + BigInt(offset), wide ? 4 : 2, true);
  return { ss: Number(memory.read(state.trBase + BigInt(offset + (wide ? 4 : 2)), 2, true)), rsp };
}

/** SS for an inner privilege level. */
export function innerStackSegment(context: HelperContext, selector: number, cpl: number): Segment {
  const { fault } = context;
  if (isLongMode(context.state)) return { selector: cpl, attributes: cpl << ATTR.dplShift, limit: 0, base: 0n };
  const error = selector & 0xfffc;
  if (error === 0) fault(VECTOR.invalidTss, 0);
  const d = readDescriptor(context, selector, VECTOR.invalidTss);
  const writable = (d.attributes & (ATTR.s | 8 | 2)) === (ATTR.s | 2);
  if ((selector & 3) !== cpl || dplOf(d) !== cpl || !writable) fault(VECTOR.invalidTss, error);
  if (!(d.attributes & ATTR.present)) fault(VECTOR.stackFault, error);
  return markAccessed(context, d);
}

/** `size` bytes at an offset lie inside the limit of a stack segment. */
export function hasRoom(ss: Segment, offset: bigint, size: number): boolean {
  const limit = BigInt(ss.limit);
  const last = offset + BigInt(size) - 1n;
  if (!(ss.attributes & EXPAND_DOWN)) return last <= limit;
  return offset > limit && last <= (ss.attributes & ATTR.big ? 0xffff_ffffn : 0xffffn);
}

/** Pushes on the stack of an inner level, before anything of the state is that level's: a fault finds it as it was. */
function pushInner(
  context: HelperContext,
  stack: { top: bigint; ss: Segment; cpl: number },
  size: number,
  words: readonly bigint[],
): bigint {
  const { ss } = stack;
  const error = ss.selector & 0xfffc;
  if (size === 8 && !isCanonical(stack.top)) context.fault(VECTOR.stackFault, 0);
  const mask = size === 8 ? (1n << 64n) - 1n : ss.attributes & ATTR.big ? 0xffff_ffffn : 0xffffn;
  let pointer = stack.top;
  for (const word of words) {
    pointer = (pointer - BigInt(size)) & mask;
    if (size !== 8 && !hasRoom(ss, pointer, size)) context.fault(VECTOR.stackFault, error);
    const linear = size === 8 ? pointer : (ss.base + pointer) & 0xffff_ffffn;
    context.memory.write(linear, size, BigInt.asUintN(8 * size, word), stack.cpl !== 3);
  }
  return pointer;
}

function farTransfer(
  context: HelperContext,
  size: number,
  target: { offset: bigint; selector: number },
  isCall: boolean,
): void {
  const { state, fault } = context;
  const { offset, selector } = target;
  const pushReturn = (n: number, cs: number, rip: bigint): void => {
    const pointer = state.rsp;
    stackWrite(context, pointer - BigInt(2 * n), n, rip);
    stackWrite(context, pointer - BigInt(n), n, BigInt(cs));
    setStackPointer(state, pointer - BigInt(2 * n));
  };
  if (!isProtected(state) || isVirtual8086(state)) {
    if (offset > BigInt(state.csLimit)) fault(VECTOR.generalProtection, 0);
    if (isCall) pushReturn(size, state.csSelector, context.nextRip);
    realFar(context, selector, offset);
    return;
  }
  if ((selector & 0xfffc) === 0) fault(VECTOR.generalProtection, 0);
  const d = readDescriptor(context, selector);
  if (isCode(d)) {
    const cs = directCode(context, d);
    checkTarget(context, cs, offset);
    if (isCall) pushReturn(size, state.csSelector, context.nextRip);
    setSegmentFrom(context, SEG.cs, cs);
    context.jump(offset);
    return;
  }
  const gate = readGate(context, d);
  if ((gate.selector & 0xfffc) === 0) fault(VECTOR.generalProtection, 0);
  const code = readDescriptor(context, gate.selector);
  const error = gate.selector & 0xfffc;
  if (!isCode(code) || dplOf(code) > state.cpl) fault(VECTOR.generalProtection, error);
  if (gate.size === 8 && !(code.attributes & ATTR.long)) fault(VECTOR.generalProtection, error);
  if (!(code.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  checkTarget(context, code, gate.offset);
  const inner = isCall && !isConforming(code) && dplOf(code) < state.cpl;
  if (!inner) {
    if (!isConforming(code) && dplOf(code) !== state.cpl) fault(VECTOR.generalProtection, error);
    if (isCall) pushReturn(gate.size, state.csSelector, context.nextRip);
    setSegmentFrom(context, SEG.cs, { ...markAccessed(context, code), selector: error | state.cpl });
    context.jump(gate.offset);
    return;
  }
  const cpl = dplOf(code);
  const old = { ss: state.ssSelector, rsp: state.rsp, cs: state.csSelector };
  const parameters = gate.size === 8 ? [] : Array.from({ length: gate.parameters }, (_, i) => stackRead(context, old.rsp + BigInt(i * gate.size), gate.size)); // prettier-ignore
  const stack = stackFromTss(context, cpl);
  const ss = innerStackSegment(context, stack.ss, cpl);
  const words = [BigInt(old.ss), old.rsp, ...parameters.reverse(), BigInt(old.cs), context.nextRip];
  const pointer = pushInner(context, { top: stack.rsp, ss, cpl }, gate.size, words);
  state.cpl = cpl;
  setSegmentFrom(context, SEG.ss, ss);
  setSegmentFrom(context, SEG.cs, { ...markAccessed(context, code), selector: error | cpl });
  state.rsp = pointer;
  context.jump(gate.offset);
}

/** Data segments that an outer level may not see become null. */
function dropInnerSegments(context: HelperContext, cpl: number): void {
  const { state } = context;
  for (const n of [SEG.es, SEG.ds, SEG.fs, SEG.gs]) {
    const s = state.segment(n);
    if (s.attributes & ATTR.present && dplOf(s) < cpl && !(isCode(s) && isConforming(s)))
      setSegmentFrom(context, n, { selector: 0, attributes: 0, limit: 0, base: n >= SEG.fs ? s.base : 0n });
  }
}

/** The code segment of a return. */
function returnCode(context: HelperContext, selector: number): Segment {
  const { state, fault } = context;
  const error = selector & 0xfffc;
  const rpl = selector & 3;
  if (error === 0) fault(VECTOR.generalProtection, 0);
  const d = readDescriptor(context, selector);
  if (!isCode(d) || rpl < state.cpl) fault(VECTOR.generalProtection, error);
  if (isConforming(d) ? dplOf(d) > rpl : dplOf(d) !== rpl) fault(VECTOR.generalProtection, error);
  if (isLongMode(state) && d.attributes & ATTR.long && d.attributes & ATTR.big) fault(VECTOR.generalProtection, error);
  if (!(d.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  return markAccessed(context, d);
}

function returnStack(context: HelperContext, selector: number, rpl: number, to64: boolean): Segment {
  const { fault } = context;
  const error = selector & 0xfffc;
  if (error === 0) {
    if (!to64 || rpl === 3 || (selector & 3) !== rpl) fault(VECTOR.generalProtection, 0);
    return { selector, attributes: rpl << ATTR.dplShift, limit: 0, base: 0n };
  }
  const d = readDescriptor(context, selector);
  const writable = (d.attributes & (ATTR.s | 8 | 2)) === (ATTR.s | 2);
  if ((selector & 3) !== rpl || !writable || dplOf(d) !== rpl) fault(VECTOR.generalProtection, error);
  if (!(d.attributes & ATTR.present)) fault(VECTOR.stackFault, error);
  return markAccessed(context, d);
}

function returnTo(context: HelperContext, to: { rip: bigint; cs: Segment; rsp: bigint; ss?: Segment }): void {
  const { state } = context;
  const cpl = to.cs.selector & 3;
  const outer = cpl > state.cpl;
  state.cpl = cpl;
  setSegmentFrom(context, SEG.cs, to.cs);
  if (to.ss) {
    setSegmentFrom(context, SEG.ss, to.ss);
    if (is64Bit(state)) state.rsp = to.rsp;
    else setStackPointer(state, to.rsp);
  } else setStackPointer(state, to.rsp);
  if (outer) dropInnerSegments(context, cpl);
  context.jump(to.rip);
}

function interruptReturn(context: HelperContext, size: number): void {
  const { state, fault } = context;
  const step = BigInt(size);
  const top = state.rsp;
  const word = (n: number): bigint => stackRead(context, top + BigInt(n) * step, size);
  const rip = word(0);
  const selector = Number(word(1) & 0xffffn);
  const flags = word(2);
  if (!isProtected(state)) {
    if (rip > BigInt(state.csLimit)) fault(VECTOR.generalProtection, 0);
    setStackPointer(state, top + 3n * step);
    state.rflags = flagsAfterPop(state, size, flags);
    realFar(context, selector, rip);
    context.attend();
    return;
  }
  if (isVirtual8086(state) || (state.eflags & 0x4000 && !isLongMode(state))) fault(VECTOR.generalProtection, 0);
  if (isLongMode(state) && state.eflags & 0x4000) fault(VECTOR.generalProtection, 0);
  if (!isLongMode(state) && flags & RFLAGS.vm && state.cpl === 0 && size === 4) {
    returnToVirtual8086(context, word, rip, selector, flags);
    return;
  }
  const cs = returnCode(context, selector);
  const to64 = isLongMode(state) && (cs.attributes & ATTR.long) !== 0;
  checkTarget(context, cs, rip);
  const outer = (selector & 3) > state.cpl;
  let ss: Segment | undefined;
  let rsp = top + 3n * step;
  if (outer || is64Bit(state)) {
    rsp = word(3);
    ss = returnStack(context, Number(word(4) & 0xffffn), selector & 3, to64);
  }
  const newFlags = flagsAfterPop(state, size, flags) | (size >= 4 ? flags & RFLAGS.rf : 0n);
  returnTo(context, ss ? { rip, cs, rsp, ss } : { rip, cs, rsp });
  state.rflags = newFlags;
  context.changed('mode');
  context.attend();
}

function returnToVirtual8086(
  context: HelperContext,
  word: (n: number) => bigint,
  rip: bigint,
  selector: number,
  flags: bigint,
): void {
  const { state } = context;
  const rsp = word(3);
  const selectors: [number, number][] = [[SEG.ss, 4], [SEG.es, 5], [SEG.ds, 6], [SEG.fs, 7], [SEG.gs, 8]]; // prettier-ignore
  const values = selectors.map(([n, at]) => [n, Number(word(at) & 0xffffn)] as const);
  state.rflags = flags;
  state.cpl = 3;
  for (const [n, value] of [...values, [SEG.cs, selector] as const])
    setSegmentFrom(context, n, { selector: value, attributes: ATTR.present | ATTR.s | 3 | (3 << ATTR.dplShift), limit: 0xffff, base: BigInt(value) << 4n }); // prettier-ignore
  state.rsp = rsp & 0xffff_ffffn;
  context.jump(rip & 0xffffn);
  context.attend();
}

function requireSyscall({ state, fault }: HelperContext): void {
  if (!(state.efer & EFER.sce)) fault(VECTOR.invalidOpcode);
}

export const transferHelpers: Readonly<Record<string, Helper>> = {
  callfar(context, [size = 4n, offset = 0n, selector = 0n]) {
    farTransfer(context, Number(size), { offset, selector: Number(selector) }, true);
  },
  jmpfar(context, [size = 4n, offset = 0n, selector = 0n]) {
    farTransfer(context, Number(size), { offset, selector: Number(selector) }, false);
  },
  retf(context, [size = 4n, release = 0n]) {
    const { state, fault } = context;
    const n = Number(size);
    const top = state.rsp;
    const rip = stackRead(context, top, n);
    const selector = Number(stackRead(context, top + size, n) & 0xffffn);
    const rsp = top + 2n * size + release;
    if (!isProtected(state) || isVirtual8086(state)) {
      if (rip > BigInt(state.csLimit)) fault(VECTOR.generalProtection, 0);
      setStackPointer(state, rsp);
      realFar(context, selector, rip);
      return;
    }
    const cs = returnCode(context, selector);
    checkTarget(context, cs, rip);
    if ((selector & 3) === state.cpl) {
      returnTo(context, { rip, cs, rsp });
      return;
    }
    const outerRsp = stackRead(context, rsp, n);
    const ss = returnStack(context, Number(stackRead(context, rsp + size, n) & 0xffffn), selector & 3, (cs.attributes & ATTR.long) !== 0); // prettier-ignore
    returnTo(context, { rip, cs, rsp: outerRsp + release, ss });
  },
  iret(context, [size = 4n]) {
    interruptReturn(context, Number(size));
  },
  /** Second argument: 1 INT1, 3 INT3, 4 INTO, 0 INT n. */
  int(context, [vector = 0n, kind = 0n]) {
    const { state, monitor, fault } = context;
    if (monitor) {
      context.exit(ExitReason.softwareInterrupt, false, { vector: Number(vector) });
      return;
    }
    if (kind === 0n && isVirtual8086(state) && (state.eflags >> 12) % 4 < 3) fault(VECTOR.generalProtection, 0);
    context.deliver({ vector: Number(vector), errorCode: -1, kind: kind === 1n ? 'icebp' : 'software' });
  },
  syscall(context) {
    const { state, monitor } = context;
    requireSyscall(context);
    if (monitor) {
      context.exit(ExitReason.syscall, true);
      return;
    }
    const selector = Number((state.star >> 32n) & 0xfffcn);
    const flags = state.rflags;
    if (!isLongMode(state)) {
      if (!isProtected(state)) context.fault(VECTOR.invalidOpcode);
      state.rcx = context.nextRip & 0xffff_ffffn;
      state.rflags = flags & ~(RFLAGS.vm | RFLAGS.if | RFLAGS.rf);
      flatPair(context, selector, selector + 8, 0, false);
      context.jump(state.star & 0xffff_ffffn);
      return;
    }
    const from64 = is64Bit(state);
    state.rcx = context.nextRip;
    state.r11 = flags;
    state.rflags = flags & ~state.sfmask & ~RFLAGS.rf;
    flatPair(context, selector, selector + 8, 0, true);
    context.jump(from64 ? state.lstar : state.cstar);
  },
  sysret(context, [size = 4n]) {
    const { state, fault } = context;
    requireSyscall(context);
    if (!isProtected(state)) fault(VECTOR.invalidOpcode);
    if (state.cpl !== 0) fault(VECTOR.generalProtection, 0);
    const base = Number((state.star >> 48n) & 0xffffn);
    if (size === 8n && isLongMode(state)) {
      // AMD: a non-canonical RCX faults after the switch, in ring 3.
      if (isLongMode(state)) state.rflags = (state.r11 & 0x3c7fd7n) | RFLAGS.fixed;
      flatPair(context, (base + 16) | 3, (base + 8) | 3, 3, true);
      context.jump(state.rcx);
    } else {
      if (isLongMode(state)) state.rflags = (state.r11 & 0x3c7fd7n) | RFLAGS.fixed;
      else state.rflags |= RFLAGS.if;
      flatPair(context, base | 3, (base + 8) | 3, 3, false);
      context.jump(state.rcx & 0xffff_ffffn);
    }
    context.attend();
  },
  sysenter(context) {
    const { state, monitor, fault } = context;
    if (!isProtected(state)) fault(VECTOR.generalProtection, 0);
    if (monitor) {
      context.exit(ExitReason.sysenter, true);
      return;
    }
    const selector = Number(state.sysenterCs & 0xfffcn);
    if (selector === 0) fault(VECTOR.generalProtection, 0);
    const long = isLongMode(state);
    state.rflags &= ~(RFLAGS.vm | RFLAGS.if);
    flatPair(context, selector, selector + 8, 0, long);
    state.rsp = long ? state.sysenterEsp : state.sysenterEsp & 0xffff_ffffn;
    context.jump(long ? state.sysenterEip : state.sysenterEip & 0xffff_ffffn);
  },
  sysexit(context, [size = 4n]) {
    const { state, fault } = context;
    if (!isProtected(state) || state.cpl !== 0) fault(VECTOR.generalProtection, 0);
    const selector = Number(state.sysenterCs & 0xfffcn);
    if (selector === 0) fault(VECTOR.generalProtection, 0);
    const to64 = size === 8n && isLongMode(state);
    if (to64 && (!isCanonical(state.rdx) || !isCanonical(state.rcx))) fault(VECTOR.generalProtection, 0);
    const base = selector + (to64 ? 32 : 16);
    flatPair(context, base | 3, (base + 8) | 3, 3, to64);
    state.rsp = to64 ? state.rcx : state.rcx & 0xffff_ffffn;
    context.jump(to64 ? state.rdx : state.rdx & 0xffff_ffffn);
    context.attend();
  },
};

export { loadSegmentRegister };
