/** Cases of control and debug registers, MSRs, flags, ports and the like. Sections are those of the Intel SDM. */
import type { SystemCase } from './system.ts';
import { KERNEL_CODE, KERNEL_DATA, TSS64, TSS32, UNMAPPED, USER_CODE, USER_DATA } from './system-world.ts';

const PG = 1n << 31n;
const CR0 = 0x8005_0033n;
const CR4_64 = 0x1_06a0n;
const OSXSAVE = 0x4_0000n;
const SMALL_TSS = { trLimit: 0x67 } as const;

const CONTROL = 'vol. 2 MOV to/from control registers';
const controlRegisters: readonly SystemCase[] = [
  { title: 'MOV from CR0', section: CONTROL, world: 'k64', code: 'mov rax, cr0', want: { rax: CR0 } },
  { title: 'MOV from CR2', section: CONTROL, world: 'k64', code: 'mov rbx, cr2', set: { cr2: 0x1234_5678_9abcn }, want: { rbx: 0x1234_5678_9abcn } },
  { title: 'MOV from CR3', section: CONTROL, world: 'k64', code: 'mov r9, cr3', want: { r9: 0x1000 } },
  { title: 'MOV from CR4', section: CONTROL, world: 'k64', code: 'mov rcx, cr4', want: { rcx: CR4_64 } },
  { title: 'MOV from CR8', section: CONTROL, world: 'k64', code: 'mov rcx, cr8', set: { cr8: 5 }, want: { rcx: 5 } },
  { title: 'MOV from CR0 in ring 3', section: CONTROL, world: 'u64', code: 'mov rax, cr0', fault: [13, 0] },
  { title: 'MOV to CR0 in ring 3', section: CONTROL, world: 'u64', code: 'mov cr0, rax', fault: [13, 0] },
  { title: 'MOV from CR4 in compatibility mode of ring 3', section: CONTROL, world: 'c32', code: 'db 0x0f, 0x20, 0xe0', fault: [13, 0] },
  { title: 'MOV from CR1', section: CONTROL, world: 'k64', code: 'db 0x0f, 0x20, 0xc8', fault: [6] },
  { title: 'MOV to CR5', section: CONTROL, world: 'k64', code: 'db 0x0f, 0x22, 0xe8', fault: [6] },
  { title: 'CR0: TS and MP set', section: CONTROL, world: 'k64', code: 'mov cr0, rax', set: { rax: CR0 | 0xan }, want: { cr0: CR0 | 0xan } },
  { title: 'CR0: ET stays 1', section: 'vol. 3 2.5', world: 'k64', code: 'mov cr0, rax', set: { rax: CR0 & ~0x10n }, want: { cr0: CR0 } },
  { title: 'CR0: reserved bits of the low half are ignored', section: CONTROL, world: 'k64', code: 'mov cr0, rax', set: { rax: CR0 | 0x1000n }, want: { cr0: CR0 } },
  { title: 'CR0: bits above 31', section: CONTROL, world: 'k64', code: 'mov cr0, rax', set: { rax: CR0 | (1n << 32n) }, fault: [13, 0] },
  { title: 'CR0: PG without PE', section: CONTROL, world: 'k64', code: 'mov cr0, rax', set: { rax: CR0 & ~1n }, fault: [13, 0] },
  { title: 'CR0: NW without CD', section: CONTROL, world: 'k64', code: 'mov cr0, rax', set: { rax: CR0 | (1n << 29n) }, fault: [13, 0] },
  { title: 'CR0: PG cleared in 64-bit mode', section: CONTROL, world: 'k64', code: 'mov cr0, rax', set: { rax: CR0 & ~PG }, fault: [13, 0] },
  { title: 'CR0: PG cleared in 32-bit mode', section: CONTROL, world: 'k32', code: 'mov cr0, rax', set: { rax: CR0 & ~PG }, want: { cr0: CR0 & ~PG } },
  { title: 'CR2 takes any value', section: CONTROL, world: 'k64', code: 'mov cr2, rax', set: { rax: 0x8000_0000_0000_0000n }, want: { cr2: 0x8000_0000_0000_0000n } },
  { title: 'CR3: bits above the width of addresses', section: CONTROL, world: 'k64', code: 'mov cr3, rax', set: { rax: 0x10_0000_0000_1000n }, fault: [13, 0] },
  { title: 'CR3: PWT and PCD', section: CONTROL, world: 'k64', code: 'mov cr3, rax', set: { rax: 0x1018n }, want: { cr3: 0x1018n } },
  { title: 'CR3 in 32-bit mode', section: CONTROL, world: 'k32', code: 'mov cr3, rax', set: { rax: 0x5008n }, want: { cr3: 0x5008n } },
  { title: 'CR4: reserved bit 31', section: CONTROL, world: 'k64', code: 'mov cr4, rax', set: { rax: CR4_64 | PG }, fault: [13, 0] },
  { title: 'CR4: bits above 31', section: CONTROL, world: 'k64', code: 'mov cr4, rax', set: { rax: CR4_64 | (1n << 40n) }, fault: [13, 0] },
  { title: 'CR4: PAE cleared in long mode', section: CONTROL, world: 'k64', code: 'mov cr4, rax', set: { rax: CR4_64 & ~0x20n }, fault: [13, 0] },
  { title: 'CR4: SMEP', section: CONTROL, world: 'k64', code: 'mov cr4, rax', set: { rax: CR4_64 | (1n << 20n) }, want: { cr4: CR4_64 | (1n << 20n) } },
  { title: 'CR8: more than 15', section: CONTROL, world: 'k64', code: 'mov cr8, rax', set: { rax: 16 }, fault: [13, 0] },
  { title: 'CR8', section: CONTROL, world: 'k64', code: 'mov cr8, rax', set: { rax: 9 }, want: { cr8: 9 } },
]; // prettier-ignore

