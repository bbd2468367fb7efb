/**
 * Delivery of interrupts and exceptions through the guest's IDT or interrupt vector table, with double fault and
 * shutdown. Task gates are not followed (docs/LIMITS.md). Intel SDM vol. 3 chapter 6.
 */
import { ATTR, RFLAGS, SEG } from '../../engine/state.ts';
import { GuestFault, VECTOR } from '../helper.ts';
import type { HelperContext } from '../helper.ts';
import { isCanonical, isLongMode, isProtected, isVirtual8086 } from './addressing.ts';
import { dplOf, isCode, isConforming, markAccessed, readDescriptor, setSegmentFrom } from './segments.ts';
import { hasRoom, innerStackSegment, stackFromTss } from './transfers.ts';

export interface DeliveredEvent {
  readonly vector: number;
  /** -1 for none. */
  readonly errorCode: number;
  readonly kind: 'fault' | 'external' | 'software' | 'icebp';
}

const CONTRIBUTORY = new Set<number>([VECTOR.divideError, VECTOR.invalidTss, VECTOR.segmentNotPresent, VECTOR.stackFault, VECTOR.generalProtection]); // prettier-ignore
/** Error code bits: caused by an external event, refers to the IDT. */
const EXT = 1;
const IDT = 2;

/** Delivers, turning faults on the way into a double fault and that into shutdown. */
export function deliverEvent(context: HelperContext, event: DeliveredEvent): 'delivered' | 'shutdown' {
  let current = event;
  for (;;) {
    const saved = context.state.u8.slice(context.state.base, context.state.base + 2048);
    try {
      deliverOnce(context, current);
      return 'delivered';
    } catch (e) {
      if (!(e instanceof GuestFault)) throw e;
      context.state.u8.set(saved, context.state.base);
      context.changed('mode');
      if (e.vector === VECTOR.pageFault) context.state.cr2 = e.address;
      if (current.kind === 'fault' && current.vector === VECTOR.doubleFault) return 'shutdown';
      const first = current.kind === 'fault' ? current.vector : -1;
      const doubled =
        (CONTRIBUTORY.has(first) && CONTRIBUTORY.has(e.vector)) ||
        (first === VECTOR.pageFault && (CONTRIBUTORY.has(e.vector) || e.vector === VECTOR.pageFault));
      current = doubled
        ? { vector: VECTOR.doubleFault, errorCode: 0, kind: 'fault' }
        : { vector: e.vector, errorCode: e.errorCode, kind: 'fault' };
    }
  }
}

function deliverOnce(context: HelperContext, event: DeliveredEvent): void {
  const { state } = context;
  const rip = event.kind === 'software' || event.kind === 'icebp' ? context.nextRip : state.rip;
  if (!isProtected(state)) {
    deliverReal(context, event.vector, rip);
    return;
  }
  deliverProtected(context, event, rip);
}

function deliverReal(context: HelperContext, vector: number, rip: bigint): void {
  const { state, memory, fault } = context;
  if (4 * vector + 3 > state.idtrLimit) fault(VECTOR.generalProtection);
  const entry = memory.read(state.idtrBase + BigInt(4 * vector), 4, true);
  const mask = 0xffffn;
  let sp = state.rsp & mask;
  for (const word of [state.rflags, BigInt(state.csSelector), rip]) {
    sp = (sp - 2n) & mask;
    memory.write((state.ssBase + sp) & 0xffff_ffffn, 2, word & mask, true);
  }
  state.rsp = (state.rsp & ~mask) | sp;
  state.rflags &= ~(RFLAGS.if | RFLAGS.tf | RFLAGS.ac | RFLAGS.rf);
  const selector = Number(entry >> 16n);
  setSegmentFrom(context, SEG.cs, { ...state.segment(SEG.cs), selector, base: BigInt(selector) << 4n });
  context.jump(entry & mask);
}

