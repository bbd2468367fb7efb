/**
 * Debian's xenstored (C), oxenstored, xenstore-control, test-xenstore and pyxs, unpacked below .cache without being
 * installed. Fetched by apt-get from wherever this machine gets its packages.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What has the programs, and the libraries that those need beyond libc. */
const PACKAGES = [
  ...['xen-utils-4.17', 'xenstore-utils', 'python3-pyxs', 'libxenstore4', 'libxenevtchn1', 'libxengnttab1'],
  ...['libxenmisc4.17', 'libxentoollog1', 'libxentoolcore1', 'libxencall1', 'libxenforeignmemory1'],
  ...['libxendevicemodel1', 'libxenhypfs1', 'libxen-dev'],
] as const;
const CACHE = fileURLToPath(new URL('../../../.cache/', import.meta.url));

export interface DebianXen {
  /** The folder of xenstored, oxenstored, xenstore-control and test-xenstore. */
  readonly bin: string;
  /** The folder of xenstore-read and so on. */
  readonly utils: string;
  /** The folder of Xen's headers. */
  readonly include: string;
  /** What the programs need in their environment. */
  readonly env: NodeJS.ProcessEnv;
}

/** Undefined, with the reason told, where there is no apt or it does not know the packages. */
export function debianXen(tell: (reason: string) => void): DebianXen | undefined {
  const root = join(CACHE, 'debian-xen-4.17');
  if (!existsSync(root)) {
    const failed = unpack(root);
    if (failed !== undefined) {
      tell(`Debian's xenstored is not here: ${failed}`);
      return undefined;
    }
  }
  const libraries = join(root, 'usr/lib/x86_64-linux-gnu');
  return {
    bin: join(root, 'usr/lib/xen-4.17/bin'),
    utils: join(root, 'usr/bin'),
    include: join(root, 'usr/include'),
    env: {
      ...process.env,
      LD_LIBRARY_PATH: libraries,
      PYTHONPATH: join(root, 'usr/lib/python3/dist-packages'),
      PYTHONDONTWRITEBYTECODE: '1',
    },
  };
}

/** Why it failed. */
function unpack(root: string): string | undefined {
  const work = `${root}.${process.pid}`;
  mkdirSync(work, { recursive: true });
  try {
    const fetched = spawnSync('apt-get', ['download', '-qq', ...PACKAGES], { cwd: work, encoding: 'utf8' });
    if (fetched.status !== 0) return (fetched.error?.message ?? fetched.stderr.trim()) || 'apt-get download failed';
    for (const file of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
      const unpacked = spawnSync('dpkg-deb', ['-x', file, 'root'], { cwd: work, encoding: 'utf8' });
      if (unpacked.status !== 0) return unpacked.error?.message ?? unpacked.stderr.trim();
    }
    if (!existsSync(root)) renameSync(join(work, 'root'), root);
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
