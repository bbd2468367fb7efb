/**
 * Debian's guest for work on devices: its kernel, busybox, the modules of Xen's devices and of virtio's, Debian's mke2fs and
 * e2fsck with their libraries, and `gio` (guest/gio.c), where gcc is on the machine. Fetched and built in .cache.
 */
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { AptCache, fetchGuest, type FetchedGuest } from '@xenhost/xenhost';
import type { GuestFile } from './bench-guest.ts';
import type { ConsoleSession } from './console-session.ts';
import type { TestHost } from './test-host.ts';

export interface DeviceGuest extends FetchedGuest {
  /** The compiled gio, which also runs on this machine; undefined without gcc. */
  readonly gio: string | undefined;
}

const PACKAGES = ['e2fsprogs', 'libext2fs2', 'libcom-err2', 'libblkid1', 'libuuid1', 'libc6'];
const TOOLS = ['mke2fs', 'e2fsck'];
/** What they are linked with (the interpreter is one of them). */
const LIBRARIES = ['libext2fs.so.2', 'libcom_err.so.2', 'libblkid.so.1', 'libuuid.so.1', 'libe2p.so.2', 'libc.so.6'];
const INTERPRETER = 'ld-linux-x86-64.so.2';
const GCC_FLAGS = ['-O2', '-static'];

/** `more`: further files of the initramfs. `say` is told what is fetched. */
export async function deviceGuest(
  say: (line: string) => void = () => undefined,
  { directory = '.cache/device-guest', more = [] }: { directory?: string; more?: readonly GuestFile[] } = {},
): Promise<DeviceGuest> {
  const cache = resolve(directory);
  const gio = await compileGio(cache);
  const files: GuestFile[] = [...(await e2fsprogs(join(cache, '.packages'), say)), ...more];
  if (gio !== undefined) files.push({ path: 'bin/gio', data: readFileSync(gio), mode: 0o755 });
  return { ...(await fetchGuest(cache, 'cloud', true, say, files)), gio };
}

const READY = /GUEST-READY.*/;
const BOOT_TIMEOUT_MS = 300_000;
const MEMORY_MIB = 256;

export interface DeviceGuestOptions {
  /** As in a config file. */
  readonly disk?: readonly string[];
  readonly vif?: readonly string[];
  readonly memoryMiB?: number;
  readonly vcpus?: number;
}

/** `xm create` of the guest on a host that runs; resolves to the shell on its console. */
export async function startDeviceGuest(
  host: TestHost,
  guest: DeviceGuest,
  name: string,
  { disk = [], vif = [], memoryMiB = MEMORY_MIB, vcpus = 1 }: DeviceGuestOptions,
): Promise<ConsoleSession> {
  const { kernel, ramdisk } = guest;
  const extra = 'console=hvc0 cryptomgr.notests quiet';
  const settings = { kernel, ramdisk, vcpus, memory: memoryMiB, extra, disk, vif, on_poweroff: 'destroy' };
  await host.mustXm('create', '-q', host.config(name, settings));
  const console = host.console(name);
  await console.expect(READY, BOOT_TIMEOUT_MS);
  return console;
}

async function e2fsprogs(work: string, say: (line: string) => void): Promise<GuestFile[]> {
  const cache = new AptCache(work);
  const root = join(work, 'e2fsprogs-root');
  if (!existsSync(join(root, 'complete'))) {
    for (const name of PACKAGES) {
      say(`fetching ${name}`);
      const deb = await cache.download(name);
      await cache.unpack(deb, root);
    }
    writeFileSync(join(root, 'complete'), '');
  }
  const found = (name: string): Uint8Array => {
    const folders = ['sbin', 'usr/sbin', 'lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu', 'lib64'];
    const path = folders.map((folder) => join(root, folder, name)).find((each) => existsSync(each));
    if (path === undefined) throw new Error(`${name} is in none of the packages ${PACKAGES.join(' ')}`);
    return readFileSync(realpathSync(path));
  };
  return [
    ...TOOLS.map((name) => ({ path: `sbin/${name}`, data: found(name), mode: 0o755 })),
    ...LIBRARIES.map((name) => ({ path: `lib/x86_64-linux-gnu/${name}`, data: found(name), mode: 0o644 })),
    { path: `lib64/${INTERPRETER}`, data: found(INTERPRETER), mode: 0o755 },
  ];
}

async function compileGio(cache: string): Promise<string | undefined> {
  const source = fileURLToPath(new URL('guest/gio.c', import.meta.url));
  const output = join(cache, 'gio');
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  try {
    const built = join(directory, 'gio');
    await promisify(execFile)('gcc', [...GCC_FLAGS, source, '-o', built]);
    cpSync(built, output);
    return output;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