const MSW = 'vol. 2 LMSW, SMSW, CLTS';
const machineStatus: readonly SystemCase[] = [
  { title: 'SMSW to a register', section: MSW, world: 'k64', code: 'db 0x48, 0x0f, 0x01, 0xe0', want: { rax: CR0 } },
  { title: 'SMSW in ring 3', section: MSW, world: 'u64', code: 'db 0x66, 0x0f, 0x01, 0xe0', set: { rax: 0xffff_ffffn }, want: { rax: 0xffff_0033n } },
  { title: 'SMSW in ring 3 under UMIP', section: MSW, world: 'u64', code: 'db 0x0f, 0x01, 0xe0', set: { cr4: CR4_64 | 0x800n }, fault: [13, 0] },
  { title: 'SMSW to memory writes 16 bits', section: MSW, world: 'k64', code: `mov rdi, ${KERNEL_DATA}\ndb 0x0f, 0x01, 0x27`, memory: [[KERNEL_DATA, 8, -1n]], want: { rdi: KERNEL_DATA }, wantMemory: [[KERNEL_DATA, 8, 0xffff_ffff_ffff_0033n]] },
  { title: 'LMSW sets TS', section: MSW, world: 'k64', code: 'db 0x0f, 0x01, 0xf0', set: { rax: 0xb }, want: { cr0: (CR0 & ~0xfn) | 0xbn } },
  { title: 'LMSW does not clear PE', section: MSW, world: 'k64', code: 'db 0x0f, 0x01, 0xf0', set: { rax: 0 }, want: { cr0: CR0 & ~2n } },
  { title: 'LMSW changes only the low four bits', section: MSW, world: 'k64', code: 'db 0x0f, 0x01, 0xf0', set: { rax: 0xffc3 }, want: { cr0: CR0 } },
  { title: 'LMSW in ring 3', section: MSW, world: 'u64', code: 'db 0x0f, 0x01, 0xf0', fault: [13, 0] },
  { title: 'CLTS', section: MSW, world: 'k64', code: 'clts', set: { cr0: CR0 | 8n }, want: { cr0: CR0 } },
  { title: 'CLTS in ring 3', section: MSW, world: 'u64', code: 'clts', fault: [13, 0] },
]; // prettier-ignore

