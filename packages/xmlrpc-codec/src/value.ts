/** What an XML-RPC document can carry, as JavaScript values, and the two ways in which a call fails. */
import type { Float } from '@xenhost/sxp';

/** Numbers are 32-bit integers; `Float` is a double, whole or not; null is `<nil/>`. */
export type XmlRpcValue =
  string | number | boolean | null | Float | Date | Uint8Array | readonly XmlRpcValue[] | XmlRpcStruct;

export interface XmlRpcStruct {
  readonly [member: string]: XmlRpcValue;
}

export interface XmlRpcCall {
  readonly method: string;
  readonly params: readonly XmlRpcValue[];
}

/** A fault as the other side sees it. */
export class XmlRpcFault extends Error {
  readonly faultCode: number;
  readonly faultString: string;
  constructor(faultCode: number, faultString: string, options?: ErrorOptions) {
    super(faultString, options);
    this.name = 'XmlRpcFault';
    this.faultCode = faultCode;
    this.faultString = faultString;
  }
}

/** A document that is not XML-RPC or over a limit, or a value that XML-RPC cannot carry. */
export class XmlRpcError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'XmlRpcError';
  }
}
