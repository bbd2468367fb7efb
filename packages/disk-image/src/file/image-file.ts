/**
 * The file under an image, as the formats see it: positional, unbuffered, never a short answer. `HostFile` is the real one;
 * `testing/model-file.ts` is a stand-in that can be cut off after any of its writes.
 */
export interface ImageFile {
  readonly path: string;
  readonly readOnly: boolean;
  readonly isDevice: boolean;
  /** Bytes of the file or device, as last seen. */
  readonly sizeBytes: number;
  /** Fills the target; what lies past the end of the file reads as zero. */
  read(offset: number, target: Uint8Array): Promise<void>;
  readv(offset: number, targets: readonly Uint8Array[]): Promise<void>;
  /** Writes all of it, making the file longer where needed. */
  write(offset: number, data: Uint8Array): Promise<void>;
  writev(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Resolves when what was written before is on stable storage. */
  sync(): Promise<void>;
  /** Makes holes where the file system can; false when it cannot, and nothing has changed. */
  punch(offset: number, length: number): Promise<boolean>;
  /** Whether punch() may do something. */
  readonly canPunch: boolean;
  truncate(sizeBytes: number): Promise<void>;
  refreshSize(): Promise<number>;
  close(): Promise<void>;
}
