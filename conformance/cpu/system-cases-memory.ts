/** Cases of paging faults and their error codes, accessed and dirty bits, alignment checks, double and triple faults. Sections: Intel SDM. */
import type { SystemCase } from './system.ts';
import {
  KCODE, KERNEL_CODE, KERNEL_DATA, KERNEL_READ_ONLY, PAGE_TABLE, PAGE_TABLE32,
  UNMAPPED, USER_CODE, USER_DATA, USER_ENTRY, USER_NO_EXECUTE, USER_READ_ONLY,
} from './system-world.ts'; // prettier-ignore

const PAGING = 'vol. 3 4.6, 4.7';
const P = 1;
const W = 2;
const U = 4;
const RSVD = 8;
const I = 16;
const read = 'mov rbx, [rdi]';
const write = 'mov [rdi], rbx';
const CR4 = 0x1_06a0n;
const SMEP = CR4 | (1n << 20n);
const SMAP = CR4 | (1n << 21n);
const NO_WP = 0x8004_0033n;
const OLD_CODE = 0xd01n & ~0x800n;
const pte = (address: number): number => PAGE_TABLE + address / 512;
const pte32 = (address: number): number => PAGE_TABLE32 + address / 1024;
const at = (address: number | bigint): { rdi: number | bigint } => ({ rdi: address });
const fault = (address: number | bigint, code: number): Pick<SystemCase, 'fault' | 'want'> => ({ fault: [14, code], want: { cr2: address } }); // prettier-ignore
const BAD = 0x8000_0000_0000n;

