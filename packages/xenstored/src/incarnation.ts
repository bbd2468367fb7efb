/** Which hypervisor this is: domain numbers of one mean nothing to the next, and neither does a journal that names them. */
import { readFileSync, statSync } from 'node:fs';

/** Changes with each start of the hypervisor behind this socket, which makes the socket anew; without one, with each boot of the machine. */
export function incarnationOf(privcmdSocket: string | undefined): string {
  if (privcmdSocket === undefined) return `machine ${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}`;
  const { dev, ino, mtimeNs } = statSync(privcmdSocket, { bigint: true });
  return `hypervisor ${dev}:${ino}:${mtimeNs}`;
}
