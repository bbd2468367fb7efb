/** `xen_version` and its features (`xen/include/public/version.h`, `features.h`), x86-64. */
import { layout } from '@xenhost/base';

export const XenVer = {
  version: 0, extraversion: 1, compile_info: 2, capabilities: 3, changeset: 4, platform_parameters: 5, get_features: 6,
  pagesize: 7, guest_handle: 8, commandline: 9, build_id: 10,
} as const; // prettier-ignore

/** Sizes of the text replies in bytes; what follows the NUL is zero. */
export const XenVerSize = {
  extraversion: 16, compiler: 64, compileBy: 16, compileDomain: 32, compileDate: 32, compileInfo: 144,
  capabilities: 1024, changeset: 64, guestHandle: 16, commandline: 1024,
} as const; // prettier-ignore

/** Bits of submap 0 (XENFEAT_*). */
export const XenFeature = {
  writable_page_tables: 0, writable_descriptor_tables: 1, auto_translated_physmap: 2, supervisor_mode_kernel: 3,
  pae_pgdir_above_4gb: 4, mmu_pt_update_preserve_ad: 5, highmem_assist: 6, gnttab_map_avail_bits: 7,
  hvm_callback_vector: 8, hvm_safe_pvclock: 9, hvm_pirqs: 10, dom0: 11, memory_op_vnode_supported: 13,
  ARM_SMCCC_supported: 14, linux_rsdp_unrestricted: 15, not_direct_mapped: 16, direct_mapped: 17,
} as const; // prettier-ignore

export const XenFeatureInfo = layout('xen_feature_info', { submap_idx: 'u32', submap: 'u32' });
export const XenBuildId = layout('xen_build_id', { len: 'u32' });
