/** The backend of a virtual keyboard and pointer (`xen/include/public/io/kbdif.h`). Multi-touch is not offered. */
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { XENKBD_IN_RING, XENKBD_OUT_RING } from '@xenhost/xen-abi';
import { EventPage } from '../device/event-page.ts';
import { openRingPage } from '../device/ring-page.ts';
import { FrontendFault, type FrontendNodes, type SplitDriver } from '../device/split-device.ts';
import { encodeInput } from './events.ts';
import { InputQueue } from './input-queue.ts';

/** `BTN_LEFT`, `BTN_MIDDLE`, `BTN_RIGHT` of linux/input-event-codes.h, in the order of RFB's button mask. */
const BUTTONS = [0x110, 0x112, 0x111] as const;

/** One state of the pointer, in pixels of the screen. */
export interface PointerState {
  readonly x: number;
  readonly y: number;
  /** Left, middle, right. */
  readonly buttons: readonly [boolean, boolean, boolean];
  /** Turns of the wheel since the last state; up is negative. */
  readonly wheel: number;
}

export interface VkbdModules {
  readonly privcmd: PrivcmdPort;
  readonly log: Logger;
}

export class Vkbd implements SplitDriver {
  readonly features = { 'feature-abs-pointer': 1 };
  readonly #options: { readonly domid: number };
  readonly #modules: VkbdModules;
  readonly #queue = new InputQueue();
  #connection: { readonly ring: EventPage; readonly absolute: boolean; end(): Promise<void> } | undefined;
  #pointer = { x: 0, y: 0 };

  constructor(options: { readonly domid: number }, modules: VkbdModules) {
    this.#options = options;
    this.#modules = modules;
  }

  async connect(frontend: FrontendNodes): Promise<Record<string, number>> {
    const { privcmd, log } = this.#modules;
    const absolute = (await frontend.read('request-abs-pointer')) === '1';
    const { page, port } = await openRingPage(this.#options.domid, frontend, privcmd);
    this.#queue.clear();
    const ring = await EventPage.open(
      { page, port, in: XENKBD_IN_RING, out: XENKBD_OUT_RING },
      { privcmd, pull: (room) => this.#queue.take(room).map(encodeInput) },
    );
    if (!ring) {
      await privcmd.unbind(port).catch(() => undefined);
      throw new FrontendFault('its page cannot be read');
    }
    const stopEvents = privcmd.onEvent((raised) => {
      if (raised !== port) return;
      ring.send();
      // Nothing is defined that a frontend could say; it is taken all the same.
      ring.take().catch((error: unknown) => {
        log.warn({ err: error }, 'keyboard ring');
      });
    });
    this.#connection = {
      ring,
      absolute,
      end: async () => {
        stopEvents();
        ring.close();
        await privcmd.unbind(port).catch(() => undefined);
      },
    };
    log.info({ absolute }, 'keyboard');
    return {};
  }

  async disconnect(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.end();
  }

  /** `keycode`: KEY_* of linux/input-event-codes.h. Input for a guest that has no keyboard yet is lost. */
  key(keycode: number, pressed: boolean): void {
    if (!this.#connection) return;
    this.#queue.push({ kind: 'key', keycode, pressed });
    this.#connection.ring.send();
  }

  pointer({ x, y, buttons, wheel }: PointerState): void {
    const before = this.#pointer;
    this.#pointer = { x, y };
    if (!this.#connection) return;
    if (this.#connection.absolute) {
      if (x !== before.x || y !== before.y || wheel !== 0) this.#queue.push({ kind: 'position', x, y, z: wheel });
    } else if (x !== before.x || y !== before.y || wheel !== 0) {
      this.#queue.push({ kind: 'motion', x: x - before.x, y: y - before.y, z: wheel });
    }
    for (const [i, keycode] of BUTTONS.entries()) {
      this.#queue.push({ kind: 'key', keycode, pressed: buttons[i] === true });
    }
    this.#connection.ring.send();
  }
}
