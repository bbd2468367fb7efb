/**
 * What is in a drive: an open image, or nothing. Opens what a disk's backend nodes name and tells, in the words of Xen's hotplug script
 * where it has some, why that was not possible.
 */
import { constants } from 'node:fs';
import { access, readFile, realpath, stat } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { ImageError, openImage, parseDiskName } from '@xenhost/disk-image';
import type { DiskImage, DiskName, OpenImageSpec } from '@xenhost/disk-image';
import { BLKIF_SECTOR_BYTES } from '@xenhost/xen-abi';
import type { Disk } from '../ring/disk.ts';
import { isDiskMode } from './shares.ts';
import type { DiskMode, ImageShares } from './shares.ts';

/** A disk as its backend nodes name it. */
export interface MediumName {
  /** `file`, `phy`, `tap`, `tap2`, or empty. */
  readonly type: string;
  /** Empty: no medium. */
  readonly params: string;
  readonly mode: string;
}

export interface MediumModules {
  readonly shares: ImageShares;
  readonly open?: (spec: OpenImageSpec) => Promise<DiskImage>;
}

/** Why a medium cannot be had; `kind` is what hotplug-status says. */
export interface MediumRefusal {
  readonly kind: 'busy' | 'error';
  readonly text: string;
}

export type MediumOutcome = { readonly kind: 'open'; readonly medium: Medium } | MediumRefusal;

/** Largest physical sector told to guests: a page of the host's cache. */
const PHYSICAL_SECTOR_BYTES = 4096;

export class Medium implements Disk {
  readonly readOnly: boolean;
  /** The file's own path; empty without a medium. */
  readonly path: string;
  /** `MAJOR:MINOR` in hexadecimal when it is a device. */
  readonly device: string | undefined;
  readonly #image: DiskImage | undefined;
  readonly #release: () => void;

  constructor(
    image: DiskImage | undefined,
    { readOnly, path, device, release }: Pick<Medium, 'readOnly' | 'path' | 'device'> & { release: () => void },
  ) {
    this.#image = image;
    this.readOnly = readOnly;
    this.path = path;
    this.device = device;
    this.#release = release;
  }

  /** Whole sectors. */
  get sizeBytes(): number {
    const size = this.#image?.sizeBytes ?? 0;
    return size - (size % BLKIF_SECTOR_BYTES);
  }

  get physicalSectorBytes(): number {
    return this.sizeBytes % PHYSICAL_SECTOR_BYTES === 0 ? PHYSICAL_SECTOR_BYTES : BLKIF_SECTOR_BYTES;
  }

  get canDiscard(): boolean {
    return this.#image !== undefined && !this.readOnly && this.#image.supportsDiscard;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.#use((image) => image.read(offset, target));
  }

  writev(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.#use((image) => image.writev(offset, pieces));
  }

  flush(): Promise<void> {
    return this.#use((image) => image.flush());
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#use((image) => image.discard(offset, length));
  }

  /** Whether the disk has another size than before. */
  async refreshSize(): Promise<boolean> {
    const before = this.sizeBytes;
    await this.#image?.refreshSize();
    return this.sizeBytes !== before;
  }

  async close(): Promise<void> {
    try {
      await this.#image?.close();
    } finally {
      this.#release();
    }
  }

  #use(call: (image: DiskImage) => Promise<void>): Promise<void> {
    return this.#image ? call(this.#image) : Promise.reject(new Error('no medium'));
  }
}

export const emptyMedium = (readOnly: boolean): Medium =>
  new Medium(undefined, { readOnly, path: '', device: undefined, release: () => undefined });

