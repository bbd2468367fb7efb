/**
 * Memory of a host's hypervisor process, and what of it the domains use. Pages of machine memory that no domain owns (frame
 * table, M2P, Xen's heap) count as the hypervisor's, touched or not.
 */
import { readFileSync } from 'node:fs';
import { openXenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { readState } from '@xenhost/xenhost';
import type { TestHost } from './test-host.ts';

const PAGE_KIB = 4;
const KIB_PER_MB = 1e6 / 1024;

interface Mapping {
  readonly sizeKib: number;
  readonly rssKib: number;
  /** Pages that several processes share count in part. */
  readonly pssKib: number;
}

/** The mappings of a process, from /proc/PID/smaps. */
function mappings(pid: number): Mapping[] {
  const text = readFileSync(`/proc/${pid}/smaps`, 'utf8');
  return [...text.matchAll(/^Size:\s+(\d+) kB[\s\S]*?^Rss:\s+(\d+) kB\nPss:\s+(\d+) kB/gm)].map((match) => ({
    sizeKib: Number(match[1]),
    rssKib: Number(match[2]),
    pssKib: Number(match[3]),
  }));
}

export interface HypervisorMemory {
  readonly rssMb: number;
  /** Resident pages of the domains. */
  readonly guestMb: number;
  readonly besideGuestsMb: number;
  /** The same with what all processes of the host share, Node's own code above all, counted in part. */
  readonly shareBesideGuestsMb: number;
}

/** Reads the memory of a host's hypervisor process now. */
export async function hypervisorMemory(host: TestHost): Promise<HypervisorMemory> {
  const pid = readState(host.host.paths.run)?.daemons.find(({ name }) => name === 'hypervisor')?.pid;
  if (pid === undefined) throw new Error('no hypervisor process');
  const xc = openXenctrl(await connectPrivcmd(host.host.paths.privcmd));
  try {
    const { totalPages, freePages } = await xc.physinfo();
    const owned = (await xc.domainGetinfolist()).reduce((sum, { nrPages }) => sum + nrPages, 0);
    const all = mappings(pid);
    const machine = all.find(({ sizeKib }) => sizeKib === host.host.options.memoryMiB * 1024);
    if (!machine) throw new Error('machine memory is not found among the mappings of the hypervisor');
    const rssKib = all.reduce((sum, mapping) => sum + mapping.rssKib, 0);
    const pssKib = all.reduce((sum, mapping) => sum + mapping.pssKib, 0);
    const xenKib = (totalPages - freePages - owned) * PAGE_KIB;
    const guestKib = Math.max(0, machine.rssKib - xenKib);
    return {
      rssMb: rssKib / KIB_PER_MB,
      guestMb: guestKib / KIB_PER_MB,
      besideGuestsMb: (rssKib - guestKib) / KIB_PER_MB,
      shareBesideGuestsMb: (pssKib - guestKib) / KIB_PER_MB,
    };
  } finally {
    await xc.close();
  }
}
