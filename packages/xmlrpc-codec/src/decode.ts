/**
 * Documents to values by the deserializer of `xmlrpc` 1.3.2, told of elements by scan.ts. What it reads too loosely is
 * read here instead: numbers with rubbish behind them, doubles that must stay doubles, repeated members and `__proto__`,
 * base64, dates without a zone. All of it is synchronous.
 */
import { float } from '@xenhost/sxp';
import Deserializer from 'xmlrpc/lib/deserializer.js';
import { DEFAULT_LIMITS, RESPONSE_LIMITS, type XmlRpcLimits } from './limits.ts';
import { scanDocument } from './scan.ts';
import { XmlRpcError, XmlRpcFault, type XmlRpcCall, type XmlRpcValue } from './value.ts';

const INTEGER = /^\s*([-+]?\d{1,20})\s*$/;
const DOUBLE = /^\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*$/;
const BASE64 = /^[A-Za-z0-9+/\s]*={0,2}\s*$/;
const ZONE = /(?:Z|[-+]\d\d:?(?:\d\d)?)$/;

class CheckedDeserializer extends Deserializer {
  protected override endInt(text: string): void {
    const value = Number(INTEGER.exec(text)?.[1] ?? Number.NaN);
    if (value !== (value | 0)) throw new XmlRpcError(`not a 32-bit integer: ${excerpt(text)}`);
    this.#finish(value | 0);
  }

  protected override endI8(text: string): void {
    const value = Number(INTEGER.exec(text)?.[1] ?? Number.NaN);
    if (!Number.isSafeInteger(value)) throw new XmlRpcError(`not an integer below 2^53: ${excerpt(text)}`);
    this.#finish(value);
  }

  protected override endDouble(text: string): void {
    const value = DOUBLE.test(text) ? Number(text) : Number.NaN;
    if (!Number.isFinite(value)) throw new XmlRpcError(`not a double: ${excerpt(text)}`);
    this.#finish(float(value));
  }

  protected override endBase64(text: string): void {
    if (!BASE64.test(text)) throw new XmlRpcError('bad base64');
    this.#finish(Uint8Array.from(Buffer.from(text, 'base64')));
  }

  protected override endDateTime(text: string): void {
    const trimmed = text.trim();
    super.endDateTime(ZONE.test(trimmed) ? trimmed : `${trimmed}Z`);
    const date = this.stack.at(-1);
    if (!(date instanceof Date) || Number.isNaN(date.getTime())) throw new XmlRpcError(`not a date: ${excerpt(text)}`);
  }

  protected override endStruct(): void {
    const items = this.stack.splice(this.marks.pop() ?? 0);
    const struct: Record<string, unknown> = {};
    for (let i = 0; i < items.length; i += 2) {
      const name = String(items[i]);
      if (name === '__proto__') throw new XmlRpcError('a member may not be called __proto__');
      if (Object.hasOwn(struct, name)) throw new XmlRpcError(`member ${excerpt(name)} given twice`);
      struct[name] = items[i + 1];
    }
    this.#finish(struct);
  }

  #finish(value: unknown): void {
    this.push(value);
    this.value = false;
  }
}

const excerpt = (text: string): string => JSON.stringify(text.slice(0, 40));

/** The library's parser is not fed: scan.ts tells its handlers what it would have. They know elements in capitals. */
function read(
  xml: string,
  root: 'methodCall' | 'methodResponse',
  limits: XmlRpcLimits,
  reader: CheckedDeserializer,
): void {
  scanDocument(xml, root, limits, {
    open: (element) => {
      reader.onOpentag({ name: capitals(element) });
    },
    text: (characters) => {
      reader.onText(characters);
    },
    close: (element) => {
      reader.onClosetag(capitals(element));
    },
  });
  reader.onDone();
}

const CAPITALS = new Map<string, string>();
function capitals(element: string): string {
  let name = CAPITALS.get(element);
  if (name === undefined) CAPITALS.set(element, (name = element.toUpperCase()));
  return name;
}

/** A document is read at once: the library need not listen to a stream. */
const NO_STREAM = { setEncoding: () => undefined, on: () => undefined, pipe: () => undefined };

/** Reads a method call. Throws XmlRpcError. */
export function decodeCall(xml: string, limits: XmlRpcLimits = DEFAULT_LIMITS): XmlRpcCall {
  const reader = new CheckedDeserializer();
  return run<XmlRpcCall>((done) => {
    reader.deserializeMethodCall(NO_STREAM, (error, method, params) => {
      done(error, () => ({ method: method.trim(), params: params as XmlRpcValue[] }));
    });
    read(xml, 'methodCall', limits, reader);
  });
}

/** Reads a response. Throws XmlRpcFault when it is a fault, XmlRpcError when it is not a response. */
export function decodeResponse(xml: string, limits: XmlRpcLimits = RESPONSE_LIMITS): XmlRpcValue {
  const reader = new CheckedDeserializer();
  return run<XmlRpcValue>((done) => {
    reader.deserializeMethodResponse(NO_STREAM, (error, value) => {
      done(error, () => value as XmlRpcValue);
    });
    read(xml, 'methodResponse', limits, reader);
  });
}

/** Turns the library's callback into a value; its first word counts. */
function run<T>(start: (done: (error: Error | null, value: () => T) => void) => void): T {
  let outcome: { readonly error: Error } | { readonly value: T } | undefined;
  try {
    start((error, value) => {
      outcome ??= error ? { error } : { value: value() };
    });
  } catch (error) {
    outcome = { error: error as Error };
  }
  if (outcome === undefined) throw new XmlRpcError('document ends too early');
  if ('value' in outcome) return outcome.value;
  throw failureOf(outcome.error);
}

function failureOf(error: Error & { faultCode?: unknown; faultString?: unknown }): Error {
  if (error instanceof XmlRpcError) return error;
  if (typeof error.faultCode === 'number') return new XmlRpcFault(error.faultCode, String(error.faultString));
  return new XmlRpcError(error.message, { cause: error });
}
