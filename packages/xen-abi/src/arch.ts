/** `vcpu_guest_context` and `cpu_user_regs` (`xen/include/public/arch-x86/xen-x86_64.h`). */
import { array, layout } from '@xenhost/base';

export const CpuUserRegs = layout('cpu_user_regs', {
  r15: 'u64', r14: 'u64', r13: 'u64', r12: 'u64', rbp: 'u64', rbx: 'u64', r11: 'u64', r10: 'u64', r9: 'u64', r8: 'u64',
  rax: 'u64', rcx: 'u64', rdx: 'u64', rsi: 'u64', rdi: 'u64', error_code: 'u32', entry_vector: 'u32', rip: 'u64',
  cs: 'u16', pad0: array('u16', 1), saved_upcall_mask: 'u8', pad1: array('u8', 3), rflags: 'u64', rsp: 'u64',
  ss: 'u16', pad2: array('u16', 3), es: 'u16', pad3: array('u16', 3), ds: 'u16', pad4: array('u16', 3),
  fs: 'u16', pad5: array('u16', 3), gs: 'u16', pad6: array('u16', 3),
}); // prettier-ignore

export const VcpuGuestContext = layout('vcpu_guest_context', {
  fpu_ctxt: array('u64', 64),
  flags: 'u64',
  user_regs: CpuUserRegs,
  trap_ctxt: array('u64', 512),
  ldt_base: 'u64',
  ldt_ents: 'u64',
  gdt_frames: array('u64', 16),
  gdt_ents: 'u64',
  kernel_ss: 'u64',
  kernel_sp: 'u64',
  ctrlreg: array('u64', 8),
  debugreg: array('u64', 8),
  event_callback_eip: 'u64',
  failsafe_callback_eip: 'u64',
  syscall_callback_eip: 'u64',
  vm_assist: 'u64',
  fs_base: 'u64',
  gs_base_kernel: 'u64',
  gs_base_user: 'u64',
});
