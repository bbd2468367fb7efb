/** Why a domain could not be built: libxenguest's error classes (`xenctrl.h`, xc_error_code) and its words where it has some. */

const XcError = { internal: 1, invalidKernel: 2, invalidParameter: 3, outOfMemory: 4 } as const;
export type XcErrorKind = keyof typeof XcError;

const TITLES: Record<XcErrorKind, string> = {
  internal: 'Internal error',
  invalidKernel: 'Invalid kernel',
  invalidParameter: 'Invalid configuration',
  outOfMemory: 'Out of memory',
};

export class DomBuildError extends Error {
  override readonly name = 'DomBuildError';
  readonly kind: XcErrorKind;
  /** As xc_get_last_error tells it. */
  readonly xcCode: number;
  /** "Invalid kernel" and the like. */
  readonly title: string;

  constructor(kind: XcErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
    this.xcCode = XcError[kind];
    this.title = TITLES[kind];
  }
}
