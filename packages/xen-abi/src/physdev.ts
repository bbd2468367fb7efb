/** `physdev_op` (`xen/include/public/physdev.h`). */
import { layout } from '@xenhost/base';

export const PhysdevOp = {
  irq_status_query: 5, set_iopl: 6, set_iobitmap: 7, apic_read: 8, apic_write: 9, alloc_irq_vector: 10,
  free_irq_vector: 11, eoi: 12, map_pirq: 13, unmap_pirq: 14, pirq_eoi_gmfn_v1: 17, restore_msi: 19, setup_gsi: 21,
  get_free_pirq: 23, pci_mmcfg_reserved: 24, pirq_eoi_gmfn_v2: 28,
} as const; // prettier-ignore

export const PhysdevSetIopl = layout('physdev_set_iopl', { iopl: 'u32' });
export const PhysdevSetIobitmap = layout('physdev_set_iobitmap', { bitmap: 'u64', nr_ports: 'u32' });
export const PhysdevEoi = layout('physdev_eoi', { irq: 'u32' });
export const PhysdevIrqStatusQuery = layout('physdev_irq_status_query', { irq: 'u32', flags: 'u32' });
