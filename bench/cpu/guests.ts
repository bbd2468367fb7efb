/** What the machines boot: Debian's kernels and an initramfs with the bench guest, fetched and built in .cache. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { benchFiles } from '@xenhost/testkit';
import { fetchGuest, type FetchedGuest } from '@xenhost/xenhost';

export type Flavour = 'cloud' | 'amd64' | '686-pae';

export const CACHE = resolve('.cache/bench-guest');

/** The guest's memory and what every boot is told besides its console. */
export const MEMORY_MIB = 256;
export const QUICK_BOOT = 'cryptomgr.notests nomods quiet';

export interface BenchGuest extends FetchedGuest {
  /** The compiled program of benchmarks, and the script that runs one line. */
  readonly gbench: Uint8Array;
  readonly line: Uint8Array;
}

/** `tools`: folder with the sources of gbench. With modules: all that the kernel's devices may ask for. */
export async function benchGuest(flavour: Flavour, tools: string, withModules = false): Promise<BenchGuest> {
  const files = await benchFiles(tools, flavour === '686-pae' ? 32 : 64);
  const gbench = files.find(({ path }) => path === 'bin/gbench')?.data;
  if (!gbench)
    throw new Error(`no bench guest: ${tools} (--tools) has no gbench.c, or there is no gcc on this machine`);
  const line = readFileSync(new URL('guest-line.sh', import.meta.url));
  const say = (text: string): void => void process.stderr.write(`${flavour}: ${text}\n`);
  const extra = [...files, { path: 'line', data: line, mode: 0o755 }];
  const directory = withModules ? `${CACHE}/with-modules` : CACHE;
  return { ...(await fetchGuest(directory, flavour, withModules, say, extra)), gbench, line };
}
