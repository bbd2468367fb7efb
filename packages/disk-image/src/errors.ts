/** What can be wrong with an image or with a call on one. Errors of the file system keep their own `code` (ENOENT, EIO, ENOSPC). */
export type ImageErrorCode =
  /** The file is not of that format. */
  | 'NOT_AN_IMAGE'
  /** It is, with something in it that is not handled; the message names it. */
  | 'UNSUPPORTED'
  /** It contradicts itself. */
  | 'CORRUPT'
  /** More than this package takes of it: a size, a chain of backing files, a table. */
  | 'LIMIT'
  | 'READ_ONLY'
  | 'OUT_OF_RANGE'
  /** A disk's name that cannot be understood, or a snapshot that is not there. */
  | 'BAD_NAME'
  | 'CLOSED';

export class ImageError extends Error {
  readonly code: ImageErrorCode;
  constructor(code: ImageErrorCode, message: string) {
    super(message);
    this.name = 'ImageError';
    this.code = code;
  }
}