const DEBUG = 'vol. 2 MOV to/from debug registers';
const debugRegisters: readonly SystemCase[] = [
  { title: 'MOV from DR7', section: DEBUG, world: 'k64', code: 'mov rax, dr7', want: { rax: 0x400 } },
  { title: 'MOV from DR6', section: DEBUG, world: 'k64', code: 'mov rax, dr6', want: { rax: 0xffff_0ff0n } },
  { title: 'MOV to DR0', section: DEBUG, world: 'k64', code: 'mov dr0, rax', set: { rax: 0x1234 }, want: { dr0: 0x1234 } },
  { title: 'DR4 is DR6 without CR4.DE', section: DEBUG, world: 'k64', code: 'mov rax, dr4', want: { rax: 0xffff_0ff0n } },
  { title: 'DR5 is DR7 without CR4.DE', section: DEBUG, world: 'k64', code: 'mov dr5, rax', set: { rax: 0x300 }, want: { dr7: 0x700 } },
  { title: 'DR4 under CR4.DE', section: DEBUG, world: 'k64', code: 'mov rax, dr4', set: { cr4: CR4_64 | 8n }, fault: [6] },
  { title: 'DR5 under CR4.DE', section: DEBUG, world: 'k64', code: 'mov dr5, rax', set: { cr4: CR4_64 | 8n }, fault: [6] },
  { title: 'MOV from DR0 in ring 3', section: DEBUG, world: 'u64', code: 'mov rax, dr0', fault: [13, 0] },
  { title: 'MOV to DR7 in ring 3', section: DEBUG, world: 'u64', code: 'mov dr7, rax', fault: [13, 0] },
  { title: 'DR6: bits above 31', section: DEBUG, world: 'k64', code: 'mov dr6, rax', set: { rax: 1n << 32n }, fault: [13, 0] },
  { title: 'DR7: bits above 31', section: DEBUG, world: 'k64', code: 'mov dr7, rax', set: { rax: 1n << 32n }, fault: [13, 0] },
  { title: 'DR6: reserved bits', section: 'vol. 3 17.2.3', world: 'k64', code: 'mov dr6, rax', set: { rax: 0 }, want: { dr6: 0xffff_0ff0n } },
  { title: 'DR7: GD makes an access trap', section: 'vol. 3 17.2.4', world: 'k64', code: 'mov rax, dr3', set: { dr7: 0x2400 }, fault: [1], want: { dr6: 0xffff_2ff0n, dr7: 0x400 } },
]; // prettier-ignore

