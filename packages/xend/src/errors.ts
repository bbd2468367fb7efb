/**
 * The registry of xend's fault codes (Xen 4.4 `XendClient.py`, `XendError.py`). Everything that a caller did wrong, or that a
 * guest or device made fail, is one of these; anything else that is thrown is our bug and becomes `unexpected`.
 */
import { XmlRpcFault } from '@xenhost/xmlrpc-codec';

export const FaultCode = { unexpected: 1, xend: 2, invalidDomain: 3 } as const;

/** A request that cannot be done; the text goes to the user as it is. */
export class XendError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'XendError';
  }
}

/** No domain answers to this name, id or uuid. */
export class InvalidDomainError extends Error {
  readonly asked: string;
  constructor(asked: string) {
    super(`no domain ${asked}`);
    this.name = 'InvalidDomainError';
    this.asked = asked;
  }
}

/** A fault of code 1 that is no bug of ours: Python would have raised something that xend did not know. */
export class PlainFault extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'PlainFault';
  }
}

/** What goes over the wire for anything thrown. */
export function faultOf(error: unknown): XmlRpcFault {
  if (error instanceof XendError) return new XmlRpcFault(FaultCode.xend, error.message);
  if (error instanceof InvalidDomainError) return new XmlRpcFault(FaultCode.invalidDomain, error.asked);
  return new XmlRpcFault(FaultCode.unexpected, error instanceof Error ? error.message : String(error));
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
