/** Which descriptors a 64-bit PV guest may have in its GDT and LDT (Xen's `check_descriptor`). */
import type { MachineMemory } from '../state/machine-memory.ts';

const PRESENT = 1 << 15;
const DPL_SHIFT = 13;
const DPL = 3 << DPL_SHIFT;
const SEGMENT = 1 << 12;
const TYPE_MASK = 0xf00;
const CALL_GATE = 0xc00;
const GUEST_KERNEL_RPL = 3;
const FIRST_RESERVED_ENTRY = 7168;
const FLAT_KERNEL_CS = 0xe033;
const ENTRIES_PER_PAGE = 512;

export interface DescriptorWords {
  readonly lo: number;
  readonly hi: number;
}

/** The descriptor as it may be installed (DPL raised to the guest's), or undefined when it is refused. */
export function checkDescriptor(lo: number, hi: number): DescriptorWords | undefined {
  // What is not present always faults.
  if ((hi & PRESENT) === 0) return { lo, hi };
  const dpl = Math.max((hi >>> DPL_SHIFT) & 3, GUEST_KERNEL_RPL);
  const raised = ((hi & ~DPL) | (dpl << DPL_SHIFT)) >>> 0;
  if ((hi & SEGMENT) !== 0) return { lo, hi: raised };
  // Type 0 is harmless: the second half of a call gate.
  if ((hi & TYPE_MASK) === 0) return { lo, hi };
  if ((hi & TYPE_MASK) !== CALL_GATE) return undefined;
  const selector = lo >>> 16;
  const selectorOk = selector >>> 3 < FIRST_RESERVED_ENTRY || selector === FLAT_KERNEL_CS || (selector & 4) !== 0;
  if (!selectorOk || (hi & 0xff) !== 0) return undefined;
  // DPL 0 makes every use fault to Xen; the wanted DPL is kept in the selector's RPL.
  return { lo: ((lo & 0xffff) | (((selector & ~3) | dpl) << 16)) >>> 0, hi: (hi & ~DPL) >>> 0 };
}

/** Checks a whole page and raises DPLs in place; false when a descriptor is refused. */
export function checkDescriptorPage(memory: MachineMemory, mfn: number): boolean {
  const base = mfn * 1024;
  const { u32 } = memory;
  for (let i = 0; i < ENTRIES_PER_PAGE; i++) {
    const at = base + i * 2;
    const lo = u32[at] ?? 0;
    const hi = u32[at + 1] ?? 0;
    const checked = checkDescriptor(lo, hi);
    if (!checked) return false;
    if (checked.lo !== lo) u32[at] = checked.lo;
    if (checked.hi !== hi) u32[at + 1] = checked.hi;
  }
  return true;
}