const MSR = 'vol. 2 RDMSR, WRMSR; vol. 4';
const STEP = { read: 'rdmsr', write: 'wrmsr' } as const;
const msr = (number: number, value: bigint): { rcx: number; rax: bigint; rdx: bigint } => ({ rcx: number, rax: value & 0xffff_ffffn, rdx: value >> 32n }); // prettier-ignore
const BAD = 0x8000_0000_0000n;
const HIGH = 0xffff_8000_1234_5678n;
const modelRegisters: readonly SystemCase[] = [
  { title: 'RDMSR of EFER', section: MSR, world: 'k64', code: STEP.read, set: { rcx: 0xc0000080, rax: -1n & 0xffff_ffff_ffff_ffffn }, want: { rax: 0xd01, rdx: 0 } },
  { title: 'RDMSR in ring 3', section: MSR, world: 'u64', code: STEP.read, set: { rcx: 0xc0000080 }, fault: [13, 0] },
  { title: 'WRMSR in ring 3', section: MSR, world: 'u64', code: STEP.write, set: { rcx: 0xc0000080 }, fault: [13, 0] },
  { title: 'EFER: SCE cleared', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000080, 0xd00n), want: { efer: 0xd00 } },
  { title: 'EFER: LMA is not writable', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000080, 0x901n), want: { efer: 0xd01 } },
  { title: 'EFER: LME changed under paging', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000080, 0xc01n), fault: [13, 0] },
  { title: 'EFER: reserved bit', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000080, 0xd03n), fault: [13, 0] },
  { title: 'STAR', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000081, 0x23_0008_1234_5678n), want: { star: 0x23_0008_1234_5678n } },
  { title: 'LSTAR', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000082, HIGH), want: { lstar: HIGH } },
  { title: 'LSTAR that is not canonical', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000082, BAD), fault: [13, 0] },
  { title: 'CSTAR that is not canonical', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000083, BAD), fault: [13, 0] },
  { title: 'FS base', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000100, HIGH), want: { fsBase: HIGH } },
  { title: 'FS base that is not canonical', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000100, BAD), fault: [13, 0] },
  { title: 'GS base that is not canonical', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000101, BAD), fault: [13, 0] },
  { title: 'kernel GS base', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000102, HIGH), want: { kernelGsBase: HIGH } },
  { title: 'kernel GS base that is not canonical', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000102, BAD), fault: [13, 0] },
  { title: 'SFMASK', section: MSR, world: 'k64', code: STEP.write, set: msr(0xc0000084, 0x47700n), want: { sfmask: 0x47700 } },
  { title: 'SYSENTER_EIP that is not canonical', section: MSR, world: 'k64', code: STEP.write, set: msr(0x176, BAD), fault: [13, 0] },
  { title: 'SYSENTER_CS', section: MSR, world: 'k64', code: STEP.write, set: msr(0x174, 0x18n), want: { sysenterCs: 0x18 } },
  { title: 'PAT with a reserved type', section: MSR, world: 'k64', code: STEP.write, set: msr(0x277, 0x0007_0406_0007_0402n), fault: [13, 0] },
  { title: 'PAT', section: MSR, world: 'k64', code: STEP.write, set: msr(0x277, 0x0007_0106_0007_0106n), want: { pat: 0x0007_0106_0007_0106n } },
  { title: 'an MSR that only the owner knows', section: MSR, world: 'k64', code: STEP.read, set: { rcx: 0x1234 }, exit: 'msr', details: { msr: 0x1234 }, want: { rip: KERNEL_CODE } },
  { title: 'RDTSC', section: 'vol. 2 RDTSC', world: 'u64', code: 'rdtsc', want: { rax: 2, rdx: 1 } },
  { title: 'RDTSC in ring 3 under CR4.TSD', section: 'vol. 2 RDTSC', world: 'u64', code: 'rdtsc', set: { cr4: CR4_64 | 4n }, fault: [13, 0] },
  { title: 'RDTSC in ring 0 under CR4.TSD', section: 'vol. 2 RDTSC', world: 'k64', code: 'rdtsc', set: { cr4: CR4_64 | 4n }, want: { rax: 2, rdx: 1 } },
  { title: 'RDTSCP', section: 'vol. 2 RDTSCP', world: 'u64', code: 'rdtscp', want: { rax: 2, rdx: 1, rcx: 7 } },
  { title: 'CPUID', section: 'vol. 2 CPUID', world: 'u64', code: 'cpuid', set: { rax: 7, rcx: 1 }, want: { rax: 7, rbx: 1, rcx: 3, rdx: 4 } },
  { title: 'XGETBV without OSXSAVE', section: 'vol. 2 XGETBV', world: 'u64', code: 'db 0x0f, 0x01, 0xd0', set: { rcx: 0 }, fault: [6] },
  { title: 'XSETBV without x87', section: 'vol. 2 XSETBV', world: 'k64', code: 'db 0x0f, 0x01, 0xd1', set: { rcx: 0, rax: 2, rdx: 0, cr4: CR4_64 | 0x4_0000n }, fault: [13, 0] },
  { title: 'XSETBV', section: 'vol. 2 XSETBV', world: 'k64', code: 'db 0x0f, 0x01, 0xd1', set: { rcx: 0, rax: 3, rdx: 0, cr4: CR4_64 | 0x4_0000n }, want: { xcr0: 3 } },
  { title: 'XSETBV with AVX', section: 'vol. 2 XSETBV', world: 'k64', code: 'xsetbv', set: { rcx: 0, rax: 7, rdx: 0, cr4: CR4_64 | OSXSAVE }, want: { xcr0: 7 } },
  { title: 'XSETBV with AVX but not SSE', section: 'vol. 2 XSETBV', world: 'k64', code: 'xsetbv', set: { rcx: 0, rax: 5, rdx: 0, cr4: CR4_64 | OSXSAVE }, fault: [13, 0] },
  { title: 'XSETBV of a component that there is not', section: 'vol. 2 XSETBV', world: 'k64', code: 'xsetbv', set: { rcx: 0, rax: 0xf, rdx: 0, cr4: CR4_64 | OSXSAVE }, fault: [13, 0] },
  { title: 'XSETBV of XCR1', section: 'vol. 2 XSETBV', world: 'k64', code: 'xsetbv', set: { rcx: 1, rax: 3, rdx: 0, cr4: CR4_64 | OSXSAVE }, fault: [13, 0] },
  { title: 'XSETBV in ring 3', section: 'vol. 2 XSETBV', world: 'u64', code: 'xsetbv', set: { rcx: 0, rax: 3, rdx: 0, cr4: CR4_64 | OSXSAVE }, fault: [13, 0] },
  { title: 'XGETBV', section: 'vol. 2 XGETBV', world: 'u64', code: 'xgetbv', set: { rcx: 0, cr4: CR4_64 | OSXSAVE, xcr0: 7 }, want: { rax: 7, rdx: 0 } },
  { title: 'XGETBV of XCR2', section: 'vol. 2 XGETBV', world: 'u64', code: 'xgetbv', set: { rcx: 2, cr4: CR4_64 | OSXSAVE, xcr0: 7 }, fault: [13, 0] },
]; // prettier-ignore

