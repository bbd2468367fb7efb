/** Traps, callbacks and iret of PV guests (`xen/include/public/{xen,callback}.h`, `arch-x86/xen-x86_64.h`, `nmi.h`, `physdev.h`). */
import { layout } from '@xenhost/base';

/** Flat selectors that Xen keeps in every GDT, 64-bit guests. */
export const FLAT_RING3_CS32 = 0xe023;
export const FLAT_RING3_CS64 = 0xe033;
export const FLAT_RING3_DS = 0xe02b;
/** First selector of Xen's own descriptors; guest entries end below. */
export const FIRST_RESERVED_GDT_BYTE = 0xe000;

/** One entry of set_trap_table. */
export const TrapInfo = layout('trap_info', { vector: 'u8', flags: 'u8', cs: 'u16', address: 'u64' });
/** trap_info.flags: DPL allowed to INT n, and "mask events on entry". */
export const TRAP_INFO_DPL = 3;
export const TRAP_INFO_MASK_EVENTS = 4;

/** What the iret hypercall finds at the stack pointer, 64-bit. */
export const IretContext = layout('iret_context', {
  rax: 'u64', r11: 'u64', rcx: 'u64', flags: 'u64', rip: 'u64', cs: 'u64', rflags: 'u64', rsp: 'u64', ss: 'u64',
}); // prettier-ignore

/** vcpu_guest_context.flags and iret_context.flags. */
export const VGCF = {
  I387_VALID: 1, IN_KERNEL: 4, failsafe_disables_events: 8, syscall_disables_events: 16, online: 32, in_syscall: 256,
} as const; // prettier-ignore

export const CALLBACKOP = { register: 0, unregister: 1 } as const;
export const CALLBACKTYPE = {
  event: 0, failsafe: 1, syscall: 2, sysenter_deprecated: 3, nmi: 4, sysenter: 5, syscall32: 7,
} as const; // prettier-ignore
export const CALLBACKF_mask_events = 1;
export const CallbackRegister = layout('callback_register', { type: 'u16', flags: 'u16', address: 'u64' });
export const CallbackUnregister = layout('callback_unregister', { type: 'u16', _unused: 'u16' });

export const SEGBASE = { FS: 0, GS_USER: 1, GS_KERNEL: 2, GS_USER_SEL: 3 } as const;

export const XENNMI = { register_callback: 0, unregister_callback: 1 } as const;
export const XennmiCallback = layout('xennmi_callback', { handler_address: 'u64', pad: 'u64' });

/** `ud2; .ascii "xen"`: the next instruction (cpuid) is emulated by Xen. */
export const FORCED_EMULATION_PREFIX: readonly number[] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];

export const VMASST = {
  FOUR_GB_SEGMENTS: 0, FOUR_GB_SEGMENTS_NOTIFY: 1, WRITABLE_PAGETABLES: 2, PAE_EXTENDED_CR3: 3, ARCHITECTURAL_IOPL: 4,
  RUNSTATE_UPDATE_FLAG: 5, M2P_STRICT: 32,
} as const; // prettier-ignore