function deliverProtected(context: HelperContext, event: DeliveredEvent, rip: bigint): void {
  const { state, memory, fault } = context;
  const { vector } = event;
  const long = isLongMode(state);
  const ext = event.kind === 'software' ? 0 : EXT;
  const idtError = vector * 8 + IDT + ext;
  const gateSize = long ? 16 : 8;
  if (vector * gateSize + gateSize - 1 > state.idtrLimit) fault(VECTOR.generalProtection, idtError);
  const at = state.idtrBase + BigInt(vector * gateSize);
  const low = memory.read(at, 8, true);
  const type = Number((low >> 40n) & 0x1fn);
  const types = long ? [14, 15] : [6, 7, 14, 15];
  if (!types.includes(type)) fault(VECTOR.generalProtection, idtError);
  if (event.kind === 'software' && Number((low >> 45n) & 3n) < state.cpl)
    fault(VECTOR.generalProtection, vector * 8 + IDT);
  if (!((low >> 47n) & 1n)) fault(VECTOR.segmentNotPresent, idtError);
  const wide = type >= 14;
  const size = long ? 8 : wide ? 4 : 2;
  let offset = (low & 0xffffn) | (wide ? (low >> 32n) & 0xffff_0000n : 0n);
  if (long) offset |= (memory.read(at + 8n, 8, true) & 0xffff_ffffn) << 32n;
  const selector = Number((low >> 16n) & 0xffffn);
  const ist = long ? Number((low >> 32n) & 7n) : 0;
  if ((selector & 0xfffc) === 0) fault(VECTOR.generalProtection, ext);
  const error = (selector & 0xfffc) | ext;
  const code = readDescriptor(context, selector);
  if (!isCode(code) || dplOf(code) > state.cpl) fault(VECTOR.generalProtection, error);
  if (long && (!(code.attributes & ATTR.long) || code.attributes & ATTR.big)) fault(VECTOR.generalProtection, error);
  if (!(code.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  const cpl = isConforming(code) ? state.cpl : dplOf(code);
  const v86 = isVirtual8086(state);
  if (v86 && cpl !== 0) fault(VECTOR.generalProtection, error);
  const inner = cpl < state.cpl;
  const old = { ss: state.ssSelector, rsp: state.rsp, cs: state.csSelector, flags: state.rflags };
  const segments = v86 ? [SEG.gs, SEG.fs, SEG.ds, SEG.es].map((n) => BigInt(state.selector(n))) : [];
  let stack = { rsp: state.rsp, segment: state.segment(SEG.ss) };
  if (ist !== 0) {
    const tssOffset = 0x1c + 8 * ist;
    if (tssOffset + 7 > state.trLimit) fault(VECTOR.invalidTss, state.trSelector & 0xfffc);
    const rsp = memory.read(state.trBase + BigInt(tssOffset), 8, true);
    stack = { rsp, segment: inner ? innerStackSegment(context, 0, cpl) : stack.segment };
  } else if (inner) {
    const top = stackFromTss(context, cpl);
    stack = { rsp: top.rsp, segment: innerStackSegment(context, top.ss, cpl) };
  }
  if (long ? !isCanonical(offset) : offset > BigInt(code.limit)) fault(VECTOR.generalProtection, ext);
  if (long) {
    if (!isCanonical(stack.rsp)) fault(VECTOR.stackFault, ext);
    stack.rsp &= ~0xfn;
  }
  const frame = [...segments];
  if (inner || long) frame.push(BigInt(old.ss), old.rsp);
  // Faults that restart their instruction save RF set, so that a breakpoint on it does not hit again.
  const restarts = event.kind === 'fault' && vector !== VECTOR.debug && vector !== VECTOR.doubleFault;
  frame.push(old.flags | (restarts ? RFLAGS.rf : 0n), BigInt(old.cs), rip);
  if (event.errorCode >= 0) frame.push(BigInt(event.errorCode));
  const stackMask = long ? (1n << 64n) - 1n : stack.segment.attributes & ATTR.big ? 0xffff_ffffn : 0xffffn;
  let sp = stack.rsp;
  state.cpl = cpl;
  context.changed('mode');
  for (const word of frame) {
    sp = (sp - BigInt(size)) & stackMask;
    if (!long && !hasRoom(stack.segment, sp, size))
      fault(VECTOR.stackFault, (inner ? stack.segment.selector & 0xfffc : 0) | ext);
    const linear = long ? sp : (stack.segment.base + sp) & 0xffff_ffffn;
    memory.write(linear, size, BigInt.asUintN(8 * size, word), cpl !== 3);
  }
  if (inner) setSegmentFrom(context, SEG.ss, stack.segment);
  state.rsp = long ? sp : (inner ? 0n : state.rsp & ~stackMask) | sp;
  setSegmentFrom(context, SEG.cs, { ...markAccessed(context, code), selector: (selector & 0xfffc) | cpl });
  if (v86)
    for (const n of [SEG.es, SEG.ds, SEG.fs, SEG.gs]) setSegmentFrom(context, n, { selector: 0, attributes: 0, limit: 0, base: 0n }); // prettier-ignore
  let cleared = RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.vm;
  if ((type & 1) === 0) cleared |= RFLAGS.if;
  state.rflags = old.flags & ~cleared;
  context.jump(offset);
}
