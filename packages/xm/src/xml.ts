/**
 * XML as xm reads it: xm-config.xml and domain configurations for the Xen-API. Elements, attributes and text; comments
 * and processing instructions are skipped, a document type is skipped unread (no entities of its own, nothing is fetched).
 */

export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  /** All text directly inside it. */
  readonly text: string;
}

export class XmlError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'XmlError';
  }
}

const MAX_DEPTH = 64;
const MAX_ELEMENTS = 10_000;
const NAME = '[A-Za-z_:][\\w:.-]*';
const ATTRIBUTE = new RegExp(`\\s+(${NAME})\\s*=\\s*(?:"([^"<]*)"|'([^'<]*)')`, 'y');
const OPEN = new RegExp(`<(${NAME})`, 'y');
const END = /\s*(\/?)>/y;
const CLOSE = new RegExp(`</(${NAME})\\s*>`, 'y');
const SKIPPED: readonly (readonly [string, string])[] = [
  ['<!--', '-->'],
  ['<?', '?>'],
  ['<!DOCTYPE', '>'],
];
const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

interface Open {
  readonly name: string;
  readonly attributes: Record<string, string>;
  readonly children: XmlElement[];
  text: string;
}

/** The root element. Throws XmlError. */
export function parseXml(source: string): XmlElement {
  const stack: Open[] = [];
  let root: XmlElement | undefined;
  let elements = 0;
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (found) at = pattern.lastIndex;
    return found;
  };
  const add = (element: XmlElement): void => {
    const parent = stack.at(-1);
    if (parent) parent.children.push(element);
    else if (root) throw new XmlError('more than one root element');
    else root = element;
  };
  while (at < source.length) {
    const next = source.indexOf('<', at);
    const text = source.slice(at, next < 0 ? source.length : next);
    const inside = stack.at(-1);
    if (inside) inside.text += unescaped(text);
    else if (text.replace(/^\uFEFF/, '').trim() !== '') throw new XmlError('text outside the root element');
    if (next < 0) break;
    at = next;
    const skipped = SKIPPED.find(([start]) => source.startsWith(start, at));
    if (skipped) {
      const end = source.indexOf(skipped[1], at + skipped[0].length);
      if (end < 0) throw new XmlError(`${skipped[0]} without an end`);
      at = end + skipped[1].length;
      continue;
    }
    const close = match(CLOSE);
    if (close) {
      const open = stack.pop();
      if (!open || open.name !== close[1]) throw new XmlError(`</${close[1] ?? ''}> without its beginning`);
      add(open);
      continue;
    }
    const name = match(OPEN)?.[1];
    elements += 1;
    if (name === undefined || elements > MAX_ELEMENTS) throw new XmlError('bad or too many tags');
    const attributes: Record<string, string> = {};
    for (let pair = match(ATTRIBUTE); pair; pair = match(ATTRIBUTE)) {
      const [, key = '', double, single] = pair;
      if (Object.hasOwn(attributes, key) || key === '__proto__') throw new XmlError(`attribute ${key} given twice`);
      attributes[key] = unescaped(double ?? single ?? '');
    }
    const end = match(END);
    if (!end) throw new XmlError(`<${name} is not well formed`);
    const element: Open = { name, attributes, children: [], text: '' };
    if (end[1] === '/') add(element);
    else if (stack.push(element) > MAX_DEPTH) throw new XmlError('elements nested too deep');
  }
  if (!root || stack.length > 0) throw new XmlError('document ends too early');
  return root;
}

function unescaped(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w+));?/g, (whole, decimal, hex, name: string) => {
    const code = decimal ? Number(decimal) : hex ? Number.parseInt(String(hex), 16) : undefined;
    if (code !== undefined && code <= 0x10ffff) return String.fromCodePoint(code);
    const entity = Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : undefined;
    if (entity === undefined || !whole.endsWith(';')) throw new XmlError(`${whole} is not an entity`);
    return entity;
  });
}

/** All elements of that name inside another, in the order of the document. */
export function descendants(element: XmlElement, name: string): XmlElement[] {
  return [
    ...(element.name === name ? [element] : []),
    ...element.children.flatMap((child) => descendants(child, name)),
  ];
}
