/**
 * One RFB client (RFC 6143; versions 3.3, 3.7 and 3.8), whatever its bytes come over. What it gets is bounded by what it
 * asks for: one update at a time, none while the last waits to be sent. Whatever a client does wrong ends it alone.
 */
import type { Duplex } from 'node:stream';
import type { Logger } from '@xenhost/daemon-kit';
import { HANDSHAKE_MS, MAX_HELD_KEYS, MAX_QUEUED_BYTES, WRONG_PASSWORD_MS } from '../limits.ts';
import type { PointerState } from '../pvkbd/backend.ts';
import { DirtyTiles, type Rect, type Screen, type ScreenWatcher } from '../screen.ts';
import { CHALLENGE_BYTES, isRightResponse, newChallenge } from './auth.ts';
import { compressed, encodeRect, Encoding, pictureEncodings, rectHead, updateHead, type PictureEncoding } from './encodings.ts'; // prettier-ignore
import { ByteQueue, ClientMessages, type ClientMessage } from './messages.ts';
import { colourMap, decodePixelFormat, encodePixelFormat, PixelWriter, serverFormat } from './pixel-format.ts';
import { ZlibStream } from './zlib-stream.ts';

const VERSION = 'RFB 003.008\n';
const Security = { none: 1, vnc: 2 } as const;
const SecurityResult = { ok: 0, failed: 1 } as const;
/** Bits of a pointer's mask: left, middle, right, wheel up, wheel down. */
const Button = { left: 1, middle: 2, right: 4, wheelUp: 8, wheelDown: 16 } as const;

/** Where input goes. */
export interface InputSink {
  /** KEY_* for a keysym, or for the scancode that came with it; undefined for what there is no key for. */
  keycode(keysym: number, scancode: number | undefined): number | undefined;
  key(keycode: number, pressed: boolean): void;
  pointer(state: PointerState): void;
}

export interface SessionOptions {
  /** The desktop's name. */
  readonly name: string;
  /** Undefined: nobody is asked. */
  readonly password: string | undefined;
}

export interface SessionModules {
  readonly stream: Duplex;
  readonly screen: Screen;
  readonly input: InputSink;
  readonly log: Logger;
  /** The client wants the screen for itself. */
  readonly onExclusive: (session: RfbSession) => void;
  readonly onEnd: (session: RfbSession) => void;
}

type State =
  | { readonly kind: 'version' | 'initialising' | 'running' | 'ended' }
  | { readonly kind: 'choosing' }
  | { readonly kind: 'answering'; readonly challenge: Buffer };

export class RfbSession implements ScreenWatcher {
  readonly #options: SessionOptions;
  readonly #modules: SessionModules;
  readonly #queue = new ByteQueue();
  readonly #messages = new ClientMessages(this.#queue);
  readonly #handshake: NodeJS.Timeout;
  readonly #zlib = new ZlibStream();
  #state: State = { kind: 'version' };
  #minor = 8;
  #writer = new PixelWriter(serverFormat);
  #encoding: PictureEncoding = Encoding.raw;
  #canResize = false;
  /** Pseudo-encodings that the next update shall confirm. */
  #confirm: number[] = [];
  /** The size that the client knows. */
  #view = { width: 0, height: 0 };
  #dirty = new DirtyTiles({ width: 0, height: 0 });
  /** What the client has asked for and not got. */
  #request: Rect | undefined;
  #sending = false;
  /** Keys that it holds down, by what it called them. */
  readonly #held = new Map<string, number>();
  #buttons = 0;

