/**
 * Memory of the hypervisor process beside what its guests use: with one Linux guest booted and benched, and for each further small
 * guest. Pages of machine memory that no domain owns (frame table, M2P, Xen's heap) count as the hypervisor's, touched or not.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { consoleShell, consoleShellPrompt } from '@xenhost/guest-kernels';
import { openXenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { TestHost } from '@xenhost/testkit';
import { readState } from '@xenhost/xenhost';
import { print } from '../lib/figures.ts';
import { benchGuest } from './guests.ts';
import { groups, lineCommand } from './lines.ts';
import { createGuest } from './machines.ts';
import type { RatesOptions } from './rates.ts';

const HOST_MEMORY_MIB = 1024;
const PAGE_KIB = 4;
const KIB_PER_MB = 1e6 / 1024;
const SMALL_GUESTS = 4;
const SMALL_MEMORY_MIB = 16;
const LINE_TIMEOUT_MS = 300_000;
const PROMPT_TIMEOUT_MS = 30_000;
/** Garbage of a start is collected meanwhile. */
const SETTLE_MS = 3000;

interface Mapping {
  readonly sizeKib: number;
  readonly rssKib: number;
}

/** The mappings of a process, from /proc/PID/smaps. */
function mappings(pid: number): Mapping[] {
  const text = readFileSync(`/proc/${pid}/smaps`, 'utf8');
  return [...text.matchAll(/^Size:\s+(\d+) kB[\s\S]*?^Rss:\s+(\d+) kB/gm)].map((match) => ({
    sizeKib: Number(match[1]),
    rssKib: Number(match[2]),
  }));
}

export interface HypervisorMemory {
  readonly rssMb: number;
  /** Resident pages of the domains. */
  readonly guestMb: number;
  readonly besideGuestsMb: number;
}

/** Reads the memory of a host's hypervisor process now. */
export async function hypervisorMemory(host: TestHost, hostMemoryMib: number): Promise<HypervisorMemory> {
  const pid = readState(host.host.paths.run)?.daemons.find(({ name }) => name === 'hypervisor')?.pid;
  if (pid === undefined) throw new Error('no hypervisor process');
  const xc = openXenctrl(await connectPrivcmd(host.host.paths.privcmd));
  try {
    const { totalPages, freePages } = await xc.physinfo();
    const owned = (await xc.domainGetinfolist()).reduce((sum, { nrPages }) => sum + nrPages, 0);
    const all = mappings(pid);
    const machine = all.find(({ sizeKib }) => sizeKib === hostMemoryMib * 1024);
    if (!machine) throw new Error('machine memory is not found among the mappings of the hypervisor');
    const rssKib = all.reduce((sum, mapping) => sum + mapping.rssKib, 0);
    const xenKib = (totalPages - freePages - owned) * PAGE_KIB;
    const guestKib = Math.max(0, machine.rssKib - xenKib);
    return {
      rssMb: rssKib / KIB_PER_MB,
      guestMb: guestKib / KIB_PER_MB,
      besideGuestsMb: (rssKib - guestKib) / KIB_PER_MB,
    };
  } finally {
    await xc.close();
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

/** Resolves to the number of figures that failed. */
export async function memory({ tools, jit }: RatesOptions): Promise<number> {
  const { kernel, ramdisk } = await benchGuest('cloud', tools);
  const host = await TestHost.start({ jit, memoryMiB: HOST_MEMORY_MIB });
  const show = async (name: string): Promise<number> => {
    await settle();
    const { rssMb, guestMb, besideGuestsMb } = await hypervisorMemory(host, HOST_MEMORY_MIB);
    print({ name, unit: 'MB', ours: besideGuestsMb, rss: rssMb, guest: guestMb });
    return besideGuestsMb;
  };
  try {
    await show('memory-no-guest');
    const console = await createGuest(host, 'linux', { kernel, ramdisk });
    const booted = await show('memory-linux-booted');
    const small = join(host.directory, 'console-shell.elf');
    writeFileSync(small, consoleShell());
    for (let i = 0; i < SMALL_GUESTS; i++) {
      const name = `small${i}`;
      await host.mustXm('create', '-q', host.config(name, { kernel: small, memory: SMALL_MEMORY_MIB }));
      await host.console(name).expect(consoleShellPrompt, PROMPT_TIMEOUT_MS);
    }
    const more = await show(`memory-${SMALL_GUESTS}-small-guests-more`);
    print({ name: 'memory-each-further-small-guest', unit: 'MB', ours: (more - booted) / SMALL_GUESTS });
    for (const line of [...groups.computation, ...groups.system])
      await console.command(lineCommand(line, 10), LINE_TIMEOUT_MS);
    await show('memory-linux-after-the-bench');
  } finally {
    await host.stop();
  }
  return 0;
}
