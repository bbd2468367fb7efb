/** Events of the keyboard's in ring (`kbdif.h`). */
import { XENFB_EVENT_SIZE, XenkbdEvent, XenkbdKey, XenkbdMotion, XenkbdPosition } from '@xenhost/xen-abi';

const padded = (bytes: Uint8Array): Uint8Array => {
  const event = new Uint8Array(XENFB_EVENT_SIZE);
  event.set(bytes);
  return event;
};

/** What a guest is to be told. Positions are in pixels of the screen; a wheel's turn up is -1. */
export type InputEvent =
  | { readonly kind: 'key'; readonly keycode: number; readonly pressed: boolean }
  | { readonly kind: 'motion'; readonly x: number; readonly y: number; readonly z: number }
  | { readonly kind: 'position'; readonly x: number; readonly y: number; readonly z: number };

export function encodeInput(event: InputEvent): Uint8Array {
  switch (event.kind) {
    case 'key': {
      const { keycode, pressed } = event;
      return padded(XenkbdKey.create({ type: XenkbdEvent.key, pressed: pressed ? 1 : 0, keycode }).bytes);
    }
    case 'motion': {
      const { x, y, z } = event;
      return padded(XenkbdMotion.create({ type: XenkbdEvent.motion, rel_x: x, rel_y: y, rel_z: z }).bytes);
    }
    case 'position': {
      const { x, y, z } = event;
      return padded(XenkbdPosition.create({ type: XenkbdEvent.position, abs_x: x, abs_y: y, rel_z: z }).bytes);
    }
  }
}
