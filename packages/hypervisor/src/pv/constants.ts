/** Architectural constants of the PV CPU model, with their sources. */
import { ATTR } from '@xenhost/cpu';
import type { Segment } from '@xenhost/cpu';
import { FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS } from '@xenhost/xen-abi';

/** Exception vectors (SDM vol. 3, table 6-1). */
export const Trap = {
  DE: 0, DB: 1, NMI: 2, BP: 3, OF: 4, BR: 5, UD: 6, NM: 7, DF: 8, TS: 10, NP: 11, SS: 12, GP: 13, PF: 14, MF: 16,
  AC: 17, MC: 18, XM: 19, VE: 20, CP: 21,
} as const; // prettier-ignore

/** INT 0x80 has a gate of its own in Xen: no check of the guest's DPL. */
export const LEGACY_SYSCALL_VECTOR = 0x80;
/** Error code bit: the fault is in an IDT entry. */
export const ERROR_IDT = 2;
/** #PF error code bits. */
export const PFEC = { present: 1, write: 2, user: 4, reserved: 8, fetch: 16 } as const;
/** A store that a mapping does not allow: to a page table, perhaps. */
export const isWriteToPresent = (errorCode: number): boolean =>
  (errorCode & (PFEC.present | PFEC.write)) === (PFEC.present | PFEC.write);

export const CR0 = { PE: 1n, MP: 2n, EM: 4n, TS: 8n, ET: 16n, NE: 32n, WP: 1n << 16n, AM: 1n << 18n, PG: 1n << 31n } as const; // prettier-ignore
/** CR0 of the machine, TS aside: guests see it and cannot change it. */
export const MACHINE_CR0 = CR0.PE | CR0.MP | CR0.ET | CR0.NE | CR0.WP | CR0.AM | CR0.PG;

export const CR4 = {
  TSD: 1n << 2n, DE: 1n << 3n, PSE: 1n << 4n, PAE: 1n << 5n, MCE: 1n << 6n, PGE: 1n << 7n, OSFXSR: 1n << 9n,
  OSXMMEXCPT: 1n << 10n, FSGSBASE: 1n << 16n, OSXSAVE: 1n << 18n,
} as const; // prettier-ignore
/** CR4 bits that a guest may choose, and those of Xen's that it sees (`PV_CR4_GUEST_*` in arch/x86/pv/domain.c). */
export const CR4_GUEST = CR4.TSD | CR4.DE | CR4.FSGSBASE | CR4.OSXSAVE;
export const CR4_VISIBLE = CR4.PAE | CR4.MCE | CR4.OSFXSR | CR4.OSXMMEXCPT;
/** What is always on while a PV guest runs. */
export const MACHINE_CR4 = CR4_VISIBLE | CR4.PGE;

/** SCE, LME, LMA, NX: what guests read from EFER, and the engine runs with. */
export const MACHINE_EFER = 0xd01n;
/** XEN_MSR_PAT. */
export const MACHINE_PAT = 0x0501_0007_0406n;

export const DR6_DEFAULT = 0xffff_0ff0n;
export const DR7_DEFAULT = 0x400n;

/** Flat descriptors behind Xen's own selectors. */
const code64: Segment = { selector: FLAT_RING3_CS64, attributes: 0xfb | ATTR.long | ATTR.granularity, limit: 0xffff_ffff, base: 0n }; // prettier-ignore
const code32: Segment = { selector: FLAT_RING3_CS32, attributes: 0xfb | ATTR.big | ATTR.granularity, limit: 0xffff_ffff, base: 0n }; // prettier-ignore
const data: Segment = { selector: FLAT_RING3_DS, attributes: 0xf3 | ATTR.big | ATTR.granularity, limit: 0xffff_ffff, base: 0n }; // prettier-ignore
export const FlatSegment = { code64, code32, data } as const;

const U64 = 64;
/** Bits 47 to 63 are all alike. */
export const isCanonical = (address: bigint): boolean =>
  BigInt.asUintN(U64, BigInt.asIntN(48, address)) === BigInt.asUintN(U64, address);