const AVX_STATE = 'vol. 2 2.4 (exceptions of instructions with a VEX prefix), vol. 1 13.5';
const avx: readonly SystemCase[] = [
  { title: 'AVX', section: AVX_STATE, world: 'u64', code: 'vzeroupper', set: { cr4: CR4_64 | OSXSAVE, xcr0: 7 }, want: {} },
  { title: 'AVX without OSXSAVE', section: AVX_STATE, world: 'u64', code: 'vzeroupper', set: { cr4: CR4_64, xcr0: 7 }, fault: [6] },
  { title: 'AVX without AVX in XCR0', section: AVX_STATE, world: 'u64', code: 'vzeroupper', set: { cr4: CR4_64 | OSXSAVE, xcr0: 3 }, fault: [6] },
  { title: 'AVX under CR0.TS', section: AVX_STATE, world: 'u64', code: 'vzeroupper', set: { cr4: CR4_64 | OSXSAVE, xcr0: 7, cr0: CR0 | 8n }, fault: [7] },
  { title: 'AVX after XSETBV', section: AVX_STATE, world: 'k64', code: 'xsetbv\nvzeroupper', set: { rcx: 0, rax: 7, rdx: 0, cr4: CR4_64 | OSXSAVE }, want: { xcr0: 7 } },
  { title: 'BMI needs no state of its own', section: 'vol. 2 ANDN', world: 'u64', code: 'andn rax, rbx, rcx', set: { rax: 1, rbx: 3, rcx: 6, cr4: CR4_64, xcr0: 1 }, want: { rax: 4, rflags: 0x202 } },
  { title: 'XSAVE without OSXSAVE', section: AVX_STATE, world: 'u64', code: 'xsave [rdi]', set: { rdi: USER_DATA, rax: 1, rdx: 0 }, fault: [6] },
  { title: 'XSAVE under CR0.TS', section: AVX_STATE, world: 'u64', code: 'xsave [rdi]', set: { rdi: USER_DATA, rax: 1, rdx: 0, cr4: CR4_64 | OSXSAVE, cr0: CR0 | 8n }, fault: [7] },
  { title: 'XSAVE of a misaligned area', section: AVX_STATE, world: 'u64', code: 'xsave [rdi]', set: { rdi: USER_DATA + 32, rax: 1, rdx: 0, cr4: CR4_64 | OSXSAVE }, fault: [13, 0] },
  { title: 'XRSTOR of a component that XCR0 has not', section: AVX_STATE, world: 'u64', code: 'xrstor [rdi]', set: { rdi: USER_DATA, rax: 7, rdx: 0, cr4: CR4_64 | OSXSAVE, xcr0: 3 }, memory: [[USER_DATA + 512, 8, 4]], fault: [13, 0] },
]; // prettier-ignore

