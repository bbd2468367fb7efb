/** Structures of memory_op, mmu_update, mmuext_op, grant_table_op and hvm_op as this library sends them (x86-64). */
import { layout } from '@xenhost/base';

export const Memop = {
  increase_reservation: 0, decrease_reservation: 1, current_reservation: 3, maximum_reservation: 4, populate_physmap: 6,
  set_memory_map: 13, maximum_gpfn: 14,
} as const; // prettier-ignore

export const MemoryReservation = layout('xen_memory_reservation', {
  extent_start: 'u64',
  nr_extents: 'u64',
  extent_order: 'u32',
  mem_flags: 'u32',
  domid: 'u16',
});
export const ForeignMemoryMap = layout('xen_foreign_memory_map', { domid: 'u16', nr_entries: 'u64', buffer: 'u64' });
/** An e820 entry is packed: this many bytes of u64, u64, u32. */
export const E820_ENTRY_SIZE = 20;

export const MmuUpdate = layout('mmu_update', { ptr: 'u64', val: 'u64' });
export const MMU_MACHPHYS_UPDATE = 1n;
export const MmuextOp = layout('mmuext_op', { cmd: 'u32', arg1: 'u64', arg2: 'u64' });
export const MMUEXT_PIN_L1_TABLE = 0;
export const MMUEXT_UNPIN_TABLE = 4;

export const Gnttabop = { setup_table: 2, query_size: 6, get_version: 10 } as const;
export const GnttabSetupTable = layout('gnttab_setup_table', {
  dom: 'u16',
  nr_frames: 'u32',
  status: 'i32',
  frame_list: 'u64',
});
export const GnttabQuerySize = layout('gnttab_query_size', {
  dom: 'u16',
  nr_frames: 'u32',
  max_nr_frames: 'u32',
  status: 'i32',
});
export const GnttabGetVersion = layout('gnttab_get_version', { dom: 'u16', version: 'u32' });
export const GrantEntryV1 = layout('grant_entry_v1', { flags: 'u16', domid: 'u16', frame: 'u32' });
export const GTF_PERMIT_ACCESS = 1;
/** Grant references that the toolstack fills (`grant_table.h`, GNTTAB_RESERVED_*). */
export const RESERVED_GREF = { console: 0, xenstore: 1 } as const;

export const Hvmop = { set_param: 0, get_param: 1 } as const;
export const HvmParam = layout('xen_hvm_param', { domid: 'u16', index: 'u32', value: 'u64' });
