/** Grant tables (`xen/include/public/grant_table.h`), x86-64 layouts. */
import { layout } from '@xenhost/base';

export const GrantOp = {
  map_grant_ref: 0, unmap_grant_ref: 1, setup_table: 2, dump_table: 3, transfer: 4, copy: 5, query_size: 6,
  unmap_and_replace: 7, set_version: 8, get_status_frames: 9, get_version: 10, swap_grant_ref: 11, cache_flush: 12,
} as const; // prettier-ignore

/** Flags of a shared entry. */
export const GTF = {
  invalid: 0, permit_access: 1, accept_transfer: 2, transitive: 3, type_mask: 3, readonly: 4, transfer_committed: 4,
  reading: 8, transfer_completed: 8, writing: 16, PWT: 32, PCD: 64, PAT: 128, sub_page: 256,
} as const; // prettier-ignore

/** Flags of a mapping. */
export const GNTMAP = { device_map: 1, host_map: 2, readonly: 4, application_map: 8, contains_pte: 16 } as const;
export const GNTCOPY = { source_gref: 1, dest_gref: 2 } as const;
export const GNTST = {
  okay: 0, general_error: -1, bad_domain: -2, bad_gntref: -3, bad_handle: -4, bad_virt_addr: -5, bad_dev_addr: -6,
  no_device_space: -7, permission_denied: -8, bad_page: -9, bad_copy_arg: -10, address_too_big: -11, eagain: -12,
  no_space: -13,
} as const; // prettier-ignore

export const GRANTS_RESERVED = 8;
export const GRANT_RESERVED_CONSOLE = 0;
export const GRANT_RESERVED_XENSTORE = 1;

export const GrantEntryV1 = layout('grant_entry_v1', { flags: 'u16', domid: 'u16', frame: 'u32' });
export const GrantEntryV2 = layout('grant_entry_v2', {
  flags: 'u16', domid: 'u16',
  /** Offset and length of a sub-page grant, or the domain of a transitive one. */
  page_off: 'u16', length: 'u16',
  /** Frame, or the reference of a transitive grant in the low 32 bits. */
  frame: 'u64',
}); // prettier-ignore
export const GnttabMapGrantRef = layout('gnttab_map_grant_ref', {
  host_addr: 'u64', flags: 'u32', ref: 'u32', dom: 'u16', status: 'u16', handle: 'u32', dev_bus_addr: 'u64',
}); // prettier-ignore
export const GnttabUnmapGrantRef = layout('gnttab_unmap_grant_ref', {
  host_addr: 'u64', dev_bus_addr: 'u64', handle: 'u32', status: 'u16',
}); // prettier-ignore
export const GnttabUnmapAndReplace = layout('gnttab_unmap_and_replace', {
  host_addr: 'u64', new_addr: 'u64', handle: 'u32', status: 'u16',
}); // prettier-ignore
export const GnttabSetupTable = layout('gnttab_setup_table', {
  dom: 'u16', nr_frames: 'u32', status: 'u16', frame_list: 'u64',
}); // prettier-ignore
export const GnttabQuerySize = layout('gnttab_query_size', {
  dom: 'u16', nr_frames: 'u32', max_nr_frames: 'u32', status: 'u16',
}); // prettier-ignore
/** Source and destination: u (gref or gmfn) in 8 bytes, domid, offset. */
export const GnttabCopyPtr = layout('gnttab_copy_ptr', { u: 'u64', domid: 'u16', offset: 'u16' });
export const GnttabCopy = layout('gnttab_copy', {
  source: GnttabCopyPtr, dest: GnttabCopyPtr, len: 'u16', flags: 'u16', status: 'u16',
}); // prettier-ignore
export const GnttabTransfer = layout('gnttab_transfer', { mfn: 'u64', domid: 'u16', ref: 'u32', status: 'u16' });
export const GnttabSetVersion = layout('gnttab_set_version', { version: 'u32' });
export const GnttabGetVersion = layout('gnttab_get_version', { dom: 'u16', pad: 'u16', version: 'u32' });
export const GnttabGetStatusFrames = layout('gnttab_get_status_frames', {
  nr_frames: 'u32', dom: 'u16', status: 'u16', frame_list: 'u64',
}); // prettier-ignore
export const GnttabSwapGrantRef = layout('gnttab_swap_grant_ref', { ref_a: 'u32', ref_b: 'u32', status: 'u16' });
export const GnttabCacheFlush = layout('gnttab_cache_flush', {
  a: 'u64', offset: 'u16', length: 'u16', op: 'u32',
}); // prettier-ignore