const faults: readonly SystemCase[] = [
  { title: 'read of nothing, ring 3', section: PAGING, world: 'u64', code: read, set: at(UNMAPPED), ...fault(UNMAPPED, U) },
  { title: 'write of nothing, ring 3', section: PAGING, world: 'u64', code: write, set: at(UNMAPPED + 8), ...fault(UNMAPPED + 8, W | U) },
  { title: 'read of nothing, ring 0', section: PAGING, world: 'k64', code: read, set: at(UNMAPPED), ...fault(UNMAPPED, 0) },
  { title: 'write of nothing, ring 0', section: PAGING, world: 'k64', code: write, set: at(UNMAPPED), ...fault(UNMAPPED, W) },
  { title: 'read where no table is', section: PAGING, world: 'u64', code: read, set: at(1n << 40n), ...fault(1n << 40n, U) },
  { title: 'read of the supervisor from ring 3', section: PAGING, world: 'u64', code: read, set: at(KERNEL_DATA), ...fault(KERNEL_DATA, P | U) },
  { title: 'write of the supervisor from ring 3', section: PAGING, world: 'u64', code: write, set: at(KERNEL_DATA), ...fault(KERNEL_DATA, P | W | U) },
  { title: 'write of a read-only page from ring 3', section: PAGING, world: 'u64', code: write, set: at(USER_READ_ONLY), ...fault(USER_READ_ONLY, P | W | U) },
  { title: 'write of a read-only page from ring 0 under WP', section: PAGING, world: 'k64', code: write, set: at(KERNEL_READ_ONLY), ...fault(KERNEL_READ_ONLY, P | W) },
  { title: 'write of a read-only page from ring 0 without WP', section: PAGING, world: 'k64', code: write, set: { ...at(KERNEL_READ_ONLY), cr0: NO_WP, rbx: 0x55 }, wantMemory: [[KERNEL_READ_ONLY, 8, 0x55], [pte(KERNEL_READ_ONLY), 8, KERNEL_READ_ONLY | 0x61]] },
  { title: 'write without WP from ring 3', section: PAGING, world: 'u64', code: write, set: { ...at(USER_READ_ONLY), cr0: NO_WP }, ...fault(USER_READ_ONLY, P | W | U) },
  { title: 'fetch from a page without execute', section: PAGING, world: 'u64', code: 'jmp rdi', set: at(USER_NO_EXECUTE), fault: [14, P | U | I], want: { cr2: USER_NO_EXECUTE, rip: USER_NO_EXECUTE } },
  { title: 'fetch from nothing', section: PAGING, world: 'u64', code: 'jmp rdi', set: at(UNMAPPED), fault: [14, U | I], want: { cr2: UNMAPPED, rip: UNMAPPED } },
  { title: 'fetch from the supervisor', section: PAGING, world: 'u64', code: 'jmp rdi', set: at(KERNEL_CODE), fault: [14, P | U | I], want: { cr2: KERNEL_CODE, rip: KERNEL_CODE } },
  { title: 'fetch from nothing in 32-bit mode tells no I', section: PAGING, world: 'u32', code: 'db 0xff, 0xe7', set: at(UNMAPPED), fault: [14, U], want: { cr2: UNMAPPED, rip: UNMAPPED } },
  { title: 'XD without NXE is reserved', section: PAGING, world: 'u64', code: read, set: { ...at(USER_NO_EXECUTE), efer: OLD_CODE }, ...fault(USER_NO_EXECUTE, P | U | RSVD) },
  { title: 'large page with reserved bits', section: 'vol. 3 4.5', world: 'u64', code: read, set: at(0x20_0000), memory: [[0x3008, 8, 0x2087]], ...fault(0x20_0000, P | U | RSVD) },
  { title: 'PS in a PML4 entry', section: 'vol. 3 4.5', world: 'u64', code: read, set: at(1n << 39n), memory: [[0x1008, 8, 0x2087]], ...fault(1n << 39n, P | U | RSVD) },
  { title: 'SMEP: fetch of a user page in ring 0', section: PAGING, world: 'k64', code: 'jmp rdi', set: { ...at(USER_ENTRY), cr4: SMEP }, fault: [14, P | I], want: { cr2: USER_ENTRY, rip: USER_ENTRY } },
  { title: 'without SMEP', section: PAGING, world: 'k64', code: 'jmp rdi', set: at(USER_ENTRY), want: { rip: USER_ENTRY } },
  { title: 'SMAP: read of a user page in ring 0', section: PAGING, world: 'k64', code: read, set: { ...at(USER_DATA), cr4: SMAP }, ...fault(USER_DATA, P) },
  { title: 'SMAP: write of a user page in ring 0', section: PAGING, world: 'k64', code: write, set: { ...at(USER_DATA), cr4: SMAP }, ...fault(USER_DATA, P | W) },
  { title: 'SMAP with AC', section: PAGING, world: 'k64', code: write, set: { ...at(USER_DATA), cr4: SMAP, rflags: 0x4_0202, rbx: 0x77 }, wantMemory: [[USER_DATA, 8, 0x77]] },
  { title: 'SMAP: STAC opens, CLAC closes', section: 'vol. 2 STAC, CLAC', world: 'k64', code: 'stac\nmov rbx, [rdi]\nclac', set: { ...at(USER_DATA), cr4: SMAP }, memory: [[USER_DATA, 8, 0x99]], want: { rbx: 0x99 } },
  { title: 'SMAP does not concern ring 3', section: PAGING, world: 'u64', code: read, set: { ...at(USER_DATA), cr4: SMAP }, want: { rbx: 0 } },
  { title: 'an address that is not canonical', section: 'vol. 1 3.3.7.1', world: 'u64', code: read, set: at(BAD), fault: [13, 0] },
  { title: 'the same through RSP', section: 'vol. 1 3.3.7.1', world: 'u64', code: 'pop rbx', set: { rsp: BAD }, fault: [12, 0] },
  { title: 'read across into nothing', section: PAGING, world: 'u64', code: read, set: at(UNMAPPED - 4), ...fault(UNMAPPED, U) },
  { title: 'write across into nothing writes nothing', section: PAGING, world: 'u64', code: write, set: at(UNMAPPED - 4), ...fault(UNMAPPED, W | U), wantMemory: [[UNMAPPED - 4, 8, 0]] },
  { title: 'update of nothing says write', section: PAGING, world: 'u64', code: 'add qword [rdi], 1', set: at(UNMAPPED), ...fault(UNMAPPED, W | U) },
  { title: 'a GDT that is not there', section: 'vol. 3 4.6.1', world: 'u64', code: 'mov ds, ax', set: { rax: 0x33, gdtrBase: UNMAPPED }, exit: 'tripleFault', want: { cr2: UNMAPPED + KCODE, rip: USER_CODE } },
  { title: 'read of nothing in 32-bit mode', section: PAGING, world: 'u32', code: 'db 0x8b, 0x1f', set: at(UNMAPPED), ...fault(UNMAPPED, U) },
  { title: 'write of a read-only page in 32-bit mode', section: PAGING, world: 'u32', code: 'db 0x89, 0x1f', set: at(USER_READ_ONLY), ...fault(USER_READ_ONLY, P | W | U) },
  { title: 'write of a read-only page in 32-bit ring 0 under WP', section: PAGING, world: 'k32', code: 'db 0x89, 0x1f', set: at(KERNEL_READ_ONLY), ...fault(KERNEL_READ_ONLY, P | W) },
  { title: 'page fault of a PV guest', section: PAGING, world: 'u64', code: read, set: at(UNMAPPED), trapMode: 'monitor', ...fault(UNMAPPED, U) },
]; // prettier-ignore

