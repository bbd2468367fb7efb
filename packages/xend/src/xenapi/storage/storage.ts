/**
 * Storage repositories and their disks (Xen 4.4 `XendLocalStorageRepo.py`, `XendQCoWStorageRepo.py`, `XendVDI.py`). Two
 * repositories, as there: `local` for raw images, its own and any file or device that somebody names; `qcow_file` for
 * qcow2 images. A disk's record says `making` or `removing` while its file is worked on, so that a later xend finishes
 * what a crash cut short.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDiskName, type DiskName } from '@xenhost/disk-image';
import { atomText } from '@xenhost/sxp';
import type { DeviceConfig } from '../../config/types.ts';
import { isDisk } from '../../device/plan.ts';
import { Mutex } from '../../domain/mutex.ts';
import type { DomainManager } from '../../domain/manager.ts';
import type { Vm } from '../../domain/vm.ts';
import { messageOf } from '../../errors.ts';
import { handleInvalid, limitReached, valueNotSupported, vdiError } from '../errors.ts';
import { MAX_RECORDS, MAX_VDI_BYTES } from '../limits.ts';
import { flagIn, mapIn, numberIn, textIn, type JsonRecord, type StateStore } from '../state.ts';
import {
  allocatedBytes,
  copyImage,
  createImage,
  growImage,
  MAKING_SUFFIX,
  MAX_QCOW2_BYTES,
  type ImageFormat,
  type Progress,
} from './images.ts';

export type SrType = 'local' | 'qcow_file';

export interface Repository {
  readonly ref: string;
  readonly type: SrType;
  readonly nameLabel: string;
  readonly nameDescription: string;
}

export interface Vdi {
  readonly ref: string;
  readonly sr: string;
  readonly nameLabel: string;
  readonly nameDescription: string;
  readonly virtualSize: number;
  readonly sectorSize: number;
  /** system, user or ephemeral. */
  readonly type: string;
  readonly sharable: boolean;
  readonly readOnly: boolean;
  readonly otherConfig: Readonly<Record<string, string>>;
  /** What a disk's `uname` is: `file:PATH`, `tap:qcow2:PATH`. */
  readonly location: string;
  /** Its file when it is the repository's own: it goes with the disk. */
  readonly path: string;
  /** The disk of which it is a snapshot, or ''. */
  readonly snapshotOf: string;
}

const SR = 'sr';
const VDI = 'vdi';
const SECTOR_BYTES = 512;
export const VDI_TYPES: readonly string[] = ['system', 'user', 'ephemeral'];

const REPOSITORIES: readonly Omit<Repository, 'ref'>[] = [
  { type: 'local', nameLabel: 'Local', nameDescription: 'Traditional Local Storage Repo' },
  { type: 'qcow_file', nameLabel: 'QCoW', nameDescription: 'Xend QCoW Storage Repository' },
];

const FORMATS: Readonly<
  Record<SrType, { readonly format: ImageFormat; readonly suffix: string; readonly scheme: string }>
> = {
  local: { format: 'raw', suffix: '.img', scheme: 'file:' },
  qcow_file: { format: 'qcow2', suffix: '.qcow2', scheme: 'tap:qcow2:' },
};

/** What a VDI is made from. */
export interface VdiRequest {
  readonly sr: string;
  readonly nameLabel: string;
  readonly nameDescription: string;
  readonly virtualSize: number;
  readonly type: string;
  readonly sharable: boolean;
  readonly readOnly: boolean;
  readonly otherConfig: Readonly<Record<string, string>>;
}

export class Storage {
  readonly #directory: string;
  readonly #state: StateStore;
  readonly #manager: DomainManager;
  /** One work on a disk at a time. */
  readonly #locks = new Map<string, Mutex>();
  #locations: ReadonlyMap<string, string> | undefined;

  constructor(
    options: { readonly directory: string },
    modules: {
      readonly state: StateStore;
      readonly manager: DomainManager;
    },
  ) {
    this.#directory = options.directory;
    this.#state = modules.state;
    this.#manager = modules.manager;
  }

