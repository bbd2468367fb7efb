/** Keys that no layout moves: X11 keysyms (keysymdef.h), and scancodes of the PC's XT keyboard, to linux/input-event-codes.h. */

const run = (keysym: number, ...keycodes: readonly number[]): [number, number][] =>
  keycodes.map((keycode, i) => [keysym + i, keycode]);

// prettier-ignore
export const specialKeys: ReadonlyMap<number, number> = new Map([
  [0x20, 57], [0xa0, 57], // space
  [0xff08, 14], [0xff09, 15], [0xfe20, 15], [0xff0a, 28], [0xff0d, 28], [0xff13, 119], [0xff14, 70], [0xff15, 99],
  [0xff1b, 1], // BackSpace, Tab, ISO_Left_Tab, Linefeed, Return, Pause, Scroll_Lock, Sys_Req, Escape
  ...run(0xff50, 102, 105, 103, 106, 108, 104, 109, 107), // Home, Left, Up, Right, Down, Prior, Next, End
  [0xff61, 99], [0xff63, 110], [0xff67, 127], [0xff6b, 119], [0xff7f, 69], [0xffff, 111], // Print, Insert, Menu, Break, Num_Lock, Delete
  [0xff80, 57], [0xff89, 15], [0xff8d, 96], // KP_Space, KP_Tab, KP_Enter
  ...run(0xff95, 71, 75, 72, 77, 80, 73, 81, 79, 76, 82, 83), // KP_Home ... KP_Delete
  ...run(0xffaa, 55, 78, 121, 74, 83, 98), // KP_Multiply ... KP_Divide
  ...run(0xffb0, 82, 79, 80, 81, 75, 76, 77, 71, 72, 73), [0xffbd, 117], // KP_0 ... KP_9, KP_Equal
  ...run(0xffbe, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 87, 88), // F1 ... F12
  ...run(0xffca, 183, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194), // F13 ... F24
  [0xffe1, 42], [0xffe2, 54], [0xffe3, 29], [0xffe4, 97], [0xffe5, 58], // Shift, Control, Caps_Lock
  [0xffe7, 125], [0xffe8, 126], [0xffe9, 56], [0xffea, 100], [0xffeb, 125], [0xffec, 126], // Meta, Alt, Super
  [0xfe03, 100], [0xff7e, 100], // ISO_Level3_Shift, Mode_switch
]);

/** Dead keys, as viewers send them, by the character that is printed on the key. */
export const deadKeys: Readonly<Record<string, readonly number[]>> = {
  '`': [0xfe50],
  '´': [0xfe51],
  '^': [0xfe52],
  '~': [0xfe53],
  '¨': [0xfe57],
};

/** Scancodes from 0x54 on and those with an 0xe0 before them, which RFB writes with bit 7 set. */
// prettier-ignore
const scancodes: ReadonlyMap<number, number> = new Map([
  [0x54, 99], [0x56, 86], [0x57, 87], [0x58, 88], [0x59, 117], [0x70, 93], [0x73, 89], [0x79, 92], [0x7b, 94], [0x7d, 124],
  [0x9c, 96], [0x9d, 97], [0xb5, 98], [0xb7, 99], [0xb8, 100], [0xc6, 119], [0xc7, 102], [0xc8, 103], [0xc9, 104],
  [0xcb, 105], [0xcd, 106], [0xcf, 107], [0xd0, 108], [0xd1, 109], [0xd2, 110], [0xd3, 111], [0xdb, 125], [0xdc, 126],
  [0xdd, 127],
]);

/** Linux numbers the first keys as the PC did. */
const LAST_EQUAL_SCANCODE = 0x53;

export function keycodeOfScancode(scancode: number): number | undefined {
  if (scancode > 0 && scancode <= LAST_EQUAL_SCANCODE) return scancode;
  // Some write the prefix out.
  return scancodes.get(scancode >> 8 === 0xe0 ? (scancode & 0xff) | 0x80 : scancode);
}
