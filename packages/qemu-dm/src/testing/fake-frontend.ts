/** A guest with a framebuffer and a keyboard, as far as their backends can tell: pages, event channels and nodes in xenstore. */
import { bytesOf, domid as domidOf, gfn as toGfn } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { FakeBackend } from '@xenhost/privcmd/testing';
import {
  XENFB_EVENT_SIZE, XENFB_IN_RING, XENFB_OUT_RING, XENKBD_IN_RING, XenbusState, XenfbEvent, XenfbPage, XenfbPage32, XenfbResize,
  XenfbUpdate, XenkbdKey, XenkbdPosition, type EventRingLayout,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { XenstoreClient } from '@xenhost/xenstore-client';

const PAGE_BYTES = 4096;
const FB_PAGE = 16;
const KBD_PAGE = 17;
const DIRECTORIES = 32;
const FRAMES = 1000;

export interface FakeFrontendOptions {
  readonly domid: number;
  readonly width: number;
  readonly height: number;
  readonly depth?: number;
  readonly bits?: 32 | 64;
  /** Bytes of the framebuffer; what the picture needs by default. */
  readonly length?: number;
  /** Whether it says what it draws. */
  readonly tells?: boolean;
}

export class FakeFrontend {
  readonly options: Required<FakeFrontendOptions>;
  readonly fbPort: EvtchnPort;
  readonly kbdPort: EvtchnPort;
  readonly fbPage = new Uint8Array(PAGE_BYTES);
  readonly kbdPage = new Uint8Array(PAGE_BYTES);
  /** The bytes of the picture; `show` copies them into the guest's frames. */
  readonly framebuffer: Uint8Array;
  readonly stride: number;
  readonly #backend: FakeBackend;
  readonly #guest: ReturnType<FakeBackend['addGuest']>;
  readonly #xenstore: XenstoreClient;

  constructor(options: FakeFrontendOptions, modules: { backend: FakeBackend; xenstore: XenstoreClient }) {
    const { width, height, depth = 32 } = options;
    this.stride = width * { 8: 1, 16: 2, 24: 4, 32: 4 }[depth as 8 | 16 | 24 | 32];
    const length = options.length ?? this.stride * height;
    this.options = { depth, bits: 64, tells: true, ...options, length };
    this.#backend = modules.backend;
    this.#xenstore = modules.xenstore;
    this.#guest = modules.backend.addGuest(domidOf(options.domid));
    this.framebuffer = new Uint8Array(length);
    this.#makePages();
    this.fbPort = modules.backend.guestOffer(domidOf(options.domid));
    this.kbdPort = modules.backend.guestOffer(domidOf(options.domid));
  }

  get path(): string {
    return `/local/domain/${this.options.domid}`;
  }

  backendPath(deviceClass: string): string {
    return `/local/domain/0/backend/${deviceClass}/${this.options.domid}/0`;
  }

  #makePages(): void {
    const { width, height, depth, bits, length } = this.options;
    const layout = bits === 64 ? XenfbPage : XenfbPage32;
    Object.assign(layout.view(bytesOf(this.fbPage), 0), {
      width, height, line_length: this.stride, mem_length: length, depth,
    }); // prettier-ignore
    const { frames } = this.#guest;
    frames.set(toGfn(FB_PAGE), this.fbPage);
    frames.set(toGfn(KBD_PAGE), this.kbdPage);
    const entryBytes = bits / 8;
    const perDirectory = PAGE_BYTES / entryBytes;
    const nrFrames = Math.ceil(length / PAGE_BYTES);
    for (let i = 0; i < nrFrames; i++) {
      const directory = Math.floor(i / perDirectory);
      if (i % perDirectory === 0) {
        frames.set(DIRECTORIES + directory, new Uint8Array(PAGE_BYTES));
        this.setEntry(this.fbPage, layout.offsets.pd + directory * entryBytes, DIRECTORIES + directory);
      }
      const page = frames.get(DIRECTORIES + directory);
      if (page) this.setEntry(page, (i % perDirectory) * entryBytes, FRAMES + i);
      frames.set(FRAMES + i, new Uint8Array(PAGE_BYTES));
    }
  }

  setEntry(page: Uint8Array, at: number, frame: number): void {
    const view = bytesOf(page).dv;
    if (this.options.bits === 64) view.setBigUint64(at, BigInt(frame), true);
    else view.setUint32(at, frame, true);
  }

  /** Writes what the toolstack and the guest's driver write, up to Initialised. */
  async appear(nodes: Readonly<Record<string, string | number>> = {}): Promise<void> {
    await this.prepare();
    await this.initialise(nodes);
  }

  /** The toolstack's part. */
  async prepare(): Promise<void> {
    const { domid } = this.options;
    await this.#xenstore.write(`${this.path}/vm`, '/vm/x');
    await this.#xenstore.introduce(domid, 1, 1);
    for (const deviceClass of ['vfb', 'vkbd']) {
      const front = `${this.path}/device/${deviceClass}/0`;
      await this.#xenstore.write(`${front}/state`, XenbusState.Initialising);
      await this.#xenstore.transaction(async (t) => {
        const back = this.backendPath(deviceClass);
        await t.write(`${back}/frontend`, front);
        await t.write(`${back}/online`, 1);
        await t.write(`${back}/state`, XenbusState.Initialising);
      });
    }
  }

  /** The guest's part. */
  async initialise(nodes: Readonly<Record<string, string | number>> = {}): Promise<void> {
    const { bits, tells } = this.options;
    const own: [string, Record<string, string | number>][] = [
      [
        'vfb',
        {
          'page-ref': FB_PAGE,
          'event-channel': this.fbPort,
          protocol: `x86_${bits}-abi`,
          ...(tells ? { 'feature-update': 1 } : {}),
          ...nodes,
        },
      ],
      ['vkbd', { 'page-ref': KBD_PAGE, 'event-channel': this.kbdPort, 'request-abs-pointer': 1 }],
    ];
    for (const [deviceClass, values] of own) {
      const front = `${this.path}/device/${deviceClass}/0`;
      for (const [key, value] of Object.entries(values)) await this.#xenstore.write(`${front}/${key}`, value);
      await this.#xenstore.write(`${front}/state`, XenbusState.Initialised);
    }
  }

  state(deviceClass: 'vfb' | 'vkbd'): Promise<string | undefined> {
    return this.#xenstore.tryRead(`${this.backendPath(deviceClass)}/state`);
  }

  setState(deviceClass: 'vfb' | 'vkbd', state: number): Promise<void> {
    return this.#xenstore.write(`${this.path}/device/${deviceClass}/0/state`, state);
  }

  /** Makes the picture visible in the guest's frames, without a word. */
  show(): void {
    for (let at = 0; at < this.framebuffer.length; at += PAGE_BYTES) {
      this.#guest.frames.get(FRAMES + at / PAGE_BYTES)?.set(this.framebuffer.subarray(at, at + PAGE_BYTES));
    }
  }

  /** Shows the picture and tells that rows have changed. */
  draw(y = 0, height = this.options.height): void {
    this.show();
    this.#tell(XenfbUpdate.create({ type: XenfbEvent.update, x: 0, y, width: this.options.width, height }).bytes);
  }

  resize(size: { width: number; height: number; stride: number; depth: number; offset: number }): void {
    this.#tell(XenfbResize.create({ type: XenfbEvent.resize, ...size }).bytes);
  }

  setIndex(page: Uint8Array, offset: number, value: number): void {
    bytesOf(page).dv.setUint32(offset, value, true);
  }

  /** Sends the framebuffer's event channel. */
  kick(): void {
    this.#backend.guestSend(domidOf(this.options.domid), this.fbPort);
  }

  #tell(event: Uint8Array): void {
    const view = bytesOf(this.fbPage).dv;
    const prod = view.getUint32(XENFB_OUT_RING.prod, true);
    this.fbPage.set(event, XENFB_OUT_RING.base + (prod % XENFB_OUT_RING.length) * XENFB_EVENT_SIZE);
    view.setUint32(XENFB_OUT_RING.prod, prod + 1, true);
    this.kick();
  }

  /** Takes the periods that the backend has asked for. */
  periods(): number[] {
    return this.#take(this.fbPage, XENFB_IN_RING).map((event) => bytesOf(event).dv.getUint32(4, true));
  }

  /** Takes what was typed and pointed at, as short words. */
  input(): string[] {
    const events = this.#take(this.kbdPage, XENKBD_IN_RING);
    if (events.length > 0) this.#backend.guestSend(domidOf(this.options.domid), this.kbdPort);
    return events.map((event) => {
      if (event[0] === 3) {
        const { pressed, keycode } = XenkbdKey.view(bytesOf(event), 0);
        return `${pressed ? '+' : '-'}${keycode}`;
      }
      const { abs_x, abs_y, rel_z } = XenkbdPosition.view(bytesOf(event), 0);
      return `${event[0] === 4 ? '@' : 'd'}${abs_x},${abs_y}${rel_z === 0 ? '' : `,${rel_z}`}`;
    });
  }

  #take(page: Uint8Array, ring: EventRingLayout): Uint8Array[] {
    const view = bytesOf(page).dv;
    const prod = view.getUint32(ring.prod, true);
    const events: Uint8Array[] = [];
    for (let cons = view.getUint32(ring.cons, true); cons !== prod; cons = (cons + 1) >>> 0) {
      const at = ring.base + (cons % ring.length) * XENFB_EVENT_SIZE;
      events.push(page.slice(at, at + XENFB_EVENT_SIZE));
    }
    view.setUint32(ring.cons, prod, true);
    return events;
  }
}