  /** Makes the repositories at first; finishes what an earlier xend left undone. */
  async load(): Promise<void> {
    const known = new Set(this.repositories().map(({ type }) => type));
    for (const { type, nameLabel, nameDescription } of REPOSITORIES) {
      if (known.has(type)) continue;
      const record = { type, name_label: nameLabel, name_description: nameDescription };
      await this.#state.put(SR, randomUUID(), record);
    }
    for (const [ref, record] of [...this.#state.table(VDI)]) {
      if (textIn(record, 'state', 'ready') === 'ready') continue;
      this.#manager.ports.log.warn('XendStorage', `Removed disk ${ref}, which an earlier xend left unfinished`);
      await this.#erase(ref, textIn(record, 'path'));
    }
  }

  // Repositories

  repositories(): Repository[] {
    return [...this.#state.table(SR)].map(([ref, record]) => ({
      ref,
      type: textIn(record, 'type') === 'qcow_file' ? 'qcow_file' : 'local',
      nameLabel: textIn(record, 'name_label'),
      nameDescription: textIn(record, 'name_description'),
    }));
  }

  repository(ref: string): Repository | undefined {
    return this.repositories().find((known) => known.ref === ref);
  }

  /** Sets name_label or name_description. */
  async describe(ref: string, changes: JsonRecord): Promise<void> {
    await this.#state.put(SR, ref, { ...this.#state.table(SR).get(ref), ...changes });
  }

  directoryOf({ type }: Repository): string {
    return join(this.#directory, type);
  }

  /** Size and use of the file system below a repository, bytes. */
  async space(sr: Repository): Promise<{ readonly size: number; readonly free: number }> {
    const directory = this.directoryOf(sr);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const { blocks, bavail, bsize } = await statfs(directory);
    return { size: blocks * bsize, free: bavail * bsize };
  }

  // Disks

  all(): Vdi[] {
    return [...this.#state.table(VDI)].flatMap(([ref, record]) => toVdi(ref, record) ?? []);
  }

  find(ref: string): Vdi | undefined {
    const record = this.#state.table(VDI).get(ref);
    return record && toVdi(ref, record);
  }

  /** The disk that a machine's device is of. */
  behind(device: DeviceConfig): Vdi | undefined {
    const ref = this.#refBehind(device);
    return ref === undefined ? undefined : this.find(ref);
  }

  #refBehind(device: DeviceConfig): string | undefined {
    const named = atomText(device.options.get('VDI')) ?? '';
    if (this.#state.table(VDI).has(named)) return named;
    const location = atomText(device.options.get('uname')) ?? '';
    return location === '' ? undefined : this.#byLocation().get(location);
  }

  /** References of disks by their places; made anew after a record was changed. */
  #byLocation(): ReadonlyMap<string, string> {
    this.#locations ??= new Map(this.all().map(({ location, ref }) => [location, ref]));
    return this.#locations;
  }

  /** The machines' devices that are this disk. */
  usersOf(vdi: Vdi): { readonly vm: Vm; readonly device: DeviceConfig }[] {
    return this.#manager
      .all()
      .flatMap((vm) =>
        vm.config.devices
          .filter((device) => isDisk(device) && this.#refBehind(device) === vdi.ref)
          .map((device) => ({ vm, device })),
      );
  }

  allocated(vdi: Vdi): Promise<number> {
    const path = vdi.path || /^(?:file|tap2?:[a-z0-9]+):(\/.*)$/.exec(vdi.location)?.[1] || '';
    return path === '' ? Promise.resolve(0) : allocatedBytes(path);
  }

  /** Runs work that needs the disk to stay. Throws HANDLE_INVALID when it has gone. */
  use<T>(vdi: Vdi, work: (vdi: Vdi) => Promise<T>): Promise<T> {
    const lock = this.#locks.get(vdi.ref) ?? new Mutex();
    this.#locks.set(vdi.ref, lock);
    return lock.run(() => {
      const current = this.find(vdi.ref);
      if (!current) throw handleInvalid('VDI', vdi.ref);
      return work(current);
    });
  }

  /** Makes a disk; in the local repository, `otherConfig.location` names an image that is there. Throws ApiError. */
  async create(request: VdiRequest): Promise<Vdi> {
    const sr = this.repository(request.sr);
    if (!sr) throw handleInvalid('SR', request.sr);
    const { location } = request.otherConfig;
    // A place that is empty, and no size: a CD drive without a disc, as xm's create sends it.
    const isImage = location === undefined || (location === '' && request.virtualSize > 0);
    if (sr.type === 'local' && !isImage) return this.#name(request, location);
    checkSize(request.virtualSize, sr.type);
    await this.#checkSpace(sr, request.virtualSize, request.nameLabel);
    return this.#make(sr, request, '', (path, format) => createImage(path, format, request.virtualSize));
  }

  /** A disk that is an image of somebody else's. */
  async #name(request: VdiRequest, location: string): Promise<Vdi> {
    if (location !== '' && !/^(file|phy|tap2?:[a-z0-9]+):./.test(location)) {
      throw valueNotSupported('VDI.other_config location', location, 'file:, phy: or tap: is required');
    }
    const file = /^file:(.+)$/.exec(location)?.[1];
    const size = file === undefined ? undefined : await stat(file).catch(() => undefined);
    this.#checkRoom();
    return this.#put(randomUUID(), {
      ...recordOf(request),
      virtual_size: size?.isFile() ? size.size : Math.max(0, request.virtualSize),
      location,
      path: '',
      state: 'ready',
    });
  }

  /** Copies a disk, into another repository where one is named. Throws ApiError. */
  copy(source: Vdi, request: { readonly sr?: string; readonly snapshot: boolean }, progress: Progress): Promise<Vdi> {
    return this.use(source, async (vdi) => {
      this.#refuseWhileWritten(vdi);
      const sr = this.repository(request.sr ?? vdi.sr);
      if (!sr) throw handleInvalid('SR', request.sr ?? vdi.sr);
      const from = this.#fileOf(vdi);
      checkSize(vdi.virtualSize, sr.type);
      await this.#checkSpace(sr, await this.allocated(vdi), vdi.nameLabel);
      // Its place is its own: the record's location is told over what other_config holds.
      const copied: VdiRequest = { ...vdi, sr: sr.ref };
      return this.#make(
        sr,
        { ...copied, readOnly: request.snapshot || vdi.readOnly },
        request.snapshot ? vdi.ref : '',
        (path, format) => copyImage(from, { path, format }, vdi.virtualSize, progress),
      );
    });
  }

  async #make(
    sr: Repository,
    request: VdiRequest,
    snapshotOf: string,
    make: (path: string, format: ImageFormat) => Promise<void>,
  ): Promise<Vdi> {
    this.#checkRoom();
    const ref = randomUUID();
    const directory = this.directoryOf(sr);
    const { format, suffix, scheme } = FORMATS[sr.type];
    const path = join(directory, `${ref}${suffix}`);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const record = {
      ...recordOf(request),
      virtual_size: request.virtualSize,
      location: `${scheme}${path}`,
      path,
      snapshot_of: snapshotOf,
    };
    await this.#store(ref, { ...record, state: 'making' });
    try {
      await make(path, format);
    } catch (error) {
      await this.#erase(ref, path);
      throw vdiError(messageOf(error), request.nameLabel);
    }
    return this.#put(ref, { ...record, state: 'ready' });
  }

  async #put(ref: string, record: JsonRecord): Promise<Vdi> {
    await this.#store(ref, record);
    const vdi = this.find(ref);
    if (!vdi) throw handleInvalid('VDI', ref);
    return vdi;
  }

  /** Makes a disk larger. Throws ApiError. */
  resize(target: Vdi, sizeBytes: number): Promise<void> {
    return this.use(target, async (vdi) => {
      const sr = this.repository(vdi.sr);
      if (!sr || vdi.path === '') throw vdiError("Cannot resize an image that is not the repository's", vdi.nameLabel);
      if (this.usersOf(vdi).some(({ vm }) => vm.live)) throw vdiError('VDI is in use by a running VM', vdi.nameLabel);
      checkSize(sizeBytes, sr.type);
      if (sizeBytes < vdi.virtualSize) {
        throw valueNotSupported('VDI.virtual_size', String(sizeBytes), 'a disk cannot shrink');
      }
      await this.#checkSpace(sr, sizeBytes - vdi.virtualSize, vdi.nameLabel);
      await growImage(vdi.path, FORMATS[sr.type].format, sizeBytes);
      await this.change(vdi, { virtual_size: sizeBytes });
    });
  }

  /** Removes a disk that no machine has, and its file. Throws ApiError. */
  destroy(target: Vdi): Promise<void> {
    return this.use(target, async (vdi) => {
      if (this.usersOf(vdi).length > 0) throw vdiError('Cannot destroy VDI with VBDs attached', vdi.nameLabel);
      const record = this.#state.table(VDI).get(vdi.ref) ?? {};
      if (vdi.path !== '') await this.#store(vdi.ref, { ...record, state: 'removing' });
      await this.#erase(vdi.ref, vdi.path);
      this.#locks.delete(vdi.ref);
    });
  }

  async #store(ref: string, record: JsonRecord): Promise<void> {
    this.#locations = undefined;
    await this.#state.put(VDI, ref, record);
  }

  /** Sets fields of a disk's record. */
  async change(vdi: Vdi, changes: JsonRecord): Promise<void> {
    const record = this.#state.table(VDI).get(vdi.ref);
    if (!record) throw handleInvalid('VDI', vdi.ref);
    await this.#store(vdi.ref, { ...record, ...changes });
  }

  async #erase(ref: string, path: string): Promise<void> {
    if (path !== '') {
      await rm(path, { force: true });
      await rm(`${path}${MAKING_SUFFIX}`, { force: true });
    }
    this.#locations = undefined;
    await this.#state.remove(VDI, ref);
  }

  #refuseWhileWritten(vdi: Vdi): void {
    const writer = this.usersOf(vdi).find(
      ({ vm, device }) => vm.state === 'running' && (atomText(device.options.get('mode')) ?? 'r').startsWith('w'),
    );
    if (writer) throw vdiError(`VDI is written by ${writer.vm.name}, which runs`, vdi.nameLabel);
  }

  #fileOf(vdi: Vdi): { readonly path: string; readonly format: ImageFormat } {
    const sr = this.repository(vdi.sr);
    if (sr && vdi.path !== '') return { path: vdi.path, format: FORMATS[sr.type].format };
    const name = diskNameOf(vdi.location);
    if (name?.kind === 'file' || name?.kind === 'tap') return { path: name.path, format: name.format };
    throw vdiError('Cannot copy what is not a file', vdi.nameLabel);
  }

  #checkRoom(): void {
    if (this.#state.table(VDI).size >= MAX_RECORDS) throw limitReached('VDIs', MAX_RECORDS);
  }

  async #checkSpace(sr: Repository, needed: number, label: string): Promise<void> {
    if (needed > (await this.space(sr)).free) throw vdiError(`Not enough space (need ${needed})`, label);
  }
}

