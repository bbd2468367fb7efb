/**
 * Page table entries of a 4-level table: bits, and which of them a PV guest may set (Xen's `x86_64/page.h`). Flags are
 * kept as one 24-bit number: bits 0-11 of the entry, and bits 52-63 above them; frames as numbers.
 */

export const Pte = {
  present: 1, rw: 2, user: 4, pwt: 8, pcd: 0x10, accessed: 0x20, dirty: 0x40, pse: 0x80, global: 0x100, avail: 0xe00,
  /** Bit 52: a mapping of the guest's kernel, which the guest made without the user bit. */
  guestKernel: 1 << 12,
  availHigh: 0x7ff << 12,
  /** Bit 62: Xen's mark of mappings of grants. */
  grant: 1 << 22,
  nx: 1 << 23,
} as const; // prettier-ignore

const ALL_FLAGS = 0xffffff;
const GUEST_FLAGS = Pte.present | Pte.rw | Pte.user | Pte.accessed | Pte.dirty | Pte.avail | Pte.availHigh | Pte.nx;
/** Bits that make an entry of a guest's L2, L3 or L4 invalid. */
export const UPPER_DISALLOWED = ALL_FLAGS & ~GUEST_FLAGS;
/** The same for L1: the global bit is allowed, cache attributes are not (no device access), nor is Xen's grant mark. */
export const L1_DISALLOWED = (UPPER_DISALLOWED | Pte.grant) & ~Pte.global;
/** Bits that may change without looking at the frame again. */
export const FAST_PATH_FLAGS = Pte.nx | Pte.availHigh | Pte.avail | Pte.global | Pte.dirty | Pte.accessed | Pte.user;

export const ENTRIES_PER_TABLE = 512;
/** L4 slots that are Xen's. */
export const FIRST_XEN_SLOT = 256;
export const LAST_XEN_SLOT = 271;
export const M2P_SLOT = 256;
export const PERDOMAIN_SLOT = 260;
export const isXenSlot = (slot: number): boolean => slot >= FIRST_XEN_SLOT && slot <= LAST_XEN_SLOT;
/** The frame number of all ones, which real Xen answers with -EINVAL instead of -EPERM. */
export const INVALID_MFN = 2 ** 40 - 1;

/** An entry taken apart. */
export interface Entry {
  readonly flags: number;
  readonly mfn: number;
}

export const flagsOf = (lo: number, hi: number): number => (lo & 0xfff) | ((hi >>> 20) << 12);
export const mfnOf = (lo: number, hi: number): number => (lo >>> 12) + (hi & 0xfffff) * 0x100000;
export const loOf = (mfn: number, flags: number): number => ((mfn % 0x100000) * 4096 + (flags & 0xfff)) >>> 0;
export const hiOf = (mfn: number, flags: number): number =>
  ((((flags >>> 12) << 20) >>> 0) + Math.floor(mfn / 0x100000)) >>> 0;

export const entryOf = (lo: number, hi: number): Entry => ({ flags: flagsOf(lo, hi), mfn: mfnOf(lo, hi) });

/** Halves of a 64-bit value, unsigned, and the value of two halves. */
export const lowHalf = (value: bigint): number => Number(BigInt.asUintN(32, value));
export const highHalf = (value: bigint): number => Number(BigInt.asUintN(32, value >> 32n));
export const joined = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** What Xen adds to a present L1 entry of a guest: user, and global or the mark of the guest's kernel. */
export function adjustL1(flags: number): number {
  if ((flags & Pte.present) === 0) return flags;
  let adjusted = flags;
  if ((adjusted & Pte.user) === 0) adjusted |= Pte.guestKernel | Pte.user;
  if ((adjusted & Pte.guestKernel) === 0) adjusted |= Pte.global | Pte.user;
  return adjusted;
}

/** What Xen adds to a present entry of a guest's L2, L3 (user) or L4 (user, accessed). */
export function adjustUpper(flags: number, level: number): number {
  if ((flags & Pte.present) === 0) return flags;
  return flags | Pte.user | (level === 4 ? Pte.accessed : 0);
}

/** Slot of a linear address, in halves, in its table of a level, 1 to 4. */
export function slotAt(lo: number, hi: number, level: number): number {
  const shift = 12 + 9 * (level - 1);
  return (shift < 32 ? (lo >>> shift) | (hi << (32 - shift)) : hi >>> (shift - 32)) & 0x1ff;
}

export const isCanonical = (linear: bigint): boolean => BigInt.asUintN(64, BigInt.asIntN(48, linear)) === linear;