/** Opens a medium for a machine. Never rejects for what is wrong with the name, the file or its users. */
export async function openMedium(
  name: MediumName,
  machine: string,
  { shares, open = openImage }: MediumModules,
): Promise<MediumOutcome> {
  const { mode } = name;
  if (!isDiskMode(mode)) return failure(`mode '${mode}' is none of r, w and w!`);
  if (name.params === '') return { kind: 'open', medium: emptyMedium(mode === 'r') };
  try {
    const disk = parseDiskName(`${name.type}:${name.params}`);
    const found = await find(disk);
    if ('text' in found) return found;
    const { path, stats } = found;
    const noun = `${stats.isBlockDevice() ? 'Device' : 'File'} ${path}`;
    const refused = await rightsRefusal(path, mode, noun);
    if (refused) return refused;
    if (mode !== 'w!' && stats.isBlockDevice() && (await mountedHere(stats.rdev, mode))) {
      return busy(noun, mode, { in: 'the privileged domain', when: 'by a guest' });
    }
    const release = shares.claim(identity(stats), { machine, mode });
    if (!release) return busy(noun, mode, { in: 'a guest domain', when: 'now' });
    try {
      const image = await open({ path, format: disk.format, readOnly: mode === 'r' });
      const device = stats.isBlockDevice() ? deviceNumber(stats.rdev) : undefined;
      const medium = new Medium(image, { readOnly: mode === 'r' || image.readOnly, path, device, release });
      return { kind: 'open', medium };
    } catch (error) {
      release();
      throw error;
    }
  } catch (error) {
    if (error instanceof ImageError || isSystemError(error)) return failure(messageOf(error, name));
    throw error;
  }
}

const failure = (text: string): MediumRefusal => ({ kind: 'error', text });

function busy(
  noun: string,
  mode: DiskMode,
  { in: where, when }: { readonly in: string; readonly when: string },
): MediumRefusal {
  const [how, as] = mode === 'w' ? ['', ''] : ['read-write ', 'read-only '];
  return { kind: 'busy', text: `${noun} is mounted ${how}in ${where},\nand so cannot be mounted ${as}${when}.` };
}

async function find(disk: DiskName): Promise<{ readonly path: string; readonly stats: Stats } | MediumRefusal> {
  const path = await realpath(disk.path).catch(() => undefined);
  const stats = path === undefined ? undefined : await stat(path).catch(() => undefined);
  if (path === undefined || !stats) return failure(`${disk.path} does not exist.`);
  if (disk.kind === 'phy' && !stats.isBlockDevice()) return failure(`${path} is not a block device.`);
  if (!stats.isFile() && !stats.isBlockDevice()) return failure(`${path} is not a file.`);
  return { path, stats };
}

async function rightsRefusal(path: string, mode: DiskMode, noun: string): Promise<MediumRefusal | undefined> {
  const may = (right: number): Promise<boolean> =>
    access(path, right).then(
      () => true,
      () => false,
    );
  if (mode !== 'r' && !(await may(constants.W_OK))) {
    const text = `${noun} is read-only, and so I will not\nmount it read-write in a guest domain.`;
    return { kind: 'busy', text };
  }
  return (await may(constants.R_OK)) ? undefined : failure(`${noun} may not be read by the block backend.`);
}

const identity = (stats: Stats): string =>
  stats.isBlockDevice() ? `device ${stats.rdev}` : `file ${stats.dev} ${stats.ino}`;

/** As Linux packs a device's number (glibc's major and minor). */
function deviceNumber(rdev: number): string {
  const major = Math.floor(rdev / 256) & 0xfff;
  const minor = (rdev & 0xff) | (Math.floor(rdev / 4096) & 0xfff00);
  return `${major.toString(16)}:${minor.toString(16)}`;
}

/** Whether this host has a file system on the device, in a way that the mode does not bear. */
async function mountedHere(rdev: number, mode: DiskMode): Promise<boolean> {
  const mounts = await readFile('/proc/mounts', 'utf8').catch(() => '');
  for (const line of mounts.split('\n')) {
    const [source = '', , , options = ''] = line.split(' ');
    if (!source.startsWith('/') || (mode === 'r' && options.split(',').includes('ro'))) continue;
    const stats = await stat(source).catch(() => undefined);
    if (stats?.isBlockDevice() && stats.rdev === rdev) return true;
  }
  return false;
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  typeof error === 'object' && error !== null && 'code' in error && 'syscall' in error;

function messageOf(error: Error, { params }: MediumName): string {
  return error.message.includes(params) ? error.message : `${params}: ${error.message}`;
}
