import {
  AcquireResource, AddToPhysmap, AddToPhysmapBatch, ForeignMemoryMap, GnttabCopy, GnttabGetStatusFrames,
  GnttabGetVersion, GnttabMapGrantRef,
  GnttabQuerySize, GnttabSetupTable, GnttabTransfer, GnttabUnmapAndReplace, GnttabUnmapGrantRef, GrantEntryV1,
  GrantEntryV2, HvmParam, MachphysMapping, MachphysMfnList, MemoryExchange, MemoryMapOp, MemoryReservation, MmuExtOp, MmuUpdate,
  RemoveFromPhysmap,
} from './index.ts'; // prettier-ignore

/** Sizes and offsets as a C compiler gives them for Xen 4.17's public headers. */
test.each([
  [MmuUpdate, 16, { ptr: 0, val: 8 }],
  [MmuExtOp, 24, { cmd: 0, arg1: 8, arg2: 16 }],
  [MemoryReservation, 32, { extent_start: 0, nr_extents: 8, extent_order: 16, mem_flags: 20, domid: 24 }],
  [MemoryExchange, 72, { in: 0, out: 32, nr_exchanged: 64 }],
  [AddToPhysmap, 24, { domid: 0, size: 2, space: 4, idx: 8, gpfn: 16 }],
  [AddToPhysmapBatch, 32, { domid: 0, space: 2, size: 4, u: 6, idxs: 8, gpfns: 16, errs: 24 }],
  [RemoveFromPhysmap, 16, { domid: 0, gpfn: 8 }],
  [MemoryMapOp, 16, { nr_entries: 0, buffer: 8 }],
  [ForeignMemoryMap, 24, { domid: 0, map: 8 }],
  [MachphysMapping, 24, { v_start: 0, v_end: 8, max_mfn: 16 }],
  [MachphysMfnList, 24, { max_extents: 0, extent_start: 8, nr_extents: 16 }],
  [AcquireResource, 32, { domid: 0, type: 2, id: 4, nr_frames: 8, pad: 12, frame: 16, frame_list: 24 }],
  [GrantEntryV1, 8, { flags: 0, domid: 2, frame: 4 }],
  [GrantEntryV2, 16, { flags: 0, domid: 2, page_off: 4, length: 6, frame: 8 }],
  [GnttabMapGrantRef, 32, { host_addr: 0, flags: 8, ref: 12, dom: 16, status: 18, handle: 20, dev_bus_addr: 24 }],
  [GnttabUnmapGrantRef, 24, { host_addr: 0, dev_bus_addr: 8, handle: 16, status: 20 }],
  [GnttabUnmapAndReplace, 24, { host_addr: 0, new_addr: 8, handle: 16, status: 20 }],
  [GnttabSetupTable, 24, { dom: 0, nr_frames: 4, status: 8, frame_list: 16 }],
  [GnttabQuerySize, 16, { dom: 0, nr_frames: 4, max_nr_frames: 8, status: 12 }],
  [GnttabCopy, 40, { source: 0, dest: 16, len: 32, flags: 34, status: 36 }],
  [GnttabTransfer, 24, { mfn: 0, domid: 8, ref: 12, status: 16 }],
  [GnttabGetVersion, 8, { dom: 0, pad: 2, version: 4 }],
  [HvmParam, 16, { domid: 0, index: 4, value: 8 }],
  [GnttabGetStatusFrames, 16, { nr_frames: 0, dom: 4, status: 6, frame_list: 8 }],
])('%#: layout', (struct, size, offsets) => {
  expect(struct.size).toBe(size);
  expect(struct.offsets).toEqual(offsets);
});
