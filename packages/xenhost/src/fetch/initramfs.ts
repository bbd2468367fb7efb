/** The initramfs of a fetched guest: busybox, /init and the kernel's modules for Xen's and the usual devices. */
import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { cpio, type CpioEntry, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from './cpio.ts';
import { initScript, poweroffScript, rebootScript } from './init.ts';
import { type KernelModule, modulesAlias, modulesDep } from './modules.ts';

/** Modules that a guest may want for its devices; those built into the kernel are no files and are left out. */
export const wantedModules: readonly string[] = [
  ...['xen-blkfront', 'xen-netfront', 'xenfs', 'xen-evtchn', 'xen-gntdev', 'xen-gntalloc', 'xen-privcmd'],
  ...[
    'xen-fbfront',
    'xen-kbdfront',
    'virtio_pci',
    'virtio_blk',
    'virtio_net',
    'ata_piix',
    'sd_mod',
    'sr_mod',
    'e1000',
    '8139cp',
    '8139too',
  ],
  ...['ext4', 'crc32c_generic', 'isofs', 'vfat', 'nls_cp437', 'nls_ascii', 'squashfs', 'overlay', 'loop'],
];

export interface InitramfsOptions {
  readonly busybox: string;
  readonly kernelVersion: string;
  readonly modules: readonly KernelModule[];
  /** More files, by their path in the guest. */
  readonly extraFiles?: readonly { readonly path: string; readonly data: Uint8Array; readonly mode: number }[];
}

const directory = (path: string): CpioEntry => ({ path, mode: S_IFDIR | 0o755 });
const file = (path: string, data: Uint8Array | string, mode: number): CpioEntry => ({
  path,
  mode: S_IFREG | mode,
  data: typeof data === 'string' ? Buffer.from(data) : data,
});
const link = (path: string, target: string): CpioEntry => ({ path, mode: S_IFLNK | 0o777, data: Buffer.from(target) });

/** A gzip-compressed newc archive; the same input gives the same bytes. */
export async function initramfs(options: InitramfsOptions): Promise<Uint8Array> {
  const base = `lib/modules/${options.kernelVersion}`;
  const entries = new Map<string, CpioEntry>();
  const addFolders = (path: string): void => {
    const parts = path.split('/').slice(0, -1);
    parts.forEach((_, i) => {
      const folder = parts.slice(0, i + 1).join('/');
      if (!entries.has(folder)) entries.set(folder, directory(folder));
    });
  };
  const add = (entry: CpioEntry): void => {
    addFolders(entry.path);
    entries.set(entry.path, entry);
  };
  for (const folder of ['bin', 'sbin', 'dev', 'proc', 'sys', 'tmp', 'root', 'mnt', 'etc']) add(directory(folder));
  add({ path: 'dev/console', mode: S_IFCHR | 0o600, rdev: [5, 1] });
  add(file('bin/busybox', await readFile(options.busybox), 0o755));
  add(link('bin/sh', 'busybox'));
  add(file('init', initScript, 0o755));
  add(file('sbin/poweroff', poweroffScript, 0o755));
  add(file('sbin/reboot', rebootScript, 0o755));
  for (const module of options.modules) add(file(`${base}/${module.path}`, module.data, 0o644));
  if (options.modules.length > 0) {
    add(file(`${base}/modules.dep`, modulesDep(options.modules), 0o644));
    add(file(`${base}/modules.alias`, modulesAlias(options.modules), 0o644));
  }
  for (const extra of options.extraFiles ?? []) add(file(extra.path, extra.data, extra.mode));
  return gzipSync(cpio([...entries.values()]), { level: 9 });
}
