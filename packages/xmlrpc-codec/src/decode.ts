/**
 * Documents to values, in one pass over markup.ts. Every element must be closed and stand where XML-RPC allows it; depth,
 * size and number of values stay within limits. Not by the deserializer of `xmlrpc` 1.3.2: its parser closes what was left
 * open and skips what it does not expect, it reads numbers with rubbish behind them, makes whole doubles integers, lets the
 * last of two members of one name win, and takes ten times the time (docs/RATIONALE.md).
 */
import { float } from '@xenhost/sxp';
import { DEFAULT_LIMITS, RESPONSE_LIMITS, type XmlRpcLimits } from './limits.ts';
import { Markup, type ElementName, type Tag } from './markup.ts';
import { UNSENDABLE } from './text.ts';
import { XmlRpcError, XmlRpcFault, type XmlRpcCall, type XmlRpcStruct, type XmlRpcValue } from './value.ts';

const INTEGER = /^\s*[-+]?\d{1,20}\s*$/;
const DOUBLE = /^\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*$/;
const BASE64 = /^[A-Za-z0-9+/\s]*={0,2}\s*$/;
const DATE = /^\s*(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?(\d\d):?(\d\d)(?:\.(\d{1,3})\d*)?(?:Z|([-+]\d\d)(?::?(\d\d))?)?\s*$/;
/** White space between elements; a byte order mark may stand in front. */
const NOT_SPACE = /[^ \t\r\n\uFEFF]/;

/** Reads a method call. Throws XmlRpcError. */
export function decodeCall(xml: string, limits: XmlRpcLimits = DEFAULT_LIMITS): XmlRpcCall {
  return new DocumentReader(xml, limits).call();
}

/** Reads a response. Throws XmlRpcFault when it is a fault, XmlRpcError when it is not a response. */
export function decodeResponse(xml: string, limits: XmlRpcLimits = RESPONSE_LIMITS): XmlRpcValue {
  return new DocumentReader(xml, limits).response();
}

class DocumentReader {
  readonly #markup: Markup;
  readonly #limits: XmlRpcLimits;
  #depth = 0;
  #values = 0;

  constructor(xml: string, limits: XmlRpcLimits) {
    if (xml.length > limits.maxLength) throw new XmlRpcError(`document longer than ${limits.maxLength} characters`);
    // What cannot be sent back must not come in: it would spoil every answer that tells of it.
    if (UNSENDABLE.test(xml)) throw new XmlRpcError('a character that XML cannot carry');
    this.#markup = new Markup(xml);
    this.#limits = limits;
  }

  call(): XmlRpcCall {
    this.#open('methodCall');
    const method = this.#scalarText(this.#expected('methodName')).trim();
    if (method === '') throw new XmlRpcError('a call without the name of a method');
    const next = this.#next();
    let params: XmlRpcValue[] = [];
    if (next.opens) {
      params = this.#params(next);
      this.#close('methodCall');
    } else this.#checkClosed(next, 'methodCall');
    this.#end();
    return { method, params };
  }

  response(): XmlRpcValue {
    this.#open('methodResponse');
    const tag = this.#next();
    if (tag.name === 'fault' && tag.opens && !tag.closes) {
      const fault = this.#valueOf(this.#expected('value'));
      this.#close('fault');
      this.#close('methodResponse');
      this.#end();
      throw faultOf(fault);
    }
    const [value, ...others] = this.#params(tag);
    this.#close('methodResponse');
    this.#end();
    if (value === undefined || others.length > 0) throw new XmlRpcError('a response has one value');
    return value;
  }

  #params(tag: Tag): XmlRpcValue[] {
    if (tag.name !== 'params' || !tag.opens) throw new XmlRpcError(`<${tag.name}> where <params> is due`);
    const params: XmlRpcValue[] = [];
    if (tag.closes) return params;
    for (;;) {
      const next = this.#next();
      if (!next.opens) {
        this.#checkClosed(next, 'params');
        return params;
      }
      if (next.name !== 'param' || next.closes) throw misplaced(next, 'params');
      params.push(this.#valueOf(this.#expected('value')));
      this.#close('param');
    }
  }

  /** The value that a `<value>` begins; without a type it is its text. */
  #valueOf(tag: Tag): XmlRpcValue {
    if (++this.#values > this.#limits.maxValues) throw new XmlRpcError(`more than ${this.#limits.maxValues} values`);
    if (tag.closes) return '';
    const plain = this.#markup.plainScalar();
    if (plain !== undefined) return SCALARS[plain.type](plain.text);
    const text = this.#markup.text();
    const type = this.#markup.tag();
    if (!type.opens) {
      this.#checkClosed(type, 'value');
      return text;
    }
    if (text !== '' && NOT_SPACE.test(text)) throw new XmlRpcError(`text beside <${type.name}>`);
    const value = this.#typed(type);
    this.#close('value');
    return value;
  }

  #typed(type: Tag): XmlRpcValue {
    switch (type.name) {
      case 'string':
        return this.#scalarText(type);
      case 'int':
      case 'i4':
        return integer(this.#scalarText(type));
      case 'i8':
        return longInteger(this.#scalarText(type));
      case 'boolean':
        return boolean(this.#scalarText(type));
      case 'double':
        return double(this.#scalarText(type));
      case 'nil':
        this.#scalarText(type);
        return null;
      case 'base64':
        return bytes(this.#scalarText(type));
      case 'dateTime.iso8601':
        return date(this.#scalarText(type));
      case 'array':
        return this.#nested(type, () => this.#array());
      case 'struct':
        return this.#nested(type, () => this.#struct(type));
      default:
        throw misplaced(type, 'value');
    }
  }

  #nested<T>(type: Tag, read: () => T): T {
    if (++this.#depth > this.#limits.maxDepth) {
      throw new XmlRpcError(`values nested deeper than ${this.#limits.maxDepth}`);
    }
    if (type.closes && type.name === 'array') throw new XmlRpcError('<array> is incomplete');
    const value = read();
    this.#depth -= 1;
    return value;
  }

  #array(): XmlRpcValue[] {
    const items: XmlRpcValue[] = [];
    const data = this.#expected('data');
    if (!data.closes) {
      let tag = this.#next();
      while (tag.opens) {
        if (tag.name !== 'value') throw misplaced(tag, 'data');
        items.push(this.#valueOf(tag));
        tag = this.#next();
      }
      this.#checkClosed(tag, 'data');
    }
    this.#close('array');
    return items;
  }

  #struct(type: Tag): XmlRpcStruct {
    const struct: Record<string, XmlRpcValue> = {};
    if (type.closes) return struct;
    for (;;) {
      const tag = this.#next();
      if (!tag.opens) {
        this.#checkClosed(tag, 'struct');
        return struct;
      }
      if (tag.name !== 'member' || tag.closes) throw misplaced(tag, 'struct');
      const name = this.#scalarText(this.#expected('name'));
      if (name === '__proto__') throw new XmlRpcError('a member may not be called __proto__');
      if (Object.hasOwn(struct, name)) throw new XmlRpcError(`member ${excerpt(name)} given twice`);
      struct[name] = this.#valueOf(this.#expected('value'));
      this.#close('member');
    }
  }

  /** The text of an element that holds nothing else. */
  #scalarText(tag: Tag): string {
    if (tag.closes) return '';
    const text = this.#markup.text();
    this.#checkClosed(this.#markup.tag(), tag.name);
    return text;
  }

  /** The next tag; nothing but white space may stand in front of it. */
  #next(): Tag {
    this.#skipSpace();
    return this.#markup.tag();
  }

  #skipSpace(): void {
    const text = this.#markup.text();
    if (text !== '' && NOT_SPACE.test(text)) throw new XmlRpcError('text outside of a value');
  }

  #open(name: ElementName): void {
    if (this.#expected(name).closes) throw new XmlRpcError(`<${name}> is incomplete`);
  }

  #expected(name: ElementName): Tag {
    const tag = this.#next();
    if (tag.name !== name || !tag.opens) throw new XmlRpcError(`expected <${name}> and found ${shown(tag)}`);
    return tag;
  }

  #close(name: ElementName): void {
    this.#checkClosed(this.#next(), name);
  }

  #checkClosed(tag: Tag, name: ElementName): void {
    if (tag.name !== name || tag.opens) throw new XmlRpcError(`${shown(tag)} where </${name}> is due`);
  }

  #end(): void {
    this.#skipSpace();
    if (!this.#markup.isAtEnd) throw new XmlRpcError(`${shown(this.#markup.tag())} after the end of the document`);
  }
}

