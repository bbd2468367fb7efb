/** Errors of the client: the server's error name, or what happened to the connection. */

/** `code` is the server's error name ('ENOENT', 'EACCES', 'EAGAIN', …) or ECONNREFUSED, ECONNRESET, ENOENT of the socket, EPROTO, ECANCELED (by a signal or `close()`), EOVERFLOW of a watch, ETIMEDOUT. */
export class XenstoreError extends Error {
  override readonly name = 'XenstoreError';
  readonly code: string;
  /** What was asked, such as `READ`. */
  readonly operation: string;
  /** The path or domain asked about. */
  readonly subject: string;

  constructor(code: string, operation: string, subject: string, options?: ErrorOptions) {
    super(`xenstore ${operation} ${subject}: ${code}`, options);
    this.code = code;
    this.operation = operation;
    this.subject = subject;
  }
}

export const isXenstoreError = (error: unknown, code?: string): error is XenstoreError =>
  error instanceof XenstoreError && (code === undefined || error.code === code);