const BITS = 'vol. 3 4.8';
const bits: readonly SystemCase[] = [
  { title: 'a read sets A', section: BITS, world: 'u64', code: read, set: at(USER_DATA), want: { rbx: 0 }, wantMemory: [[pte(USER_DATA), 8, USER_DATA | 0x27]] },
  { title: 'a write sets A and D', section: BITS, world: 'u64', code: write, set: at(USER_DATA), wantMemory: [[pte(USER_DATA), 8, USER_DATA | 0x67]] },
  { title: 'a fetch sets A', section: BITS, world: 'u64', code: 'jmp rdi', set: at(USER_ENTRY), want: { rip: USER_ENTRY }, wantMemory: [[pte(USER_ENTRY), 8, USER_ENTRY | 0x27]] },
  { title: 'a write that faults sets no D', section: BITS, world: 'u64', code: write, set: at(USER_READ_ONLY), ...fault(USER_READ_ONLY, P | W | U), wantMemory: [[pte(USER_READ_ONLY), 8, USER_READ_ONLY | 5]] },
  { title: 'an access sets A in the tables above', section: BITS, world: 'u64', code: read, set: at(USER_DATA), want: { rbx: 0 }, wantMemory: [[0x1000, 8, 0x2027], [0x2000, 8, 0x3027], [0x3000, 8, 0x4027]] },
  { title: 'a large page gets A and D', section: BITS, world: 'u64', code: write, set: { ...at(0x20_0040), rbx: 5 }, memory: [[0x3008, 8, 0x87]], wantMemory: [[0x40, 8, 5], [0x3008, 8, 0xe7]] },
  { title: 'a write in 32-bit mode sets A and D', section: BITS, world: 'u32', code: 'db 0x89, 0x1f', set: at(USER_DATA), wantMemory: [[pte32(USER_DATA), 4, USER_DATA | 0x67]] },
]; // prettier-ignore

const ALIGNMENT = 'vol. 3 6.15 #AC';
const AC = 0x4_0202;
const alignment: readonly SystemCase[] = [
  { title: 'misaligned read with AC in ring 3', section: ALIGNMENT, world: 'u64', code: read, set: { ...at(USER_DATA + 1), rflags: AC }, fault: [17, 0] },
  { title: 'misaligned write with AC in ring 3', section: ALIGNMENT, world: 'u64', code: 'mov [rdi], bx', set: { ...at(USER_DATA + 1), rflags: AC }, fault: [17, 0] },
  { title: 'aligned read with AC', section: ALIGNMENT, world: 'u64', code: read, set: { ...at(USER_DATA + 8), rflags: AC }, want: { rbx: 0 } },
  { title: 'misaligned read in ring 0', section: ALIGNMENT, world: 'k64', code: read, set: { ...at(KERNEL_DATA + 1), rflags: AC }, want: { rbx: 0 } },
  { title: 'misaligned read without CR0.AM', section: ALIGNMENT, world: 'u64', code: read, set: { ...at(USER_DATA + 1), rflags: AC, cr0: 0x8001_0033n }, want: { rbx: 0 } },
  { title: 'a byte is always aligned', section: ALIGNMENT, world: 'u64', code: 'mov bl, [rdi]', set: { ...at(USER_DATA + 1), rflags: AC, rbx: 0xff }, want: { rbx: 0 } },
  { title: 'misaligned push with AC', section: ALIGNMENT, world: 'u64', code: 'push rbx', set: { rsp: USER_DATA + 0x101, rflags: AC }, fault: [17, 0] },
  { title: 'misaligned read in 32-bit mode', section: ALIGNMENT, world: 'u32', code: 'db 0x8b, 0x1f', set: { ...at(USER_DATA + 2), rflags: AC }, fault: [17, 0] },
]; // prettier-ignore

const DOUBLE = 'vol. 3 6.15 #DF';
const IDT64 = 0x1_1000;
const absent = (vector: number): readonly [number, number, number] => [IDT64 + 16 * vector + 5, 1, 0x0e];
const doubles: readonly SystemCase[] = [
  { title: '#GP whose gate is not present: #DF', section: DOUBLE, world: 'u64', code: 'hlt', memory: [absent(13)], fault: [8, 0] },
  { title: '#PF whose gate is not present: #DF', section: DOUBLE, world: 'u64', code: read, set: at(UNMAPPED), memory: [absent(14)], fault: [8, 0], want: { cr2: UNMAPPED } },
  { title: '#UD whose gate is not present: #NP', section: DOUBLE, world: 'u64', code: 'ud2', memory: [absent(6)], fault: [11, 6 * 8 + 2 + 1] },
  { title: '#GP on a stack that is not there: #PF through IST', section: DOUBLE, world: 'k64', code: 'mov cr0, rax', set: { rsp: UNMAPPED + 0x800, rax: 0 }, memory: [[IDT64 + 14 * 16 + 4, 1, 1]], fault: [14, W], want: { cr2: UNMAPPED + 0x7f8 } },
  { title: '#PF on a stack that is not there: #DF through IST', section: DOUBLE, world: 'k64', code: read, set: { ...at(UNMAPPED + 0x1000), rsp: UNMAPPED + 0x800 }, memory: [[IDT64 + 8 * 16 + 4, 1, 1]], fault: [8, 0], want: { cr2: UNMAPPED + 0x7f8 } },
  { title: 'no gate for #DF: shutdown', section: DOUBLE, world: 'u64', code: 'hlt', memory: [absent(13), absent(8)], exit: 'tripleFault', want: { rip: USER_CODE } },
  { title: 'an empty IDT: shutdown', section: DOUBLE, world: 'u64', code: 'ud2', set: { idtrLimit: 0 }, exit: 'tripleFault', want: { rip: USER_CODE } },
]; // prettier-ignore

export const memoryCases: readonly SystemCase[] = [...faults, ...bits, ...alignment, ...doubles];
