/**
 * The shared pages of the virtual framebuffer and keyboard, and the events in their rings
 * (`xen/include/public/io/fbif.h`, `kbdif.h`). Both pages begin with the same four indices; all events have 40 bytes.
 */
import { array, layout } from '@xenhost/base';

/** Bytes of every event, in both directions and for both devices. */
export const XENFB_EVENT_SIZE = 40;

/** Entries of `pd` as declared. */
const NR_DIRECTORIES = 256;

const fbFields = {
  in_cons: 'u32', in_prod: 'u32', out_cons: 'u32', out_prod: 'u32',
  width: 'i32', height: 'i32', line_length: 'u32', mem_length: 'u32', depth: 'u8',
} as const; // prettier-ignore

/** `struct xenfb_page` of a 64-bit and of a 32-bit frontend: they differ in `pd`, whose entries are unsigned long. */
export const XenfbPage = layout('xenfb_page', { ...fbFields, pd: array('u64', NR_DIRECTORIES) });
export const XenfbPage32 = layout('xenfb_page', { ...fbFields, pd: array('u32', NR_DIRECTORIES) }, 32);

/** `struct xenkbd_page`. */
export const XenkbdPage = layout('xenkbd_page', { in_cons: 'u32', in_prod: 'u32', out_cons: 'u32', out_prod: 'u32' });

/** A ring of events in its page; indices run freely over 32 bits. `in` leads to the frontend, `out` to the backend. */
export interface EventRingLayout {
  readonly base: number;
  /** Events that it holds. */
  readonly length: number;
  readonly cons: number;
  readonly prod: number;
}

const ring = (base: number, bytes: number, cons: number, prod: number): EventRingLayout => ({
  base,
  length: Math.floor(bytes / XENFB_EVENT_SIZE),
  cons,
  prod,
});
const { in_cons, in_prod, out_cons, out_prod } = XenkbdPage.offsets;

export const XENFB_IN_RING = ring(1024, 1024, in_cons, in_prod);
export const XENFB_OUT_RING = ring(2048, 2048, out_cons, out_prod);
export const XENKBD_IN_RING = ring(1024, 2048, in_cons, in_prod);
export const XENKBD_OUT_RING = ring(3072, 1024, out_cons, out_prod);

/** Directories that lie before the in ring, which the declared array overlaps. */
export const xenfbDirectories = (pdOffset: number, entryBytes: number): number =>
  Math.min(NR_DIRECTORIES, Math.floor((XENFB_IN_RING.base - pdOffset) / entryBytes));

/** Types of the framebuffer's events: the first goes to the frontend, the others come from it. */
export const XenfbEvent = { refreshPeriod: 1, update: 2, resize: 3 } as const;
/** Types of the keyboard's events. */
export const XenkbdEvent = { motion: 1, key: 3, position: 4, multiTouch: 5 } as const;

/** Value of a refresh period that asks for no refreshing. */
export const XENFB_NO_REFRESH = 0;
/** What a frontend has without a word from its configuration (`XENFB_WIDTH`, `XENFB_HEIGHT`). */
export const XENFB_DEFAULT_SIZE = { width: 800, height: 600 } as const;

export const XenfbUpdate = layout('xenfb_update', { type: 'u8', x: 'i32', y: 'i32', width: 'i32', height: 'i32' });
export const XenfbResize = layout('xenfb_resize', {
  type: 'u8', width: 'i32', height: 'i32', stride: 'i32', depth: 'i32', offset: 'i32',
}); // prettier-ignore
export const XenfbRefreshPeriod = layout('xenfb_refresh_period', { type: 'u8', period: 'u32' });
export const XenkbdMotion = layout('xenkbd_motion', { type: 'u8', rel_x: 'i32', rel_y: 'i32', rel_z: 'i32' });
export const XenkbdKey = layout('xenkbd_key', { type: 'u8', pressed: 'u8', keycode: 'u32' });
export const XenkbdPosition = layout('xenkbd_position', { type: 'u8', abs_x: 'i32', abs_y: 'i32', rel_z: 'i32' });

/** The layout that a 32-bit frontend names in `protocol` (`xen/include/public/io/protocols.h`). */
export const XEN_IO_PROTO_ABI_X86_32 = 'x86_32-abi';
