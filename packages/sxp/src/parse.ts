/**
 * SXP text to values: configs given with `xm create -F`, managed domains' files, saved images' headers.
 * All atoms come out as strings, as in Xen 4.4 `sxp.py`. `#` starts a comment up to the end of the line.
 */
import { pythonUnescape } from './print.ts';
import type { Sxp, SxpList } from './value.ts';

/** Lists inside lists: deeper text is refused. */
export const MAX_SXP_DEPTH = 128;

export class SxpParseError extends Error {
  /** 1-based. */
  readonly line: number;
  constructor(message: string, line: number) {
    super(`${message} (line ${line})`);
    this.name = 'SxpParseError';
    this.line = line;
  }
}

const LINE_FEED = 10;
const ATOM = /[^{}()<>[\];\s#]*/y;
const QUOTED = { "'": /[^'\\]*(?:\\[\s\S][^'\\]*)*/y, '"': /[^"\\]*(?:\\[\s\S][^"\\]*)*/y } as const;

/** Where lists of a text stand: 1-based numbers of the lines that they begin on. */
export type SxpLines = WeakMap<SxpList, number>;

/** Every value in the text, in order. `lines` is told where each list begins. Throws SxpParseError. */
export function parseAllSxp(text: string, lines?: SxpLines): Sxp[] {
  const top: Sxp[] = [];
  const open: Sxp[][] = [];
  let current = top;
  let at = 0;
  const fail = (message: string): never => {
    throw new SxpParseError(message, text.slice(0, at).split('\n').length);
  };
  let counted = 0;
  let line = 1;
  const note = (list: SxpList): void => {
    for (; counted < at; counted += 1) if (text.charCodeAt(counted) === LINE_FEED) line += 1;
    lines?.set(list, line);
  };
  const match = (pattern: RegExp, from: number): string => {
    pattern.lastIndex = from;
    return pattern.exec(text)?.[0] ?? '';
  };
  while (at < text.length) {
    const char = text.charAt(at);
    if (/\s/.test(char)) {
      at += 1;
    } else if (char === '#') {
      const end = text.indexOf('\n', at);
      at = end < 0 ? text.length : end;
    } else if (char === '(') {
      if (open.length >= MAX_SXP_DEPTH) fail('lists nested too deep');
      const list: Sxp[] = [];
      if (lines) note(list);
      current.push(list);
      open.push(current);
      current = list;
      at += 1;
    } else if (char === ')') {
      current = open.pop() ?? fail('syntax error: )');
      at += 1;
    } else if (char === "'" || char === '"') {
      const inside = match(QUOTED[char], at + 1);
      if (text.charAt(at + 1 + inside.length) !== char) fail('unexpected EOF');
      current.push(pythonUnescape(inside));
      at += inside.length + 2;
    } else if (char < ' ' || char === '\x7f') {
      fail(`invalid character: code ${char.charCodeAt(0)}`);
    } else {
      const atom = char + match(ATOM, at + 1);
      current.push(atom);
      at += atom.length;
    }
  }
  if (open.length > 0) fail('unexpected EOF');
  return top;
}

/** The only value of the text. Throws SxpParseError when there is none or more. */
export function parseSxp(text: string): Sxp {
  const all = parseAllSxp(text);
  const [value] = all;
  if (value === undefined || all.length > 1) throw new SxpParseError(`expected one expression, found ${all.length}`, 1);
  return value;
}
