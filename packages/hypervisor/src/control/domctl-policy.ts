/** Domctls about the CPUID and MSR policy of a domain. */
import { bytesOf, Errno } from '@xenhost/base';
import { DomctlCpuPolicy, XEN_CPUID_NO_SUBLEAF, XenCpuidLeaf } from '@xenhost/xen-abi';
import type { PolicyLeaf } from './cpu-policy.ts';
import { MAX_POLICY_LEAVES } from './cpu-policy.ts';
import type { DomctlHandler } from './domctl.ts';

export const POLICY_COMMANDS = {
  /** With null handles: how many leaves and MSRs there are. */
  get_cpu_policy: ({ m, request, domain }) => {
    const u = request.u(DomctlCpuPolicy);
    const leaves = m.policies.leaves(domain);
    const written = writeLeaves(request.memory, leaves, u.leaves, u.nr_leaves);
    if (written < 0) return written;
    u.nr_leaves = leaves.length;
    u.nr_msrs = 0;
    return 'copyBack';
  },

  /** Before the domain has run. What this processor cannot do is left out without a word, as a guest sees it cleared. */
  set_cpu_policy: ({ m, request, domain }) => {
    const u = request.u(DomctlCpuPolicy);
    if (u.nr_leaves > MAX_POLICY_LEAVES) return -Errno.E2BIG;
    if (m.lifecycle.vcpus(domain).some((vcpu) => vcpu.v.schedules > 0)) return -Errno.EBUSY;
    const raw = request.memory.read(u.leaves, u.nr_leaves * XenCpuidLeaf.size);
    if (!raw) return -Errno.EFAULT;
    const bytes = bytesOf(raw);
    const leaves = Array.from({ length: u.nr_leaves }, (_, i): PolicyLeaf => {
      const l = XenCpuidLeaf.view(bytes, i * XenCpuidLeaf.size);
      return { leaf: l.leaf, subleaf: l.subleaf, eax: l.a, ebx: l.b, ecx: l.c, edx: l.d };
    });
    if (domain.v.cpuidPolicyMfn === 0) {
      const frame = m.memory.allocateXenFrame();
      if (frame === undefined) return -Errno.ENOMEM;
      domain.v.cpuidPolicyMfn = frame;
    }
    u.err_leaf = XEN_CPUID_NO_SUBLEAF;
    u.err_subleaf = XEN_CPUID_NO_SUBLEAF;
    u.err_msr = XEN_CPUID_NO_SUBLEAF;
    if (!m.policies.override(domain, leaves)) return -Errno.E2BIG;
    return 'copyBack';
  },
} satisfies Record<string, DomctlHandler>;

/** 0, or -errno; -ENOBUFS when there is no room for all. */
function writeLeaves(
  memory: { write(address: bigint, bytes: Uint8Array): boolean },
  leaves: readonly PolicyLeaf[],
  at: bigint,
  room: number,
): number {
  if (at === 0n) return 0;
  if (room < leaves.length) return -Errno.ENOBUFS;
  const bytes = new Uint8Array(leaves.length * XenCpuidLeaf.size);
  leaves.forEach((l, i) =>
    Object.assign(XenCpuidLeaf.view(bytesOf(bytes), i * XenCpuidLeaf.size), {
      leaf: l.leaf, subleaf: l.subleaf, a: l.eax, b: l.ebx, c: l.ecx, d: l.edx,
    }),
  ); // prettier-ignore
  return memory.write(at, bytes) ? 0 : -Errno.EFAULT;
}
