/** Descriptor tables, task register, LAR and its kin. Intel SDM vol. 2. */
import { ATTR, SEG } from '../../engine/state.ts';
import { VECTOR } from '../helper.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { CR4, is64Bit, isCanonical, isLongMode, isProtected, isVirtual8086 } from './addressing.ts';
import { dplOf, findDescriptor, isCode, isConforming, readDescriptor, typeOf } from './segments.ts';
import type { Descriptor } from './segments.ts';

function requireRing0({ state, fault }: HelperContext): void {
  if (state.cpl !== 0) fault(VECTOR.generalProtection, 0);
}
function requireProtected({ state, fault }: HelperContext): void {
  if (!isProtected(state) || isVirtual8086(state)) fault(VECTOR.invalidOpcode);
}

/** A system descriptor of 16 bytes in long mode. */
function readSystem(context: HelperContext, selector: number, types: readonly number[]): Descriptor {
  const { state, memory, fault } = context;
  const error = selector & 0xfffc;
  if (selector & 4) fault(VECTOR.generalProtection, error);
  const d = readDescriptor(context, selector);
  if (d.attributes & ATTR.s || !types.includes(typeOf(d))) fault(VECTOR.generalProtection, error);
  if (!(d.attributes & ATTR.present)) fault(VECTOR.segmentNotPresent, error);
  if (!isLongMode(state)) return d;
  if ((selector & 0xfff8) + 15 > state.gdtrLimit) fault(VECTOR.generalProtection, error);
  const base = d.base | ((memory.read(d.address + 8n, 8, true) & 0xffff_ffffn) << 32n);
  if (!isCanonical(base)) fault(VECTOR.generalProtection, error);
  return { ...d, base };
}

/** System types that LAR (and LSL) accept, outside and in long mode. */
const LAR_TYPES = [1, 2, 3, 4, 5, 9, 11, 12];
const LAR_TYPES_LONG = [2, 9, 11, 12];
const LSL_TYPES = [1, 2, 3, 9, 11];
const LSL_TYPES_LONG = [2, 9, 11];

/** The descriptor if the selector is visible to the program. */
function visible(context: HelperContext, selector: number, systemTypes: readonly number[]): Descriptor | undefined {
  const { state } = context;
  if ((selector & 0xfffc) === 0) return undefined;
  const d = findDescriptor(context, selector);
  if (!d) return undefined;
  if (!(d.attributes & ATTR.s) && !systemTypes.includes(typeOf(d))) return undefined;
  if (!(isCode(d) && isConforming(d)) && Math.max(state.cpl, selector & 3) > dplOf(d)) return undefined;
  return d;
}

export const descriptorHelpers: Readonly<Record<string, Helper>> = {
  protectedonly(context) {
    requireProtected(context);
  },
  sgdt(context, [address = 0n, which = 0n]) {
    const { state, memory, fault } = context;
    if (state.cr4 & CR4.umip && state.cpl !== 0) fault(VECTOR.generalProtection, 0);
    const base = which === 0n ? state.gdtrBase : state.idtrBase;
    const limit = which === 0n ? state.gdtrLimit : state.idtrLimit;
    const bytes = new Uint8Array(is64Bit(state) ? 10 : 6);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, limit, true);
    if (bytes.length === 10) view.setBigUint64(2, base, true);
    else view.setUint32(2, Number(base & 0xffff_ffffn), true);
    memory.writeBytes(address, bytes);
  },
  lgdt(context, [address = 0n, which = 0n, operandSize = 4n]) {
    requireRing0(context);
    const { state, memory, fault } = context;
    const bytes = new Uint8Array(is64Bit(state) ? 10 : 6);
    memory.readBytes(address, bytes);
    const view = new DataView(bytes.buffer);
    const limit = view.getUint16(0, true);
    let base = bytes.length === 10 ? view.getBigUint64(2, true) : BigInt(view.getUint32(2, true));
    if (bytes.length === 6 && operandSize === 2n) base &= 0xff_ffffn;
    if (!isCanonical(base)) fault(VECTOR.generalProtection, 0);
    if (which === 0n) {
      state.gdtrBase = base;
      state.gdtrLimit = limit;
    } else {
      state.idtrBase = base;
      state.idtrLimit = limit;
    }
  },
  lldt(context, [value = 0n]) {
    requireProtected(context);
    requireRing0(context);
    const selector = Number(value);
    const null_ = (selector & 0xfffc) === 0;
    const d = null_ ? { selector, attributes: 0, limit: 0, base: 0n } : readSystem(context, selector, [2]);
    context.state.setSegment(SEG.ldtr, { selector, attributes: d.attributes, limit: d.limit, base: d.base });
  },
  ltr(context, [value = 0n]) {
    requireProtected(context);
    requireRing0(context);
    const selector = Number(value);
    if ((selector & 0xfffc) === 0) context.fault(VECTOR.generalProtection, 0);
    const d = readSystem(context, selector, isLongMode(context.state) ? [9] : [1, 9]);
    context.memory.write(d.address + 5n, 1, ((d.raw >> 40n) & 0xffn) | 2n, true);
    context.state.setSegment(SEG.tr, { selector, attributes: d.attributes | 2, limit: d.limit, base: d.base });
  },
  /** SLDT (6), STR (7), SMSW (0). */
  storesys(context, [which = 0n]) {
    const { state, fault } = context;
    if (which !== 0n) requireProtected(context);
    if (state.cr4 & CR4.umip && state.cpl !== 0) fault(VECTOR.generalProtection, 0);
    return which === 0n ? state.cr0 : BigInt(state.selector(Number(which)));
  },
  /** LAR (0) and LSL (1): value, and bit 32 when the selector is fine. */
  lar(context, [value = 0n, which = 0n]) {
    requireProtected(context);
    const long = isLongMode(context.state);
    const types = which === 0n ? (long ? LAR_TYPES_LONG : LAR_TYPES) : long ? LSL_TYPES_LONG : LSL_TYPES;
    const d = visible(context, Number(value & 0xffffn), types);
    if (!d) return 0n;
    return (which === 0n ? (d.raw >> 32n) & 0xff_ff00n : BigInt(d.limit)) | (1n << 32n);
  },
  /** VERR (0) and VERW (1): ZF at its place. */
  verify(context, [value = 0n, which = 0n]) {
    requireProtected(context);
    const d = visible(context, Number(value & 0xffffn), []);
    if (!d || !(d.attributes & ATTR.s)) return 0n;
    const fine = which === 0n ? !isCode(d) || (d.attributes & 2) !== 0 : !isCode(d) && (d.attributes & 2) !== 0;
    return fine ? 0x40n : 0n;
  },
};