const BASES = 'vol. 2 RDFSBASE, WRFSBASE, SWAPGS';
const bases: readonly SystemCase[] = [
  { title: 'SWAPGS', section: BASES, world: 'k64', code: 'swapgs', set: { gsBase: 0x1000 }, want: { gsBase: 0xffff_8000_0000_1000n, kernelGsBase: 0x1000 } },
  { title: 'SWAPGS in ring 3', section: BASES, world: 'u64', code: 'swapgs', fault: [13, 0] },
  { title: 'SWAPGS outside 64-bit mode', section: BASES, world: 'k32', code: 'swapgs', fault: [6] },
  { title: 'RDFSBASE', section: BASES, world: 'u64', code: 'rdfsbase rax', set: { fsBase: HIGH }, want: { rax: HIGH } },
  { title: 'RDGSBASE of 32 bits', section: BASES, world: 'u64', code: 'rdgsbase eax', set: { gsBase: HIGH }, want: { rax: 0x1234_5678 } },
  { title: 'WRFSBASE', section: BASES, world: 'u64', code: 'wrfsbase rax', set: { rax: HIGH }, want: { fsBase: HIGH } },
  { title: 'WRGSBASE of 32 bits', section: BASES, world: 'u64', code: 'wrgsbase eax', set: { rax: HIGH }, want: { gsBase: 0x1234_5678 } },
  { title: 'WRGSBASE that is not canonical', section: BASES, world: 'u64', code: 'wrgsbase rax', set: { rax: BAD }, fault: [13, 0] },
  { title: 'WRFSBASE without CR4.FSGSBASE', section: BASES, world: 'u64', code: 'wrfsbase rax', set: { cr4: 0x6a0 }, fault: [6] },
  { title: 'RDFSBASE outside 64-bit mode', section: BASES, world: 'c32', code: 'db 0xf3, 0x0f, 0xae, 0xc0', fault: [6] },
]; // prettier-ignore

