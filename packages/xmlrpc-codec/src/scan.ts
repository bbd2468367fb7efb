/**
 * Checks the shape of a document before the library reads it: that every element is closed and stands where XML-RPC
 * allows it, and that depth, size and number of values stay within limits. The library's own parser (sax in its loose
 * mode) closes what was left open, skips what it does not expect and builds nested values without end.
 * Not a value parser: texts of scalars are the library's and decode.ts's business.
 */
import type { XmlRpcLimits } from './limits.ts';
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

interface OpenElement {
  readonly name: string;
  readonly rule: Rule;
  count: number;
  hasText: boolean;
}

const TOKEN =
  /<(\/?)([A-Za-z][A-Za-z0-9.]*)\s*(\/?)>|<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<\?[\s\S]*?\?>|([^<]+)/gy;

/** Throws XmlRpcError unless `xml` is one whole document with the given root. */
export function checkDocument(xml: string, root: 'methodCall' | 'methodResponse', limits: XmlRpcLimits): void {
  if (xml.length > limits.maxLength) throw new XmlRpcError(`document longer than ${limits.maxLength} characters`);
  const open: OpenElement[] = [];
  let depth = 0;
  let values = 0;
  let roots = 0;
  let at = 0;

  const enter = (name: string): OpenElement => {
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
    return element;
  };
  const leave = (name: string): void => {
    const element = open.pop();
    if (element?.name !== name) throw new XmlRpcError(`</${name}> closes <${element?.name ?? ''}>`);
    if (element.count < element.rule.min) throw new XmlRpcError(`<${name}> is incomplete`);
    if (name === 'array' || name === 'struct') depth -= 1;
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
      const characters = cdata ?? text;
      if (characters !== undefined) checkText(open.at(-1), characters);
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

function checkText(element: OpenElement | undefined, text: string): void {
  if (!NOT_SPACE.test(text)) return;
  if (!element?.rule.text || element.count > 0) throw new XmlRpcError('text outside of a value');
  element.hasText = true;
}
