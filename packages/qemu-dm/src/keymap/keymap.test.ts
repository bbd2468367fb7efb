import { Keymap } from './keymap.ts';
import { layouts } from './layouts.ts';
import { keycodeOfScancode } from './special-keys.ts';

const keysym = (character: string): number => character.charCodeAt(0);

test.each([
  ['en-us', 'a', 30],
  ['en-us', 'A', 30],
  ['en-us', '@', 3],
  ['en-us', '<', 51],
  ['en-us', '\\', 43],
  ['en-us', 'z', 44],
  ['en-gb', '"', 3],
  ['en-gb', '#', 43],
  ['en-gb', '\\', 86],
  ['de', 'z', 21],
  ['de', 'ö', 39],
  ['de', '@', 16],
  ['de', '<', 86],
  ['de', '-', 53],
  ['fr', 'a', 16],
  ['fr', '1', 2],
  ['fr', 'm', 39],
  ['es', 'ñ', 39],
  ['it', 'è', 26],
  ['pt', 'ç', 39],
  ['sv', 'å', 26],
  ['da', 'ø', 40],
  ['no', 'ø', 39],
])('%s: %s is key %i', (name, character, keycode) => {
  expect(Keymap.named(name)?.keycode(keysym(character))).toBe(keycode);
});

test.each(Object.entries(layouts))('%s has every letter and digit, and a character for each key', (name, layout) => {
  const keymap = Keymap.named(name);
  for (const character of 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,.-/') {
    expect([character, keymap?.keycode(keysym(character))]).toEqual([character, expect.any(Number)]);
  }
  for (const [row, length] of [13, 12, 12, 11].entries()) {
    for (const texts of layout[row] ?? []) expect([row, texts?.length]).toEqual([row, length]);
  }
});

test('keys that no layout moves, dead keys, characters of Unicode', () => {
  const us = Keymap.named();
  expect([0xff0d, 0xff1b, 0xffc9, 0xff52, 0xffe1, 0xffff, 0xffb7].map((each) => us?.keycode(each))).toEqual([
    28, 1, 88, 103, 42, 111, 71,
  ]);
  expect(us?.keycode(0x0100_0061)).toBe(30);
  expect(us?.keycode(keysym('é'))).toBeUndefined();
  const de = Keymap.named('de');
  expect([0xfe52, 0xfe51, 0x20ac, 0x0100_20ac].map((each) => de?.keycode(each))).toEqual([41, 13, 18, 18]);
  expect(Keymap.named('toString')).toBeUndefined();
});

test.each([
  [0x1e, 30],
  [0x53, 83],
  [0x56, 86],
  [0xc8, 103],
  [0xe048, 103],
  [0xb8, 100],
  [0, undefined],
  [0x7f, undefined],
  [0xffffffff, undefined],
])('scancode %i is key %s', (scancode, keycode) => {
  expect(keycodeOfScancode(scancode)).toBe(keycode);
});