const shown = (tag: Tag): string => `<${tag.opens ? '' : '/'}${tag.name}>`;
const misplaced = (tag: Tag, parent: ElementName): XmlRpcError =>
  new XmlRpcError(`<${tag.name}> does not belong in <${parent}>`);
const excerpt = (text: string): string => JSON.stringify(text.slice(0, 40));

const SCALARS = { string: (text: string) => text, int: integer, double, boolean } as const;

function integer(text: string): number {
  const value = INTEGER.test(text) ? Number(text) : Number.NaN;
  if (value !== (value | 0)) throw new XmlRpcError(`not a 32-bit integer: ${excerpt(text)}`);
  return value | 0;
}

function longInteger(text: string): number {
  const value = INTEGER.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new XmlRpcError(`not an integer below 2^53: ${excerpt(text)}`);
  return value;
}

function boolean(text: string): boolean {
  if (text !== '0' && text !== '1') throw new XmlRpcError(`not a boolean: ${excerpt(text)}`);
  return text === '1';
}

function double(text: string): XmlRpcValue {
  const value = DOUBLE.test(text) ? Number(text) : Number.NaN;
  if (!Number.isFinite(value)) throw new XmlRpcError(`not a double: ${excerpt(text)}`);
  return float(value);
}

function bytes(text: string): Uint8Array {
  if (!BASE64.test(text)) throw new XmlRpcError('bad base64');
  return Uint8Array.from(Buffer.from(text, 'base64'));
}

/** Without a zone it is UTC. */
function date(text: string): Date {
  const [, year, month, day, hour, minute, second, fraction = '0', zone = '+00', zoneMinutes = '00'] =
    DATE.exec(text) ?? [];
  const time = `${String(hour)}:${String(minute)}:${String(second)}.${fraction.padEnd(3, '0')}`;
  const value = new Date(`${String(year)}-${String(month)}-${String(day)}T${time}${zone}:${zoneMinutes}`);
  if (Number.isNaN(value.getTime())) throw new XmlRpcError(`not a date: ${excerpt(text)}`);
  return value;
}

function faultOf(value: XmlRpcValue): Error {
  const { faultCode, faultString } = (value ?? {}) as { readonly faultCode?: unknown; readonly faultString?: unknown };
  if (typeof faultCode === 'number') return new XmlRpcFault(faultCode, String(faultString));
  return new XmlRpcError('a fault without a code');
}