/** Undefined for what is no name of a disk. */
function diskNameOf(location: string): DiskName | undefined {
  try {
    return parseDiskName(location);
  } catch {
    return undefined;
  }
}

function checkSize(bytes: number, type: SrType): void {
  const limit = type === 'qcow_file' ? MAX_QCOW2_BYTES : MAX_VDI_BYTES;
  if (bytes <= 0 || bytes > limit) {
    throw valueNotSupported('VDI.virtual_size', String(bytes), `1 to ${limit} bytes are allowed`);
  }
}

const recordOf = (request: VdiRequest): JsonRecord => ({
  SR: request.sr,
  name_label: request.nameLabel,
  name_description: request.nameDescription,
  sector_size: SECTOR_BYTES,
  type: request.type,
  sharable: request.sharable,
  read_only: request.readOnly,
  other_config: request.otherConfig,
});

/** Undefined while it is being made or removed. */
function toVdi(ref: string, record: JsonRecord): Vdi | undefined {
  if (textIn(record, 'state', 'ready') !== 'ready') return undefined;
  const location = textIn(record, 'location');
  return {
    ref,
    sr: textIn(record, 'SR'),
    nameLabel: textIn(record, 'name_label'),
    nameDescription: textIn(record, 'name_description'),
    virtualSize: numberIn(record, 'virtual_size'),
    sectorSize: numberIn(record, 'sector_size', SECTOR_BYTES),
    type: textIn(record, 'type', 'system'),
    sharable: flagIn(record, 'sharable'),
    readOnly: flagIn(record, 'read_only'),
    otherConfig: { ...mapIn(record, 'other_config'), location },
    location,
    path: textIn(record, 'path'),
    snapshotOf: textIn(record, 'snapshot_of'),
  };
}