const FLAGS = 'vol. 2 CLI, STI, POPF, PUSHF';
const STACK = (world: 'k' | 'u'): number => (world === 'k' ? 0x3_0f00 : 0x7_0f00);
const flags: readonly SystemCase[] = [
  { title: 'CLI', section: FLAGS, world: 'k64', code: 'cli', want: { rflags: 2 } },
  { title: 'CLI in ring 3', section: FLAGS, world: 'u64', code: 'cli', fault: [13, 0] },
  { title: 'CLI with IOPL 3', section: FLAGS, world: 'u64', code: 'cli', set: { rflags: 0x3202 }, want: { rflags: 0x3002 } },
  { title: 'STI in ring 3', section: FLAGS, world: 'u32', code: 'sti', set: { rflags: 2 }, fault: [13, 0] },
  { title: 'STI with IOPL 3', section: FLAGS, world: 'u32', code: 'sti', set: { rflags: 0x3002 }, want: { rflags: 0x3202 } },
  { title: 'STI holds interrupts back for an instruction', section: FLAGS, world: 'k64', code: 'sti\nnop\nnop', set: { rflags: 2, interruptWindow: 1 }, exit: 'interruptWindow', want: { rflags: 0x202, rip: KERNEL_CODE + 2 } },
  { title: 'STI with IF set already holds nothing back', section: FLAGS, world: 'k64', code: 'sti\nnop', set: { interruptWindow: 1 }, exit: 'interruptWindow', want: { rip: KERNEL_CODE } },
  { title: 'MOV SS holds interrupts back for an instruction', section: 'vol. 3 6.8.3', world: 'k64', code: 'sti\nmov ss, ax\nnop\nnop', set: { interruptWindow: 1, rflags: 2, rax: 0x10 }, exit: 'interruptWindow', want: { rflags: 0x202, rip: KERNEL_CODE + 4 } },
  { title: 'POPF in ring 0', section: FLAGS, world: 'k64', code: 'popfq', memory: [[STACK('k'), 8, 0x24_7cd7]], want: { rsp: STACK('k') + 8, rflags: 0x24_7cd7 } },
  { title: 'POPF in ring 3 keeps IF and IOPL', section: FLAGS, world: 'u64', code: 'popfq', memory: [[STACK('u'), 8, 0x30c3]], want: { rsp: STACK('u') + 8, rflags: 0x2c3 } },
  { title: 'POPF in ring 3 with IOPL 3 changes IF', section: FLAGS, world: 'u64', code: 'popfq', set: { rflags: 0x3202 }, memory: [[STACK('u'), 8, 0x2]], want: { rsp: STACK('u') + 8, rflags: 0x3002 } },
  { title: 'POPF in ring 0 keeps VIF and VIP', section: FLAGS, world: 'k64', code: 'popfq', set: { rflags: 0x8_0202 }, memory: [[STACK('k'), 8, 0x10_0246]], want: { rsp: STACK('k') + 8, rflags: 0x8_0246 } },
  { title: 'POPF of 16 bits keeps the upper half', section: FLAGS, world: 'u64', code: 'db 0x66, 0x9d', set: { rflags: 0x4_0202 }, memory: [[STACK('u'), 8, 0x203]], want: { rsp: STACK('u') + 2, rflags: 0x4_0203 } },
  { title: 'POPF does not set VM', section: FLAGS, world: 'k64', code: 'popfq', memory: [[STACK('k'), 8, 0x3_0202]], want: { rsp: STACK('k') + 8, rflags: 0x202 } },
  { title: 'PUSHF leaves RF out', section: FLAGS, world: 'u64', code: 'pushfq', set: { rflags: 0x1_0a47 }, want: { rsp: STACK('u') - 8, rflags: 0xa47 }, wantMemory: [[STACK('u') - 8, 8, 0xa47]] },
  { title: 'PUSHF of 32 bits', section: FLAGS, world: 'u32', code: 'db 0x9c', set: { rflags: 0x3246 }, want: { rsp: STACK('u') - 4 }, wantMemory: [[STACK('u') - 4, 4, 0x3246]] },
  { title: 'STAC without SMAP', section: 'vol. 2 STAC', world: 'k64', code: 'stac', fault: [6] },
  { title: 'STAC in ring 3', section: 'vol. 2 STAC', world: 'u64', code: 'stac', set: { cr4: CR4_64 | (1n << 21n) }, fault: [6] },
]; // prettier-ignore

const HALT = 'vol. 2 HLT, INVLPG, WBINVD';
const rest: readonly SystemCase[] = [
  { title: 'HLT', section: HALT, world: 'k64', code: 'hlt', exit: 'halt' },
  { title: 'HLT in ring 3', section: HALT, world: 'u64', code: 'hlt', fault: [13, 0] },
  { title: 'HLT in ring 3 of a PV guest', section: HALT, world: 'u64', code: 'hlt', trapMode: 'monitor', fault: [13, 0] },
  { title: 'INVLPG', section: HALT, world: 'k64', code: `invlpg [${UNMAPPED}]` },
  { title: 'INVLPG in ring 3', section: HALT, world: 'u64', code: 'invlpg [rax]', fault: [13, 0] },
  { title: 'INVLPG of a register', section: HALT, world: 'k64', code: 'db 0x0f, 0x01, 0xfb', fault: [6] },
  { title: 'INVLPG of an address that is not canonical', section: HALT, world: 'k64', code: 'invlpg [rax]', set: { rax: BAD } },
  { title: 'WBINVD in ring 3', section: HALT, world: 'u64', code: 'wbinvd', fault: [13, 0] },
  { title: 'UD2', section: 'vol. 2 UD', world: 'u64', code: 'ud2', fault: [6] },
  { title: 'UD2 of a PV guest', section: 'vol. 2 UD', world: 'u64', code: 'ud2', trapMode: 'monitor', fault: [6] },
  { title: 'LOCK before an instruction that takes none', section: 'vol. 2 LOCK', world: 'u64', code: 'db 0xf0, 0x90', fault: [6] },
]; // prettier-ignore

