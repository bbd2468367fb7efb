import { SharedInfo, StartInfo, VcpuGuestContext, VcpuInfo, VcpuTimeInfo, CpuUserRegs } from './index.ts';
import {
  SchedPoll,
  SchedRemoteShutdown,
  VcpuRegisterVcpuInfo,
  VcpuRunstateInfo,
  VcpuSetSingleshotTimer,
} from './index.ts';
import type { Fields, Layout } from '@xenhost/base';

/** Sizes and offsets printed by a program compiled against libxen-dev 4.17. */
const table: [Layout<Fields>, number, Record<string, number>][] = [
  [StartInfo, 1168, {
    nr_pages: 32, shared_info: 40, flags: 48, store_mfn: 56, store_evtchn: 64, console_mfn: 72, console_evtchn: 80,
    pt_base: 88, nr_pt_frames: 96, mfn_list: 104, mod_start: 112, mod_len: 120, cmd_line: 128, first_p2m_pfn: 1152,
    nr_p2m_frames: 1160,
  }],
  [SharedInfo, 3136, {
    evtchn_pending: 2048, evtchn_mask: 2560, wc_version: 3072, wc_sec: 3076, wc_nsec: 3080, wc_sec_hi: 3084, arch: 3088,
  }],
  [VcpuInfo, 64, { evtchn_upcall_mask: 1, evtchn_pending_sel: 8, arch: 16, time: 32 }],
  [VcpuTimeInfo, 32, {
    tsc_timestamp: 8, system_time: 16, tsc_to_system_mul: 24, tsc_shift: 28, flags: 29,
  }],
  [VcpuGuestContext, 5168, {
    flags: 512, user_regs: 520, trap_ctxt: 720, ldt_base: 4816, ldt_ents: 4824, gdt_frames: 4832, gdt_ents: 4960,
    kernel_ss: 4968, kernel_sp: 4976, ctrlreg: 4984, debugreg: 5048, event_callback_eip: 5112,
    failsafe_callback_eip: 5120, syscall_callback_eip: 5128, vm_assist: 5136, fs_base: 5144, gs_base_kernel: 5152,
    gs_base_user: 5160,
  }],
  [CpuUserRegs, 200, {
    r11: 48, rax: 80, rcx: 88, error_code: 120, entry_vector: 124, rip: 128, cs: 136, saved_upcall_mask: 140,
    rflags: 144, rsp: 152, ss: 160, es: 168, ds: 176, fs: 184, gs: 192,
  }],
  [SchedPoll, 24, { nr_ports: 8, timeout: 16 }],
  [SchedRemoteShutdown, 8, { reason: 4 }],
  [VcpuRegisterVcpuInfo, 16, { offset: 8 }],
  [VcpuRunstateInfo, 48, { state_entry_time: 8, time: 16 }],
  [VcpuSetSingleshotTimer, 16, { flags: 8 }],
]; // prettier-ignore

describe('guest ABI structures', () => {
  test.each(table.map(([l, size, offsets]) => [l.name, l, size, offsets] as const))('%s', (_name, l, size, offsets) => {
    expect(l.size).toBe(size);
    for (const [field, offset] of Object.entries(offsets)) expect([field, l.offsets[field]]).toEqual([field, offset]);
  });
});
