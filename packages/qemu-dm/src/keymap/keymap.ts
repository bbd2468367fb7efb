/**
 * From what a viewer says was typed to the key that a guest is told of. The guest has a layout of its own; the two should be the
 * same. Shift and AltGr are keys like others: viewers send them.
 */
import { DEFAULT_LAYOUT, layouts, type Layout } from './layouts.ts';
import { deadKeys, specialKeys } from './special-keys.ts';

const span = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);

/** Key codes of linux/input-event-codes.h in the rows of a layout. */
const KEY_ROWS: readonly (readonly number[])[] = [
  [41, ...span(2, 12)],
  span(16, 12),
  [...span(30, 11), 43],
  [86, ...span(44, 10)],
];

/** Keysyms beyond Latin-1 are characters of Unicode with this added. */
const UNICODE_KEYSYM = 0x0100_0000;
const EURO_KEYSYM = 0x20ac;

export class Keymap {
  readonly #keys = new Map<number, number>(specialKeys);

  private constructor(layout: Layout) {
    // What needs no second key is tried first.
    for (const level of [0, 1, 2] as const) {
      for (const [row, texts] of layout.entries()) {
        for (const [i, character] of Array.from(texts[level] ?? '').entries()) this.#add(character, KEY_ROWS[row]?.[i]);
      }
    }
  }

  /** By its name of qemu, the American one where none is given; undefined for one that is not here. */
  static named(name: string = DEFAULT_LAYOUT): Keymap | undefined {
    const layout = Object.hasOwn(layouts, name) ? layouts[name] : undefined;
    return layout && new Keymap(layout);
  }

  static get names(): string[] {
    return Object.keys(layouts);
  }

  /** KEY_* for an X11 keysym; undefined for what the layout has no key for. */
  keycode(keysym: number): number | undefined {
    return this.#keys.get(keysym);
  }

  #add(character: string, keycode: number | undefined): void {
    if (character === ' ' || keycode === undefined) return;
    const code = character.codePointAt(0) ?? 0;
    const keysyms = [
      ...(code < 0x100 ? [code] : [EURO_KEYSYM].filter((keysym) => keysym === code)),
      UNICODE_KEYSYM + code,
    ];
    for (const keysym of [...keysyms, ...(deadKeys[character] ?? [])]) {
      if (!this.#keys.has(keysym)) this.#keys.set(keysym, keycode);
    }
  }
}
