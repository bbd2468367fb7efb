/** `xenhost fetch`: Debian's kernel and busybox to a guest that `xm create` boots. */
import { copyFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { AptCache, resolveMetaPackage } from '../fetch/apt.ts';
import { initramfs, type InitramfsOptions, wantedModules } from '../fetch/initramfs.ts';
import { moduleClosure } from '../fetch/modules.ts';
import { text, type Values } from './options.ts';

interface Flavour {
  readonly metaPackage: string;
  /** Debian's name of the architecture where it is not the machine's own. */
  readonly architecture?: string;
}

/** The 32-bit one is for machines of other emulators: no 32-bit kernel of Debian's is a PV guest. */
const flavours: Readonly<Record<string, Flavour>> = {
  cloud: { metaPackage: 'linux-image-cloud-amd64' },
  amd64: { metaPackage: 'linux-image-amd64' },
  '686-pae': { metaPackage: 'linux-image-686-pae', architecture: 'i386' },
};

export interface FetchedGuest {
  readonly config: string;
  readonly kernel: string;
  readonly ramdisk: string;
  /** The program in the initramfs, for the architecture of the kernel. */
  readonly busybox: string;
  readonly version: string;
}

/** Downloads (once; files already there are kept) and builds kernel, initramfs and config in `directory`. */
export async function fetchGuest(
  directory: string,
  flavour: string,
  withModules: boolean,
  say: (line: string) => void,
  extraFiles: InitramfsOptions['extraFiles'] = [],
): Promise<FetchedGuest> {
  const row = flavours[flavour];
  if (row === undefined) throw new Error(`--kernel ${flavour}: cloud or amd64`);
  const work = join(directory, row.architecture === undefined ? '.packages' : `.packages-${row.architecture}`);
  await mkdir(work, { recursive: true });
  const cache = new AptCache(work, row.architecture);
  const kernelPackage = await resolveMetaPackage(row.metaPackage, cache);
  const root = join(work, kernelPackage);
  for (const [name, into] of [
    [kernelPackage, root],
    ['busybox-static', join(work, 'busybox-static')],
  ] as const) {
    if ((await readdir(into).catch(() => [])).length > 0) continue;
    say(`fetching ${name}`);
    await cache.unpack(await cache.download(name), into);
  }
  const version = kernelPackage.slice('linux-image-'.length);
  const trees = [join(root, 'lib/modules', version), join(root, 'usr/lib/modules', version)];
  const tree = (await Promise.all(trees.map(async (path) => ((await exists(path)) ? path : undefined)))).find(Boolean);
  const modules = withModules && tree !== undefined ? await moduleClosure(tree, wantedModules) : [];
  say(`building the initramfs with ${modules.length} modules`);
  const busybox = join(work, 'busybox-static', 'bin', 'busybox');
  const ramdiskBytes = await initramfs({ busybox, kernelVersion: version, modules, extraFiles });
  const name = `debian-${flavour}`;
  const kernel = join(directory, `${name}.vmlinuz`);
  const ramdisk = join(directory, `${name}.initrd`);
  const config = join(directory, `${name}.cfg`);
  await copyFile(join(root, 'boot', `vmlinuz-${version}`), kernel);
  await writeFile(ramdisk, ramdiskBytes);
  await writeFile(config, guestConfig(name, kernel, ramdisk, version));
  return { config, kernel, ramdisk, busybox, version };
}

const exists = async (path: string): Promise<boolean> => (await readdir(path).catch(() => undefined)) !== undefined;

function guestConfig(name: string, kernel: string, ramdisk: string, version: string): string {
  return [
    `# Debian's kernel ${version} as a paravirtualised guest, made by xenhost fetch`,
    `name = "${name}"`,
    `kernel = "${kernel}"`,
    `ramdisk = "${ramdisk}"`,
    'memory = 256',
    'vcpus = 1',
    'extra = "console=hvc0 cryptomgr.notests quiet"',
    'on_poweroff = "destroy"',
    'on_reboot = "restart"',
    'on_crash = "destroy"',
    '',
  ].join('\n');
}

export async function fetch(values: Values): Promise<number> {
  const directory = resolve(text(values, 'dir') ?? 'guests');
  const guest = await fetchGuest(
    directory,
    text(values, 'kernel') ?? 'cloud',
    values['no-modules'] !== true,
    (line) => {
      process.stdout.write(`${line}\n`);
    },
  );
  process.stdout.write(`ready: xm create -c ${guest.config}\n`);
  return 0;
}
