/**
 * A document's tags and texts, one after the other. XML as XML-RPC uses it: elements without attributes, comments, CDATA,
 * processing instructions, references to characters and to XML's own five names. No document types.
 * It asks the engine for places and pieces (`indexOf`, `slice`, a Map), never character by character: a command reads one
 * document in a cold process, where loops of our own are interpreted.
 * Not a checker of which element may stand where: that is decode.ts.
 */
import { UNSENDABLE } from './text.ts';
import { XmlRpcError } from './value.ts';

/** `<name>` opens, `</name>` closes, `<name/>` does both. */
export interface Tag {
  readonly name: ElementName;
  readonly opens: boolean;
  readonly closes: boolean;
}

const ELEMENTS = [
  ...['methodCall', 'methodResponse', 'methodName', 'params', 'param', 'fault', 'value'],
  ...['array', 'data', 'struct', 'member', 'name'],
  ...['string', 'int', 'i4', 'i8', 'boolean', 'double', 'nil', 'base64', 'dateTime.iso8601'],
] as const;
export type ElementName = (typeof ELEMENTS)[number];

/** Tags as nearly every document writes them. */
const TAGS: ReadonlyMap<string, Tag> = new Map(
  ELEMENTS.flatMap((name): readonly (readonly [string, Tag])[] => [
    [`<${name}>`, { name, opens: true, closes: false }],
    [`</${name}>`, { name, opens: false, closes: true }],
    [`<${name}/>`, { name, opens: true, closes: true }],
  ]),
);

export interface PlainScalar {
  readonly type: 'string' | 'int' | 'double' | 'boolean';
  readonly text: string;
}

const PLAIN_SCALAR = /<(string|int|double|boolean)>([^<&]*)<\/\1><\/value>/y;
const EXCLAMATION_MARK = 0x21;
const QUESTION_MARK = 0x3f;

export class Markup {
  readonly #xml: string;
  #at = 0;

  constructor(xml: string) {
    this.#xml = xml;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#xml.length;
  }

  /** The text up to the next tag or the end, its references resolved. */
  text(): string {
    let text = '';
    for (;;) {
      const end = this.#xml.indexOf('<', this.#at);
      const next = end === -1 ? this.#xml.length : end;
      if (next > this.#at) {
        text += resolved(this.#xml.slice(this.#at, next));
        this.#at = next;
      }
      const kind = this.#xml.charCodeAt(next + 1);
      if (kind !== EXCLAMATION_MARK && kind !== QUESTION_MARK) return text;
      text += this.#characterData();
    }
  }

  /**
   * A plain scalar and the end of its value, `<int>7</int></value>`, read at once where that stands here: most of nearly
   * every document. Whatever else stands here is left for `text` and `tag`.
   */
  plainScalar(): PlainScalar | undefined {
    PLAIN_SCALAR.lastIndex = this.#at;
    const found = PLAIN_SCALAR.exec(this.#xml);
    if (found === null) return undefined;
    this.#at = PLAIN_SCALAR.lastIndex;
    return { type: found[1] as PlainScalar['type'], text: found[2] as string };
  }

  /** The tag that stands here. */
  tag(): Tag {
    const end = this.#xml.indexOf('>', this.#at);
    if (end === -1) throw new XmlRpcError(this.isAtEnd ? 'document ends too early' : 'malformed markup');
    const written = this.#xml.slice(this.#at, end + 1);
    this.#at = end + 1;
    return TAGS.get(written) ?? spacedTag(written);
  }

  /** What a CDATA section holds; comments and processing instructions hold nothing. */
  #characterData(): string {
    for (const [begin, end, counts] of SECTIONS) {
      if (!this.#xml.startsWith(begin, this.#at)) continue;
      const from = this.#at + begin.length;
      const to = this.#xml.indexOf(end, from);
      if (to === -1) break;
      this.#at = to + end.length;
      return counts ? this.#xml.slice(from, to) : '';
    }
    throw new XmlRpcError('malformed markup');
  }
}

const SECTIONS = [
  ['<!--', '-->', false],
  ['<![CDATA[', ']]>', true],
  ['<?', '?>', false],
] as const;

const SPACED_TAG = /^<(\/?)([A-Za-z][A-Za-z0-9.]*)\s*(\/?)>$/;

function spacedTag(written: string): Tag {
  const [, slash, name, lastSlash] = SPACED_TAG.exec(written) ?? [];
  if (name === undefined) throw new XmlRpcError('malformed markup');
  const tag = TAGS.get(`<${String(slash)}${name}${String(lastSlash)}>`);
  if (tag === undefined) throw new XmlRpcError(`unknown element <${name.slice(0, 40)}>`);
  return tag;
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
