/**
 * Values to documents by the serializer of `xmlrpc` 1.3.2. Its omissions are made good before it sees a value: it
 * rounds nothing and checks nothing (integers over 32 bits, NaN, undefined, bigint), writes whole floats as integers,
 * breaks on `]]>`, and writes dates in local time. There is no white space between tags: clients count on it.
 */
import { Float } from '@xenhost/sxp';
import CustomType from 'xmlrpc/lib/customtype.js';
import serializer from 'xmlrpc/lib/serializer.js';
import { DEFAULT_LIMITS } from './limits.ts';
import { XmlRpcError, XmlRpcFault, type XmlRpcValue } from './value.ts';

const typed = (tagName: string): new (raw: string) => CustomType =>
  class extends CustomType {
    override readonly tagName = tagName;
  };
const DoubleType = typed('double');
const StringType = typed('string');
const DateType = typed('dateTime.iso8601');

const INT_MIN = -(2 ** 31);
const INT_MAX = 2 ** 31 - 1;
/** What XML 1.0 cannot carry at all: most control characters, two non-characters, halves of surrogate pairs. */
/* eslint-disable no-control-regex -- the control characters are the point */
const UNSENDABLE =
  /[\0-\x08\x0B\x0C\x0E-\x1F\uFFFE\uFFFF]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;
const NEEDS_ESCAPE = /[<>&\r]/;
const METHOD_NAME = /^[A-Za-z0-9_.:/-]+$/;

/** A method call document. Throws XmlRpcError for what cannot be sent. */
export function encodeCall(method: string, params: readonly XmlRpcValue[]): string {
  if (!METHOD_NAME.test(method)) throw new XmlRpcError(`bad method name ${JSON.stringify(method)}`);
  return serializer.serializeMethodCall(
    method,
    params.map((param) => prepare(param, 0)),
  );
}

/** A response document. Throws XmlRpcError for what cannot be sent. */
export function encodeResponse(value: XmlRpcValue): string {
  return serializer.serializeMethodResponse(prepare(value, 0));
}

/** A fault document; never throws: what its text cannot carry is shown as `?`. */
export function encodeFault(fault: XmlRpcFault): string {
  const text = fault.faultString.replace(new RegExp(UNSENDABLE, 'g'), '?');
  return serializer.serializeFault({ faultCode: fault.faultCode | 0, faultString: prepare(text, 0) });
}

function prepare(value: unknown, depth: number): unknown {
  if (depth > DEFAULT_LIMITS.maxDepth) throw new XmlRpcError(`values nested deeper than ${DEFAULT_LIMITS.maxDepth}`);
  switch (typeof value) {
    case 'boolean':
      return value;
    case 'string':
      return prepareString(value);
    case 'number':
      if (!Number.isInteger(value)) throw new XmlRpcError(`${value} is not an integer: say Float where one is meant`);
      if (value < INT_MIN || value > INT_MAX) throw new XmlRpcError(`${value} exceeds the 32 bits of an XML-RPC int`);
      return value;
    case 'object':
      return value === null ? null : prepareObject(value, depth);
    default:
      throw new XmlRpcError(`XML-RPC cannot carry a value of type ${typeof value}`);
  }
}

function prepareString(text: string): unknown {
  if (UNSENDABLE.test(text)) throw new XmlRpcError('a string holds a character that XML cannot carry');
  return NEEDS_ESCAPE.test(text) ? new StringType(text) : text;
}

function prepareObject(value: object, depth: number): unknown {
  if (value instanceof Float) {
    if (!Number.isFinite(value.value)) throw new XmlRpcError(`${value.value} is not a number XML-RPC can carry`);
    return new DoubleType(doubleText(value.value));
  }
  if (value instanceof Date) return new DateType(dateText(value));
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (Array.isArray(value)) return value.map((item) => prepare(item, depth + 1));
  const struct: Record<string, unknown> = {};
  for (const [name, member] of Object.entries(value)) {
    if (name === '__proto__') throw new XmlRpcError('a member may not be called __proto__');
    if (UNSENDABLE.test(name)) throw new XmlRpcError('a member name holds a character that XML cannot carry');
    struct[name] = prepare(member, depth + 1);
  }
  return struct;
}

/** The shortest digits that give the same double again, without the exponent that the specification does not know. */
function doubleText(value: number): string {
  if (Math.abs(value) >= 1e21) return `${BigInt(value)}.0`;
  const text = String(value);
  const [mantissa = '', exponent] = text.split('e-');
  if (exponent === undefined) return text.includes('.') ? text : `${text}.0`;
  const sign = value < 0 ? '-' : '';
  return `${sign}0.${'0'.repeat(Number(exponent) - 1)}${mantissa.replace(/[-.]/g, '')}`;
}

/** `20260102T03:04:05Z`, always UTC. */
function dateText(date: Date): string {
  if (Number.isNaN(date.getTime())) throw new XmlRpcError('invalid date');
  return date
    .toISOString()
    .replaceAll('-', '')
    .replace(/\.\d+Z$/, 'Z');
}
