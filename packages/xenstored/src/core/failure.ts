/** A client's fault, as a value: the error name that goes back to it. */
import type { XsErrorName } from '@xenhost/xs-wire';

export class XsFailure {
  readonly code: XsErrorName;
  constructor(code: XsErrorName) {
    this.code = code;
  }
}

const made = new Map<XsErrorName, XsFailure>();

export function fail(code: XsErrorName): XsFailure {
  let failure = made.get(code);
  if (!failure) made.set(code, (failure = new XsFailure(code)));
  return failure;
}

export const isFailure = (value: unknown): value is XsFailure => value instanceof XsFailure;
