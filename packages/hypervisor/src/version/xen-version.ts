/** xen_version (17): what a guest learns about its hypervisor. `xen/include/public/version.h`, `features.h`. */
import { Errno } from '@xenhost/base';
import { PAGE_SIZE, VMASST, XenBuildId, XenFeature, XenFeatureInfo, XenVer, XenVerSize } from '@xenhost/xen-abi';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import { DomainFlag, DomainLayout } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import {
  XEN_BUILD_ID,
  XEN_CAPABILITIES,
  XEN_CHANGESET,
  XEN_COMPILE_BY,
  XEN_COMPILE_DATE,
  XEN_COMPILE_DOMAIN,
  XEN_COMPILER,
  XEN_EXTRAVERSION,
  XEN_MAJOR,
  XEN_MINOR,
  XEN_VIRT_START,
} from './identity.ts';

export interface VersionOptions {
  readonly commandLine: string;
}

const bit = (feature: number): number => (1 << feature) >>> 0;

export class XenVersion {
  readonly #memory: MachineMemory;
  readonly #commandLine: string;

  constructor(options: VersionOptions, memory: MachineMemory) {
    this.#memory = memory;
    this.#commandLine = options.commandLine;
  }

  readonly hypercall = (call: HypercallCall): HypercallResult => {
    const cmd = Number(BigInt.asUintN(32, call.args[0] ?? 0n));
    const buffer = call.args[1] ?? 0n;
    const put = (bytes: Uint8Array, result: number): HypercallResult =>
      call.memory.write(buffer, bytes) ? result : -Errno.EFAULT;
    switch (cmd) {
      case XenVer.version:
        return (XEN_MAJOR << 16) | XEN_MINOR;
      case XenVer.extraversion:
        return put(text(XEN_EXTRAVERSION, XenVerSize.extraversion), 0);
      case XenVer.compile_info:
        return put(compileInfo(), 0);
      case XenVer.capabilities:
        return put(text(XEN_CAPABILITIES, XenVerSize.capabilities), 0);
      case XenVer.changeset:
        return put(text(XEN_CHANGESET, XenVerSize.changeset), 0);
      case XenVer.platform_parameters:
        return put(u64(XEN_VIRT_START), 0);
      case XenVer.get_features:
        return this.#features(call, buffer);
      case XenVer.pagesize:
        return buffer === 0n ? PAGE_SIZE : -Errno.EINVAL;
      case XenVer.guest_handle:
        return put(this.#handle(call.domain), 0);
      case XenVer.commandline:
        return put(text(this.#commandLine, XenVerSize.commandline), 0);
      case XenVer.build_id:
        return buildId(call, buffer);
      default:
        return -Errno.ENOSYS;
    }
  };

  #handle(domain: DomainRef): Uint8Array {
    const at = domain.address + DomainLayout.offsets.uuid;
    return this.#memory.u8.slice(at, at + XenVerSize.guestHandle);
  }

  #features(call: HypercallCall, buffer: bigint): HypercallResult {
    const asked = call.memory.read(buffer, XenFeatureInfo.size);
    if (!asked) return -Errno.EFAULT;
    const info = XenFeatureInfo.view({ u8: asked, dv: new DataView(asked.buffer, asked.byteOffset) }, 0);
    if (info.submap_idx !== 0) return -Errno.EINVAL;
    info.submap = featureMap(call.domain);
    return call.memory.write(buffer, asked) ? 0 : -Errno.EFAULT;
  }
}

/** Submap 0 for a domain. */
function featureMap(domain: DomainRef): number {
  const { flags, vmAssist } = domain.v;
  let map =
    bit(XenFeature.mmu_pt_update_preserve_ad) |
    bit(XenFeature.highmem_assist) |
    bit(XenFeature.gnttab_map_avail_bits) |
    bit(XenFeature.memory_op_vnode_supported) |
    bit(XenFeature.direct_mapped);
  if ((vmAssist >>> VMASST.PAE_EXTENDED_CR3) & 1) map |= bit(XenFeature.pae_pgdir_above_4gb);
  if (flags & DomainFlag.privileged) map |= bit(XenFeature.dom0);
  return map >>> 0;
}

/** A field of fixed size; what follows the text is zero. */
function text(value: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(new TextEncoder().encode(value).subarray(0, size - 1));
  return bytes;
}

function compileInfo(): Uint8Array {
  const bytes = new Uint8Array(XenVerSize.compileInfo);
  let at = 0;
  for (const [value, size] of [
    [XEN_COMPILER, XenVerSize.compiler],
    [XEN_COMPILE_BY, XenVerSize.compileBy],
    [XEN_COMPILE_DOMAIN, XenVerSize.compileDomain],
    [XEN_COMPILE_DATE, XenVerSize.compileDate],
  ] as const) {
    bytes.set(text(value, size), at);
    at += size;
  }
  return bytes;
}

function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

/** With no buffer, the length; else the id, which must fit the length that the caller wrote there. */
function buildId(call: HypercallCall, buffer: bigint): HypercallResult {
  if (buffer === 0n) return XEN_BUILD_ID.length;
  const head = call.memory.read(buffer, XenBuildId.size);
  if (!head) return -Errno.EFAULT;
  const room = new DataView(head.buffer, head.byteOffset).getUint32(0, true);
  if (room === 0) return -Errno.EINVAL;
  if (room < XEN_BUILD_ID.length) return -Errno.ENOBUFS;
  return call.memory.write(buffer + BigInt(XenBuildId.size), XEN_BUILD_ID) ? XEN_BUILD_ID.length : -Errno.EFAULT;
}
