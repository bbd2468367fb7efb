/**
 * Memory of the hypervisor process beside what its guests use: with one Linux guest booted and benched, and for each further small
 * guest.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { consoleShell, consoleShellPrompt } from '@xenhost/guest-kernels';
import { hypervisorMemory, TestHost } from '@xenhost/testkit';
import { print } from '../lib/figures.ts';
import { benchGuest } from './guests.ts';
import { groups, lineCommand } from './lines.ts';
import { createGuest } from './machines.ts';
import type { RatesOptions } from './rates.ts';

const HOST_MEMORY_MIB = 1024;
const SMALL_GUESTS = 4;
const SMALL_MEMORY_MIB = 16;
const LINE_TIMEOUT_MS = 300_000;
const PROMPT_TIMEOUT_MS = 30_000;
/** Garbage of a start is collected meanwhile. */
const SETTLE_MS = 3000;

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

/** Resolves to the number of figures that failed. */
export async function memory({ tools, jit }: RatesOptions): Promise<number> {
  const { kernel, ramdisk } = await benchGuest('cloud', tools);
  const host = await TestHost.start({ jit, memoryMiB: HOST_MEMORY_MIB });
  const show = async (name: string): Promise<number> => {
    await settle();
    const { rssMb, guestMb, besideGuestsMb, shareBesideGuestsMb: share } = await hypervisorMemory(host);
    print({ name, unit: 'MB', ours: besideGuestsMb, share, rss: rssMb, guest: guestMb });
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
