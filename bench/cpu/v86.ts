/**
 * npm's v86, the other PC emulator that compiles to WebAssembly: fetched at run time, never a dependency. It is 32-bit only
 * and runs Debian's 686-pae kernel on the BIOS of Debian's seabios package.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ConsoleSession } from '@xenhost/testkit';
import { AptCache } from '@xenhost/xenhost';
import { CACHE, MEMORY_MIB, QUICK_BOOT, type BenchGuest } from './guests.ts';

const VERSION = '0.5.462';
const SYSTEM_BIOS = '/usr/share/seabios';

const run = promisify(execFile);

/** The folder of the unpacked package. */
async function fetchV86(): Promise<string> {
  const folder = resolve(`.cache/v86-${VERSION}`);
  const unpacked = join(folder, 'package');
  if (existsSync(join(unpacked, 'build', 'v86.wasm'))) return unpacked;
  await mkdir(folder, { recursive: true });
  process.stderr.write(`v86: fetching ${VERSION} from npm\n`);
  await run('npm', ['pack', `v86@${VERSION}`], { cwd: folder });
  await run('tar', ['-xzf', `v86-${VERSION}.tgz`], { cwd: folder });
  return unpacked;
}

/** The folder of bios.bin and vgabios-stdvga.bin. */
async function fetchBios(): Promise<string> {
  if (existsSync(join(SYSTEM_BIOS, 'bios.bin'))) return SYSTEM_BIOS;
  const folder = join(CACHE, '.packages', 'seabios');
  const bios = join(folder, SYSTEM_BIOS);
  if (!existsSync(join(bios, 'bios.bin'))) {
    const cache = new AptCache(join(CACHE, '.packages'));
    await cache.unpack(await cache.download('seabios'), folder);
  }
  return bios;
}

/** Starts a machine; its serial console is the process's standard input and output. */
export async function startV86(guest: BenchGuest): Promise<ConsoleSession> {
  const { kernel, ramdisk } = guest;
  const main = fileURLToPath(new URL('v86-machine.ts', import.meta.url));
  const args = [
    await fetchV86(),
    await fetchBios(),
    kernel,
    ramdisk,
    String(MEMORY_MIB),
    `console=ttyS0 ${QUICK_BOOT}`,
  ];
  return new ConsoleSession(spawn(process.execPath, [main, ...args], { stdio: 'pipe' }));
}
