/** `memory_op` (`xen/include/public/memory.h`), x86-64 layouts. */
import { layout } from '@xenhost/base';

export const MemoryOp = {
  increase_reservation: 0, decrease_reservation: 1, maximum_ram_page: 2, current_reservation: 3,
  maximum_reservation: 4, machphys_mfn_list: 5, populate_physmap: 6, add_to_physmap: 7, memory_map: 9,
  machine_memory_map: 10, exchange: 11, machphys_mapping: 12, set_memory_map: 13, maximum_gpfn: 14,
  remove_from_physmap: 15, set_pod_target: 16, get_pod_target: 17, get_sharing_freed_pages: 18,
  get_sharing_shared_pages: 19, add_to_physmap_batch: 23, claim_pages: 24, machphys_compat_mfn_list: 25,
  get_vnumainfo: 26, reserved_device_memory_map: 27, acquire_resource: 28,
} as const; // prettier-ignore
/** Bits of the command above which a continuation keeps how far it came (MEMOP_EXTENT_SHIFT). */
export const MEMOP_EXTENT_SHIFT = 6;

export const XENMEMF = { populate_on_demand: 0x10000, exact_node: 0x20000, vnode: 0x40000 } as const;
/** Physmap spaces (XENMAPSPACE_*). */
export const MapSpace = {
  shared_info: 0,
  grant_table: 1,
  gmfn: 2,
  gmfn_range: 3,
  gmfn_foreign: 4,
  dev_mmio: 5,
} as const;
/** Resources of XENMEM_acquire_resource. */
export const Resource = { ioreq_server: 0, grant_table: 1, vmtrace_buf: 2 } as const;
export const ResourceGrantTable = { shared: 0, status: 1 } as const;

export const MemoryReservation = layout('xen_memory_reservation', {
  extent_start: 'u64', nr_extents: 'u64', extent_order: 'u32', mem_flags: 'u32', domid: 'u16',
}); // prettier-ignore
export const MemoryExchange = layout('xen_memory_exchange', {
  in: MemoryReservation, out: MemoryReservation, nr_exchanged: 'u64',
}); // prettier-ignore
export const AddToPhysmap = layout('xen_add_to_physmap', {
  domid: 'u16', size: 'u16', space: 'u32', idx: 'u64', gpfn: 'u64',
}); // prettier-ignore
export const AddToPhysmapBatch = layout('xen_add_to_physmap_batch', {
  domid: 'u16', space: 'u16', size: 'u16', u: 'u16', idxs: 'u64', gpfns: 'u64', errs: 'u64',
}); // prettier-ignore
export const RemoveFromPhysmap = layout('xen_remove_from_physmap', { domid: 'u16', gpfn: 'u64' });
export const MemoryMapOp = layout('xen_memory_map', { nr_entries: 'u32', buffer: 'u64' });
export const ForeignMemoryMap = layout('xen_foreign_memory_map', { domid: 'u16', map: MemoryMapOp });
export const MachphysMapping = layout('xen_machphys_mapping', { v_start: 'u64', v_end: 'u64', max_mfn: 'u64' });
export const MachphysMfnList = layout('xen_machphys_mfn_list', {
  max_extents: 'u32', extent_start: 'u64', nr_extents: 'u32',
}); // prettier-ignore
export const AcquireResource = layout('xen_mem_acquire_resource', {
  domid: 'u16', type: 'u16', id: 'u32', nr_frames: 'u32', pad: 'u32', frame: 'u64', frame_list: 'u64',
}); // prettier-ignore
export const PodTarget = layout('xen_pod_target', {
  target_pages: 'u64', tot_pages: 'u64', pod_cache_pages: 'u64', pod_entries: 'u64', domid: 'u16',
}); // prettier-ignore
/** Bytes of an e820 entry (packed): u64 address, u64 size, u32 type. */
export const E820_ENTRY_SIZE = 20;
export const E820 = { RAM: 1, RESERVED: 2, ACPI: 3, NVS: 4, UNUSABLE: 5 } as const;
export const E820_MAX = 128;
