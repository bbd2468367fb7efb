/**
 * Making machine memory ready, once per host and before any other thread: the heap over all frames above the static
 * areas, an M2P without entries, the page tables that show it to guests, and Xen's descriptors.
 */
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { HeaderLayout } from '../state/records.ts';
import { FrameTable } from './frame.ts';
import { Heap } from './heap.ts';
import { HostWords } from './private.ts';
import { ENTRIES_PER_TABLE, Pte } from './pte.ts';
import { Tables } from './tables.ts';

const M2P_BYTES_PER_FRAME = 8;
const READ_ONLY = Pte.present | Pte.user | Pte.accessed;

/** Descriptors of Xen's page at selector 0xe000 that guests see (`x86_64.S`, gdt). */
const RESERVED_DESCRIPTORS: readonly (readonly [selector: number, descriptor: bigint])[] = [
  [0xe008, 0x00af9b000000ffffn],
  [0xe010, 0x00cf93000000ffffn],
  /* Ring 3, code of 32 bits, data, code of 64 bits: 0xe023, 0xe02b, 0xe033. */
  [0xe020, 0x00cffb000000ffffn],
  [0xe028, 0x00cff3000000ffffn],
  [0xe030, 0x00affb000000ffffn],
  [0xe038, 0x00cf9b000000ffffn],
];
const RESERVED_FIRST = 0xe000;

export function bootMemory(memory: MachineMemory, map: MemoryMap): void {
  const header = HeaderLayout.view(memory, map.header * PAGE_SIZE);
  const host = new HostWords(memory, map);
  const frames = new FrameTable(memory, map);
  const heap = new Heap(memory, frames, host, header);
  const tables = new Tables(memory);

  heap.addRange(map.heap, map.nrFrames);
  host.totalFrames = map.nrFrames - map.heap;
  // Stamps of frames never used are 0: they need no flush.
  host.flushGeneration = 1;

  const m2pFrames = Math.ceil((map.nrFrames * M2P_BYTES_PER_FRAME) / PAGE_SIZE);
  memory.u8.fill(0xff, map.m2p * PAGE_SIZE, (map.m2p + m2pFrames) * PAGE_SIZE);

  const take = (): number => {
    const mfn = heap.allocate(0);
    if (mfn === undefined) throw new RangeError('machine memory is too small for a host');
    return mfn;
  };
  const l3 = take();
  const l2 = take();
  tables.write(l3, 0, l2, READ_ONLY);
  let l1 = 0;
  for (let i = 0; i < m2pFrames; i++) {
    if (i % ENTRIES_PER_TABLE === 0) {
      l1 = take();
      tables.write(l2, i / ENTRIES_PER_TABLE, l1, READ_ONLY);
    }
    tables.write(l1, i % ENTRIES_PER_TABLE, map.m2p + i, READ_ONLY | Pte.global | Pte.nx);
  }
  header.m2pL3 = l3;

  host.zeroFrame = take();
  host.gdtFrame = take();
  for (const [selector, descriptor] of RESERVED_DESCRIPTORS)
    memory.dv.setBigUint64(host.gdtFrame * PAGE_SIZE + (selector - RESERVED_FIRST), descriptor, true);
}
