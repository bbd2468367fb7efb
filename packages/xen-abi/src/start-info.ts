/** `start_info`, its flags (`xen/include/public/xen.h`), x86-64. */
import { array, layout } from '@xenhost/base';

export const StartInfo = layout('start_info', {
  magic: array('u8', 32),
  nr_pages: 'u64',
  shared_info: 'u64',
  flags: 'u32',
  store_mfn: 'u64',
  store_evtchn: 'u32',
  console_mfn: 'u64',
  console_evtchn: 'u32',
  pt_base: 'u64',
  nr_pt_frames: 'u64',
  mfn_list: 'u64',
  mod_start: 'u64',
  mod_len: 'u64',
  cmd_line: array('u8', 1024),
  first_p2m_pfn: 'u64',
  nr_p2m_frames: 'u64',
});
export const MAX_GUEST_CMDLINE = 1024;
/** SIF_* */
export const Sif = { PRIVILEGED: 1, INITDOMAIN: 2, MULTIBOOT_MOD: 4, MOD_START_PFN: 8, VIRT_P2M_4TOOLS: 16 } as const;
