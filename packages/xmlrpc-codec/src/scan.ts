/**
 * Reads the markup of a document: that every element is closed and stands where XML-RPC allows it, and that depth, size
 * and number of values stay within limits; tells a sink of elements and texts on the way. It stands in for sax, the
 * library's own parser, which in its loose mode closes what was left open, skips what it does not expect and builds
 * nested values without end, and takes most of the time of reading.
 * Not a value parser: texts of scalars are the library's and decode.ts's business.
 */
import type { XmlRpcLimits } from './limits.ts';
import { UNSENDABLE } from './text.ts';
import { XmlRpcError } from './value.ts';

interface Rule {
  /** Elements that may stand inside. */
  readonly children: readonly string[];
  /** How many of them there may be. */
  readonly min: number;
  readonly max: number;
  /** Whether children must come in the order listed, each once. */
  readonly ordered?: true;
  /** Whether text other than white space may stand inside. */
  readonly text?: true;
}

const SCALARS = ['string', 'int', 'i4', 'i8', 'boolean', 'double', 'nil', 'base64', 'dateTime.iso8601'];
const scalar: Rule = { children: [], min: 0, max: 0, text: true };

const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['methodCall', { children: ['methodName', 'params'], min: 1, max: 2, ordered: true }],
  ['methodResponse', { children: ['params', 'fault'], min: 1, max: 1 }],
  ['methodName', scalar],
  ['params', { children: ['param'], min: 0, max: Infinity }],
  ['param', { children: ['value'], min: 1, max: 1 }],
  ['fault', { children: ['value'], min: 1, max: 1 }],
  ['value', { children: [...SCALARS, 'array', 'struct'], min: 0, max: 1, text: true }],
  ['array', { children: ['data'], min: 1, max: 1 }],
  ['data', { children: ['value'], min: 0, max: Infinity }],
  ['struct', { children: ['member'], min: 0, max: Infinity }],
  ['member', { children: ['name', 'value'], min: 2, max: 2, ordered: true }],
  ['name', scalar],
  ...SCALARS.map((name) => [name, scalar] as const),
]);

/** What is told of a document while it is read; of its end only when all of it was right. */
export interface DocumentSink {
  open(element: string): void;
  /** Text with its references resolved; of a scalar only, or of a value without a type. */
  text(characters: string): void;
  close(element: string): void;
}

interface OpenElement {
  readonly name: string;
  readonly rule: Rule;
  count: number;
  hasText: boolean;
}

const TOKEN =
  /<(\/?)([A-Za-z][A-Za-z0-9.]*)\s*(\/?)>|<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<\?[\s\S]*?\?>|([^<]+)/gy;

/** Throws XmlRpcError unless `xml` is one whole document with the given root. */
export function scanDocument(
  xml: string,
  root: 'methodCall' | 'methodResponse',
  limits: XmlRpcLimits,
  sink: DocumentSink,
): void {
  if (xml.length > limits.maxLength) throw new XmlRpcError(`document longer than ${limits.maxLength} characters`);
  // What cannot be sent back must not come in: it would spoil every answer that tells of it.
  if (UNSENDABLE.test(xml)) throw new XmlRpcError('a character that XML cannot carry');
  const open: OpenElement[] = [];
  let depth = 0;
  let values = 0;
  let roots = 0;
  let at = 0;

  const enter = (name: string): void => {
    const parent = open.at(-1);
    if (parent === undefined) {
      if (roots > 0) throw new XmlRpcError(`<${name}> after the end of the document`);
      if (name !== root) throw new XmlRpcError(`expected <${root}> and found <${name}>`);
      roots += 1;
    } else {
      place(parent, name);
    }
    const rule = RULES.get(name);
    if (rule === undefined) throw new XmlRpcError(`unknown element <${name}>`);
    if (name === 'value' && ++values > limits.maxValues) throw new XmlRpcError(`more than ${limits.maxValues} values`);
    if ((name === 'array' || name === 'struct') && ++depth > limits.maxDepth) {
      throw new XmlRpcError(`values nested deeper than ${limits.maxDepth}`);
    }
    const element = { name, rule, count: 0, hasText: false };
    open.push(element);
    sink.open(name);
  };
  const leave = (name: string): void => {
    const element = open.pop();
    if (element?.name !== name) throw new XmlRpcError(`</${name}> closes <${element?.name ?? ''}>`);
    if (element.count < element.rule.min) throw new XmlRpcError(`<${name}> is incomplete`);
    if (name === 'array' || name === 'struct') depth -= 1;
    sink.close(name);
  };

  TOKEN.lastIndex = 0;
  for (let token = TOKEN.exec(xml); token !== null; token = TOKEN.exec(xml)) {
    at = TOKEN.lastIndex;
    const [, closing, name, selfClosing, cdata, text] = token as (string | undefined)[];
    if (name !== undefined) {
      if (closing === '/') {
        leave(name);
      } else {
        enter(name);
        if (selfClosing === '/') leave(name);
      }
    } else {
      const characters = cdata ?? (text === undefined ? undefined : resolved(text));
      if (characters !== undefined && checkText(open.at(-1), characters)) sink.text(characters);
    }
  }
  if (at !== xml.length) throw new XmlRpcError('malformed markup');
  const unclosed = open.at(-1);
  if (unclosed) throw new XmlRpcError(`document ends inside <${unclosed.name}>`);
  if (roots === 0) throw new XmlRpcError('empty document');
}

function place(parent: OpenElement, name: string): void {
  const { rule } = parent;
  const allowed = rule.ordered ? rule.children[parent.count] === name : rule.children.includes(name);
  if (!allowed || parent.count >= rule.max) throw new XmlRpcError(`<${name}> does not belong in <${parent.name}>`);
  if (parent.hasText) throw new XmlRpcError(`text beside <${name}>`);
  parent.count += 1;
}

const NOT_SPACE = /[^ \t\r\n\uFEFF]/;

/** Whether the text counts: white space between elements does not. */
function checkText(element: OpenElement | undefined, text: string): boolean {
  if (element?.rule.text && element.count === 0) {
    element.hasText ||= NOT_SPACE.test(text);
    return true;
  }
  if (NOT_SPACE.test(text)) throw new XmlRpcError('text outside of a value');
  return false;
}

const REFERENCE = /&(?:#x([0-9a-fA-F]{1,6})|#(\d{1,7})|([a-z]{2,4}));|&/g;
const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
const MAX_CODE_POINT = 0x10ffff;

/** References become what they stand for. Only XML's own five names are known: a document cannot declare others. */
function resolved(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(REFERENCE, (whole, hex?: string, decimal?: string, name?: string) => {
    if (name !== undefined) {
      const character = ENTITIES[name];
      if (character === undefined) throw new XmlRpcError(`unknown entity ${whole}`);
      return character;
    }
    const digits = hex ?? decimal;
    const code = digits === undefined ? Number.NaN : Number.parseInt(digits, hex === undefined ? 10 : 16);
    if (!(code <= MAX_CODE_POINT)) throw new XmlRpcError('a & that begins no reference');
    const character = String.fromCodePoint(code);
    if (UNSENDABLE.test(character)) throw new XmlRpcError(`a character that XML cannot carry: ${whole}`);
    return character;
  });
}
