/** What every disk image looks like to its users, and what they ask of one. */

export type ImageFormat = 'raw' | 'qcow2' | 'vhd';

/** The sector of every disk here, and of a blkif request. */
export const SECTOR_BYTES = 512;

/**
 * An open disk: a row of bytes, whatever the file looks like.
 *
 * Offsets and lengths are bytes, of any alignment and length within the disk; one past its end rejects with ImageError
 * OUT_OF_RANGE and nothing is done. Any number of calls may be under way at once. Calls that overlap take effect in some order;
 * calls that do not overlap never wait for one another's data. A buffer belongs to the call until its promise settles.
 *
 * What a write wrote, every later read returns and a killed process does not lose; a power failure loses nothing that was written
 * before a flush that has resolved. Whatever fails or is cut off, the image stays consistent (at worst it holds space
 * that nothing uses).
 */
export interface DiskImage {
  readonly format: ImageFormat;
  /** The disk's size; changes only by refreshSize() and grow(). */
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  readonly readOnly: boolean;
  /** Whether discard() gives space back. It is a hint in any case. */
  readonly supportsDiscard: boolean;
  /** Fills the target from the disk. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Fills several targets from one run of the disk. */
  readv(offset: number, targets: readonly Uint8Array[]): Promise<void>;
  write(offset: number, data: Uint8Array): Promise<void>;
  /** Writes several pieces to one run of the disk. */
  writev(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Resolves when everything whose write resolved before this call is on stable storage. */
  flush(): Promise<void>;
  /** The range is no longer needed: whole units of the format inside it may read as zero or as before. */
  discard(offset: number, length: number): Promise<void>;
  /** The range reads as zero, without space where the format can. */
  writeZeroes(offset: number, length: number): Promise<void>;
  /** Makes the disk larger; what is new reads as zero. */
  grow(sizeBytes: number): Promise<void>;
  /** Looks how large the disk is now (somebody grew a raw file or a device) and returns it. */
  refreshSize(): Promise<number>;
  /** Waits for what is under way, flushes, and gives the file back. Calls after it reject. May be called again. */
  close(): Promise<void>;
}

export interface OpenImageSpec {
  readonly path: string;
  /**
   * Default 'raw'. 'auto' looks at the file's first bytes and must not be used for a disk that a guest could write as raw: it could
   * write a header there that names any file of the host as its backing file.
   */
  readonly format?: ImageFormat | 'auto';
  readonly readOnly: boolean;
  /** qcow2: reads this internal snapshot, by id or else by name; needs readOnly. */
  readonly snapshot?: string;
  /**
   * Whether a qcow2 image may have a backing file; default true. Its name comes from the image and is opened as it stands, relative to the
   * image's directory unless absolute, with this process's rights, read-only: as QEMU does.
   */
  readonly allowBackingFiles?: boolean;
}

export interface BackingFile {
  /** As it is to stand in the image: absolute, or relative to the image's directory. */
  readonly path: string;
  readonly format: ImageFormat;
}

export interface CreateImageSpec {
  readonly path: string;
  readonly format: ImageFormat;
  /** May be left out with a backing file, whose size it is then. */
  readonly sizeBytes?: number;
  /** qcow2: an overlay over this disk. */
  readonly backing?: BackingFile;
  /** qcow2: a power of two from 512 to 2 MiB; default 64 KiB. */
  readonly clusterBytes?: number;
  /** qcow2: 3 unless told. */
  readonly version?: 2 | 3;
  /** qcow2: bits of a reference count, a power of two from 1 to 64; default 16. */
  readonly refcountBits?: number;
  /** vhd: default dynamic. */
  readonly vhdType?: 'fixed' | 'dynamic';
}

/** An internal snapshot of a qcow2 image. */
export interface ImageSnapshot {
  readonly id: string;
  readonly name: string;
  /** Size of the disk when it was taken. */
  readonly sizeBytes: number;
  readonly takenAt: Date;
}