const PORTS = 'vol. 1 19.5';
const ports: readonly SystemCase[] = [
  { title: 'OUT in ring 0', section: PORTS, world: 'k64', code: 'out dx, al', set: { rdx: 0x3f8 }, exit: 'io', details: { port: 0x3f8, size: 1 } },
  { title: 'IN of 32 bits in ring 0', section: PORTS, world: 'k64', code: 'in eax, dx', set: { rdx: 0xcfc }, exit: 'io', details: { port: 0xcfc, size: 4 } },
  { title: 'IN that the bitmap forbids', section: PORTS, world: 'u64', code: 'in al, 0x70', fault: [13, 0] },
  { title: 'IN that the bitmap allows', section: PORTS, world: 'u64', code: 'in al, 0x60', exit: 'io', details: { port: 0x60, size: 1 } },
  { title: 'IN across the last allowed port', section: PORTS, world: 'u64', code: 'in eax, dx', set: { rdx: 0x65 }, fault: [13, 0] },
  { title: 'IN with IOPL 3', section: PORTS, world: 'u64', code: 'in al, 0x70', set: { rflags: 0x3202 }, exit: 'io', details: { port: 0x70 } },
  { title: 'OUT with a TSS that has no bitmap', section: PORTS, world: 'u64', code: 'out 0x60, al', set: { ...SMALL_TSS }, fault: [13, 0] },
  { title: 'OUT that the bitmap allows, 32-bit TSS', section: PORTS, world: 'u32', code: 'db 0xe6, 0x60', exit: 'io', details: { port: 0x60, size: 1 } },
  { title: 'OUT that the bitmap forbids, 32-bit TSS', section: PORTS, world: 'u32', code: 'db 0xe6, 0x80', fault: [13, 0] },
  { title: 'bitmap address beyond the limit', section: PORTS, world: 'u64', code: 'in al, 0x60', memory: [[TSS64 + 0x66, 2, 0xffff]], fault: [13, 0] },
  { title: 'bitmap elsewhere in a 32-bit TSS', section: PORTS, world: 'u32', code: 'db 0xe4, 0x80', memory: [[TSS32 + 0x66, 2, 0x200], [TSS32 + 0x210, 1, 0]], exit: 'io', details: { port: 0x80 } },
  { title: 'IN of a PV guest', section: PORTS, world: 'u64', code: 'in al, 0x70', trapMode: 'monitor', fault: [13, 0] },
]; // prettier-ignore

const TRAPS = 'vol. 3 17.3';
const traps: readonly SystemCase[] = [
  { title: 'TF traps after the instruction', section: TRAPS, world: 'u64', code: 'nop\nnop', set: { rflags: 0x302 }, fault: [1], want: { rip: USER_CODE + 1, dr6: 0xffff_4ff0n } },
  { title: 'a fault goes before the trap of TF', section: TRAPS, world: 'u64', code: 'ud2', set: { rflags: 0x302 }, fault: [6] },
  { title: 'RF holds a breakpoint back for one instruction', section: TRAPS, world: 'k64', code: 'nop\nnop', set: { dr0: KERNEL_CODE, dr7: 0x401, rflags: 0x1_0202 }, want: { rflags: 0x202 }, interpreterOnly: 'breakpoints' },
  { title: 'a breakpoint on an instruction', section: TRAPS, world: 'k64', code: 'nop\nnop', set: { dr0: KERNEL_CODE + 1, dr7: 0x401 }, fault: [1], want: { rip: KERNEL_CODE + 1, dr6: 0xffff_0ff1n }, interpreterOnly: 'breakpoints' },
]; // prettier-ignore

export const controlCases: readonly SystemCase[] = [
  ...controlRegisters,
  ...machineStatus,
  ...debugRegisters,
  ...modelRegisters,
  ...bases,
  ...flags,
  ...rest,
  ...avx,
  ...ports,
  ...traps,
];