  constructor(options: SessionOptions, modules: SessionModules) {
    this.#options = options;
    this.#modules = modules;
    const { stream } = modules;
    this.#handshake = setTimeout(() => {
      this.end('no handshake in time');
    }, HANDSHAKE_MS);
    stream.on('data', (bytes: Buffer) => {
      if (this.#state.kind === 'ended') return;
      this.#queue.push(bytes);
      this.#advance();
    });
    stream.on('drain', () => {
      if (this.waiting) modules.screen.want();
    });
    // A client that vanishes is no news.
    stream.on('error', () => undefined);
    stream.on('close', () => {
      this.end('closed');
    });
    stream.write(VERSION);
  }

  get isRunning(): boolean {
    return this.#state.kind === 'running';
  }

  /** Idempotent. */
  end(reason: string): void {
    if (this.#state.kind === 'ended') return;
    const wasRunning = this.isRunning;
    this.#state = { kind: 'ended' };
    clearTimeout(this.#handshake);
    const { stream, screen, input, log } = this.#modules;
    screen.removeWatcher(this);
    for (const keycode of this.#held.values()) input.key(keycode, false);
    if (wasRunning && this.#buttons !== 0) this.#point({ buttons: 0, ...this.#at });
    this.#held.clear();
    this.#zlib.close();
    // What was written last, such as a refusal, still goes out.
    stream.end();
    stream.resume();
    setTimeout(() => stream.destroy(), LINGER_MS).unref();
    log.info({ reason }, 'client ended');
    this.#modules.onEnd(this);
  }

  // The screen's side

  get waiting(): boolean {
    return this.isRunning && this.#request !== undefined && !this.#sending && !this.#isFull;
  }

  damaged(tiles: DirtyTiles): void {
    if (this.#isOldSize) this.#dirty.markAll();
    else this.#dirty.add(tiles);
  }

  resized(): void {
    this.#dirty.markAll();
  }

  ready(): void {
    if (!this.waiting || !this.#request) return;
    if (this.#canResize && this.#isOldSize) {
      this.#request = undefined;
      this.#resize();
      return;
    }
    const rects = this.#dirty.take(this.#request);
    if (rects.length === 0 && this.#confirm.length === 0) return;
    this.#request = undefined;
    this.#sending = true;
    this.#send(rects)
      .catch((error: unknown) => {
        if (this.isRunning) this.#modules.log.warn({ err: error }, 'cannot send an update');
        this.end('no update can be sent');
      })
      .finally(() => {
        this.#sending = false;
        if (this.waiting) this.#modules.screen.want();
      });
  }

  get #isFull(): boolean {
    return this.#modules.stream.writableLength > MAX_QUEUED_BYTES;
  }

  get #isOldSize(): boolean {
    const { screen } = this.#modules;
    return this.#view.width !== screen.width || this.#view.height !== screen.height;
  }

  /** A client that cannot follow keeps the size that it was told first: it sees the part that fits. */
  #resize(): void {
    const { width, height } = this.#modules.screen;
    this.#setView({ width, height });
    this.#write(updateHead(1), rectHead({ x: 0, y: 0, width, height }, Encoding.desktopSize));
  }

  #setView({ width, height }: { readonly width: number; readonly height: number }): void {
    this.#view = { width, height };
    this.#dirty = new DirtyTiles(this.#view);
    this.#dirty.markAll();
  }

  async #send(rects: readonly Rect[]): Promise<void> {
    const { screen } = this.#modules;
    const encoding = this.#encoding;
    const confirmed = this.#confirm.splice(0).map((each) => rectHead({ x: 0, y: 0, ...this.#view }, each));
    // All of it before the first pause: the picture may change meanwhile.
    const pieces = rects.map((rect) => encodeRect(encoding, rect, (part) => screen.region(part), this.#writer));
    const parts: Uint8Array[] = [updateHead(rects.length + confirmed.length), ...confirmed];
    for (const [i, rect] of rects.entries()) {
      const piece = pieces[i] ?? new Uint8Array(0);
      parts.push(rectHead(rect, encoding), encoding === Encoding.zrle ? await compressed(piece, this.#zlib) : piece);
    }
    if (this.isRunning) this.#write(...parts);
  }

  #write(...parts: readonly Uint8Array[]): void {
    this.#modules.stream.write(parts.length === 1 ? parts[0] : Buffer.concat(parts));
  }

  // The client's side

  #advance(): void {
    while (this.#state.kind !== 'ended' && this.#step(this.#state)) {
      // Each step takes what it needs from the queue.
    }
  }

  /** False when more has to come first. */
  #step(state: State): boolean {
    switch (state.kind) {
      case 'version':
        return this.#stepVersion();
      case 'choosing':
        return this.#stepChoice();
      case 'answering':
        return this.#stepAnswer(state.challenge);
      case 'initialising':
        return this.#stepInit();
      case 'running': {
        const message = this.#messages.next();
        if (message) this.#handle(message);
        return message !== undefined;
      }
      case 'ended':
        return false;
    }
  }

  #stepVersion(): boolean {
    const bytes = this.#queue.take(VERSION.length);
    if (!bytes) return false;
    const [, major, minor] = /^RFB (\d{3})\.(\d{3})\n$/.exec(bytes.toString('latin1')) ?? [];
    if (major === undefined || Number(major) < 3) {
      this.end('not RFB');
      return false;
    }
    // Versions that were never published count as the next lower one.
    this.#minor = Number(major) > 3 || Number(minor) >= 8 ? 8 : Number(minor) === 7 ? 7 : 3;
    const type = this.#securityType;
    if (this.#minor > 3) {
      this.#write(Uint8Array.of(1, type));
      this.#state = { kind: 'choosing' };
    } else {
      this.#write(u32(type));
      this.#beginSecurity(type);
    }
    return true;
  }

  get #securityType(): number {
    return this.#options.password === undefined ? Security.none : Security.vnc;
  }

  #stepChoice(): boolean {
    const choice = this.#queue.take(1)?.[0];
    if (choice === undefined) return false;
    if (choice === this.#securityType) this.#beginSecurity(choice);
    else this.#refuse(`security type ${choice} was not offered`);
    return true;
  }

  #beginSecurity(type: number): void {
    if (type === Security.none) {
      if (this.#minor >= 8) this.#write(u32(SecurityResult.ok));
      this.#state = { kind: 'initialising' };
      return;
    }
    const challenge = newChallenge();
    this.#write(challenge);
    this.#state = { kind: 'answering', challenge };
  }

  #stepAnswer(challenge: Buffer): boolean {
    const response = this.#queue.take(CHALLENGE_BYTES);
    if (!response) return false;
    const { password = '' } = this.#options;
    // Where a password is asked for and none is set, nobody gets in.
    if (password !== '' && isRightResponse(password, challenge, response)) {
      this.#write(u32(SecurityResult.ok));
      this.#state = { kind: 'initialising' };
      return true;
    }
    this.#modules.log.warn('wrong password');
    this.#modules.stream.pause();
    setTimeout(() => {
      this.#refuse('authentication failed');
    }, WRONG_PASSWORD_MS);
    return false;
  }

  #refuse(reason: string): void {
    if (this.#state.kind === 'ended') return;
    const text = Buffer.from(reason);
    this.#write(u32(SecurityResult.failed), ...(this.#minor >= 8 ? [u32(text.length), text] : []));
    this.end(reason);
  }

  #stepInit(): boolean {
    const shared = this.#queue.take(1)?.[0];
    if (shared === undefined) return false;
    if (shared === 0) this.#modules.onExclusive(this);
    clearTimeout(this.#handshake);
    const { screen, log } = this.#modules;
    this.#setView(screen);
    const name = Buffer.from(this.#options.name);
    const size = new Uint8Array(4);
    new DataView(size.buffer).setUint16(0, screen.width);
    new DataView(size.buffer).setUint16(2, screen.height);
    this.#write(size, encodePixelFormat(serverFormat), u32(name.length), name);
    this.#state = { kind: 'running' };
    log.info({ version: `3.${this.#minor}`, shared: shared !== 0 }, 'client');
    screen.addWatcher(this);
    return true;
  }

  #handle(message: ClientMessage): void {
    switch (message.kind) {
      case 'setPixelFormat': {
        const format = decodePixelFormat(message.format);
        if (typeof format === 'string') {
          this.end(`the client wants ${format}`);
          return;
        }
        this.#writer = new PixelWriter(format);
        if (!format.trueColour) this.#write(colourMap());
        return;
      }
      case 'setEncodings':
        this.#setEncodings(message.encodings);
        return;
      case 'updateRequest': {
        const rect = clip(message.rect, this.#view);
        if (!message.incremental) this.#dirty.markRect(rect);
        this.#request = this.#request ? around(this.#request, rect) : rect;
        if (this.waiting) this.#modules.screen.want();
        return;
      }
      case 'key':
        this.#key(message);
        return;
      case 'pointer':
        this.#point(message);
        return;
      case 'violation':
        this.end(`protocol violation: ${message.reason}`);
    }
  }

  #setEncodings(encodings: readonly number[]): void {
    this.#encoding = (encodings.find((each) => pictureEncodings.includes(each)) ?? Encoding.raw) as PictureEncoding;
    this.#canResize = encodings.includes(Encoding.desktopSize);
    this.#confirm = encodings.includes(Encoding.extendedKeyEvent) ? [Encoding.extendedKeyEvent] : [];
  }

  #key({ down, keysym, scancode }: { down: boolean; keysym: number; scancode?: number }): void {
    const { input } = this.#modules;
    const name = scancode ? `s${scancode}` : `k${keysym}`;
    if (!down) {
      const keycode = this.#held.get(name);
      if (keycode !== undefined) input.key(keycode, false);
      this.#held.delete(name);
      return;
    }
    const keycode = input.keycode(keysym, scancode);
    if (keycode === undefined || this.#held.size >= MAX_HELD_KEYS) return;
    this.#held.set(name, keycode);
    input.key(keycode, true);
  }

  #at = { x: 0, y: 0 };

  #point({ buttons, x, y }: { readonly buttons: number; readonly x: number; readonly y: number }): void {
    const { screen, input } = this.#modules;
    const pressed = buttons & ~this.#buttons;
    this.#buttons = buttons;
    this.#at = { x: Math.min(x, screen.width - 1), y: Math.min(y, screen.height - 1) };
    input.pointer({
      ...this.#at,
      buttons: [(buttons & Button.left) !== 0, (buttons & Button.middle) !== 0, (buttons & Button.right) !== 0],
      wheel: (pressed & Button.wheelDown ? 1 : 0) - (pressed & Button.wheelUp ? 1 : 0),
    });
  }
}

/** Time for a client to take what was written last. */
const LINGER_MS = 1000;

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

function clip(rect: Rect, { width, height }: { readonly width: number; readonly height: number }): Rect {
  const x = Math.min(rect.x, width);
  const y = Math.min(rect.y, height);
  return { x, y, width: Math.min(rect.width, width - x), height: Math.min(rect.height, height - y) };
}

function around(a: Rect, b: Rect): Rect {
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  const right = Math.max(a.x + a.width, b.x + b.width);
  const bottom = Math.max(a.y + a.height, b.y + b.height);
  return { x, y, width: right - x, height: bottom - y };
}
