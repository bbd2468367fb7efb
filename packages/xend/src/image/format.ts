/**
 * The file of a saved guest: xend's record (`XendCheckpoint.py`: a signature, the length of the configuration, the
 * configuration) and libxc's stream for PV guests of Xen 4.4 (`xg_save_restore.h`). Words are of 64 bits, little endian.
 */
import type { FileHandle } from 'node:fs/promises';
import { XendError } from '../errors.ts';

/** First bytes of a file of a saved guest. */
export const SAVE_SIGNATURE = 'LinuxGuestRecord';
/** Bytes of a configuration that is believed. */
export const MAX_CONFIG_BYTES = 1 << 20;
/** Pages in one chunk. */
export const BATCH_PAGES = 1024;
/** First word of the extended information, in place of a frame number. */
export const EXTENDED_INFO = 0xffff_ffff_ffff_ffffn;
/** VM_ASSIST_VALID of a 64-bit guest (`asm-x86/config.h`): what a context that is set may have. */
export const VALID_ASSISTS = 0x1_0000_003fn;
/** Bytes for the `xen_domctl_ext_vcpucontext` of a vCPU: the domctl's whole union. */
export const EXTENDED_CONTEXT_BYTES = 128;
/** Words before the XSAVE state of a vCPU: features that it has room for, bytes. */
export const EXTENDED_STATE_HEAD = 16;
/** Chunks that are no pages (XC_SAVE_ID_*). */
export const SaveId = { vcpuInfo: -2, tscInfo: -7, lastCheckpoint: -9 } as const;

/** Where an image goes, one part after the other. */
export abstract class ImageSink {
  /** Resolves when it may be given more. */
  abstract bytes(bytes: Uint8Array): Promise<void>;

  async words(...values: readonly bigint[]): Promise<void> {
    await this.bytes(new Uint8Array(BigUint64Array.from(values).buffer));
  }

  async int(value: number): Promise<void> {
    await this.bytes(new Uint8Array(Int32Array.of(value).buffer));
  }
}

export class FileSink extends ImageSink {
  readonly #file: FileHandle;

  constructor(file: FileHandle) {
    super();
    this.#file = file;
  }

  async bytes(bytes: Uint8Array): Promise<void> {
    await this.#file.writeFile(bytes);
  }
}

/** Where an image comes from, one part after the other. What ends too soon is refused with a XendError. */
export abstract class ImageSource {
  abstract bytes(length: number): Promise<Buffer>;
  /** Passes over pages that are wanted when all that follows is known. Resolves to where they will be. */
  abstract pagesLater(length: number): Promise<number>;
  /** Pages that were passed over. */
  abstract pagesAt(position: number, length: number): Promise<Buffer>;

  async word(): Promise<bigint> {
    return (await this.bytes(8)).readBigUInt64LE();
  }

  async int(): Promise<number> {
    return (await this.bytes(4)).readInt32LE();
  }
}

export class FileSource extends ImageSource {
  readonly #file: FileHandle;
  /** Where the next read begins. */
  #position = 0;

  constructor(file: FileHandle) {
    super();
    this.#file = file;
  }

  async bytes(length: number): Promise<Buffer> {
    const buffer = await this.pagesAt(this.#position, length);
    this.#position += length;
    return buffer;
  }

  pagesLater(length: number): Promise<number> {
    const position = this.#position;
    this.#position += length;
    return Promise.resolve(position);
  }

  async pagesAt(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.#file.read(buffer, done, length - done, position + done);
      if (bytesRead === 0) throw new XendError('the guest state file is truncated');
      done += bytesRead;
    }
    return buffer;
  }
}
