/** What a stand-in for the hypervisor has to know of hypercalls below xenstored: which domains live. */
import { Errno, bytesOf } from '@xenhost/base';
import { DomctlGetdomaininfo, Dominf, Hypercall, SYSCTL_U, Sysctl, SysctlGetdomaininfolist, XenSysctl } from '@xenhost/xen-abi'; // prettier-ignore
import type { Arena } from '../server.ts';

/** Answers sysctl getdomaininfolist with these domains, all running, in order of their ids; -ENOSYS to everything else. */
export function answerDomainList(
  op: number,
  args: readonly bigint[],
  { memory, domids }: { readonly memory: Arena; readonly domids: readonly number[] },
): number {
  const address = args[0] ?? 0n;
  const bytes = memory.read(address, XenSysctl.size);
  if (op !== Hypercall.sysctl || !bytes) return -Errno.ENOSYS;
  if (XenSysctl.view(bytesOf(bytes), 0).cmd !== Sysctl.getdomaininfolist) return -Errno.ENOSYS;
  const list = SysctlGetdomaininfolist.view(bytesOf(bytes), SYSCTL_U);
  const living = domids.filter((domid) => domid >= list.first_domain).slice(0, list.max_domains);
  for (const [i, domid] of living.entries()) {
    const { bytes: info } = DomctlGetdomaininfo.create({ domain: domid, flags: Dominf.running });
    if (!memory.write(list.buffer + BigInt(i * DomctlGetdomaininfo.size), info)) return -Errno.EFAULT;
  }
  list.num_domains = living.length;
  return memory.write(address, bytes) ? 0 : -Errno.EFAULT;
}
