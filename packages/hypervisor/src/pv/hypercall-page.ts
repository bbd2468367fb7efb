/** The hypercall page of a 64-bit PV guest: 128 slots of 32 bytes. `xen/arch/x86/pv/hypercall.c`, hypercall_page_initialise_ring3_kernel. */
import { Hypercall } from '@xenhost/xen-abi';

const SLOT_SIZE = 32;
const NR_SLOTS = 128;
const INT3 = 0xcc;

/** push rcx; push r11; mov eax, number; syscall; pop r11; pop rcx; ret. */
const slot = (number: number): number[] => [
  0x51, 0x41, 0x53, 0xb8, number, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
]; // prettier-ignore
/** iret does not return: push rcx; push r11; push rax; mov eax, number; syscall. */
const iretSlot = [0x51, 0x41, 0x53, 0x50, 0xb8, Hypercall.iret, 0, 0, 0, 0x0f, 0x05];

/** Fills a page of 4096 bytes. */
export function fillHypercallPage(page: Uint8Array): void {
  page.fill(INT3, 0, SLOT_SIZE * NR_SLOTS);
  for (let number = 0; number < NR_SLOTS; number++) {
    page.set(number === Hypercall.iret ? iretSlot : slot(number), number * SLOT_SIZE);
  }
}
