/** The ways in which a command ends badly; cli.ts turns each into its text and exit code. */

/** Wrong options: the text, then the usage, then `after` on a line of its own where there is one. */
export class OptionError extends Error {
  readonly after: string | undefined;
  constructor(message: string, options: { readonly after?: string } = {}) {
    super(message);
    this.name = 'OptionError';
    this.after = options.after;
  }
}

/** A value that is no number and the like: "Invalid argument." and the usage. */
export class InvalidArgument extends Error {
  constructor() {
    super('Invalid argument.');
    this.name = 'InvalidArgument';
  }
}

/** The text alone, exit code 1. */
export class CommandFailed extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CommandFailed';
  }
}

/** Ends at once; everything has been said. With `usage`, the usage is printed first. */
export class Exit extends Error {
  readonly code: number;
  readonly usage: boolean;
  constructor(code: number, options: { readonly usage?: boolean } = {}) {
    super(`exit ${code}`);
    this.name = 'Exit';
    this.code = code;
    this.usage = options.usage ?? false;
  }
}

/** xend cannot be reached; `code` is node's. */
export class ConnectionError extends Error {
  readonly code: string;
  constructor(code: string, options?: ErrorOptions) {
    super(`cannot connect: ${code}`, options);
    this.name = 'ConnectionError';
    this.code = code;
  }
}

/** xend answered, but not as HTTP or not with 200. `status` undefined: no status line. */
export class ProtocolError extends Error {
  readonly status: number | undefined;
  constructor(status: number | undefined, message: string) {
    super(message);
    this.name = 'ProtocolError';
    this.status = status;
  }
}

/** This xend does not have that method. */
export class UnknownMethod extends CommandFailed {
  constructor(method: string) {
    super(`This xend has no method ${method}`);
    this.name = 'UnknownMethod';
  }
}

/** The Xen-API refused: its ErrorDescription. */
export class XenApiFailure extends Error {
  readonly details: readonly string[];
  constructor(details: readonly string[]) {
    super(details.join(' '));
    this.name = 'XenApiFailure';
    this.details = details;
  }
}
