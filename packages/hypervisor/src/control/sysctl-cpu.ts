/** Sysctls about the processors and what hangs on them (`xen/arch/x86/sysctl.c`, `xen/common/sysctl.c`). */
import { Errno } from '@xenhost/base';
import {
  CpuFeatureset, SysctlCpuFeatureset, SysctlCpuLevellingCaps, SysctlPcitopoinfo, XEN_INVALID_DEV,
} from '@xenhost/xen-abi'; // prettier-ignore
import { DEFAULT_PV_FEATURESET, HOST_FEATURESET } from './cpu-policy.ts';
import type { SysctlContext, SysctlResult } from './sysctl.ts';

/** Devices looked up in one call; the caller comes again with the rest. */
const MAX_DEVICES_PER_CALL = 64;
const PCI_DEVICE_BYTES = 4;
const NODE_BYTES = 4;
/** What a guest can have is what the emulated processors have; there are no HVM guests. */
const FEATURESETS: readonly number[] = [CpuFeatureset.raw, CpuFeatureset.host, CpuFeatureset.pv, CpuFeatureset.pv_max];

export const CPU_HANDLERS = {
  get_cpu_featureset: ({ request }) => {
    const u = request.u(SysctlCpuFeatureset);
    const all = HOST_FEATURESET.length;
    if (u.features === 0n) {
      u.nr_features = all;
      return 'copyBack';
    }
    if (u.index > CpuFeatureset.hvm_max) return -Errno.EINVAL;
    if (!FEATURESETS.includes(u.index)) return -Errno.EOPNOTSUPP;
    const featureset = u.index === CpuFeatureset.pv ? DEFAULT_PV_FEATURESET : HOST_FEATURESET;
    const words = Uint32Array.from(featureset.slice(0, Math.min(u.nr_features, all)));
    if (words.length > 0 && !request.memory.write(u.features, new Uint8Array(words.buffer))) return -Errno.EFAULT;
    u.nr_features = words.length;
    if (words.length === all) return 'copyBack';
    return request.copyBack() ? -Errno.ENOBUFS : -Errno.EFAULT;
  },

  /** Every domain has its own CPUID: nothing needs to be levelled by the host. */
  get_cpu_levelling_caps: ({ request }) => {
    request.u(SysctlCpuLevellingCaps).caps = 0;
    return 'copyBack';
  },

  /** There is no PCI here: no device is known. */
  pcitopoinfo: ({ request }) => {
    const u = request.u(SysctlPcitopoinfo);
    if (u.devs === 0n || u.nodes === 0n) return -Errno.EINVAL;
    const count = Math.min(u.num_devs, MAX_DEVICES_PER_CALL);
    const nodes = new Uint32Array(count).fill(XEN_INVALID_DEV);
    const told =
      count === 0 ||
      (request.memory.read(u.devs, count * PCI_DEVICE_BYTES) !== undefined &&
        request.memory.write(u.nodes, new Uint8Array(nodes.buffer, 0, count * NODE_BYTES)));
    if (!told) return -Errno.EFAULT;
    u.num_devs = count;
    return 'copyBack';
  },
} satisfies Record<string, (context: SysctlContext) => SysctlResult>;
