/**
 * A small VNC client (RFC 6143, version 3.8 by default) for tests: keeps the picture, types, moves the pointer. Understands Raw,
 * Hextile, ZRLE and DesktopSize with 32-bit pixels; asks for the next update as soon as one has come.
 */
import { createCipheriv } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { constants, crc32, createInflate, deflateSync } from 'node:zlib';

export interface RfbClientOptions {
  readonly version?: '003.003' | '003.007' | '003.008';
  readonly password?: string;
  readonly shared?: boolean;
  /** In order of preference; default Raw. */
  readonly encodings?: readonly number[];
}

export const RfbEncoding = { raw: 0, hextile: 5, zrle: 16, desktopSize: -223, extendedKeyEvent: -258 } as const;

const ENCODINGS = [RfbEncoding.raw, RfbEncoding.desktopSize];
const HEXTILE = 16;
const ZRLE_TILE = 64;
const SHIFT_KEYSYM = 0xffe1;
const RETURN_KEYSYM = 0xff0d;

/** Bytes as they come, for a reader that waits for so many at a time. */
class ByteReader {
  readonly #stream: Duplex;
  #bytes = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #ended = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (bytes: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes]);
      this.#wake?.();
    });
    for (const event of ['end', 'close', 'error']) {
      stream.on(event, () => {
        this.#ended = true;
        this.#wake?.();
      });
    }
  }

  /** Rejects when the stream ends first. */
  async read(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) {
      if (this.#ended) throw new Error(`the server closed the connection (${this.#bytes.length} of ${count} bytes)`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  destroy(): void {
    this.#stream.destroy();
  }
}

export class RfbClient {
  width = 0;
  height = 0;
  name = '';
  /** 0x00RRGGBB, row by row. */
  pixels = new Uint32Array(0);
  /** Updates that have come. */
  updates = 0;
  /** Bytes of rectangles that have come. */
  bytes = 0;
  readonly #stream: Duplex;
  readonly #reader: ByteReader;
  readonly #inflate = createInflate({ finishFlush: constants.Z_SYNC_FLUSH });
  #inflated: Buffer[] = [];
  #closed = false;
  /** Resolves when the connection has ended, with what it ended by. */
  readonly ended: Promise<Error | undefined>;
  #finish: (error?: Error) => void = () => undefined;

  private constructor(stream: Duplex) {
    this.#stream = stream;
    this.#reader = new ByteReader(stream);
    this.#inflate.on('data', (bytes: Buffer) => this.#inflated.push(bytes));
    this.#inflate.on('error', (error) => stream.destroy(error));
    this.ended = new Promise((resolve) => (this.#finish = resolve));
  }

  /** Goes through the handshake over a connected stream and begins to follow the screen. Rejects with the server's reason. */
  static async connect(stream: Duplex, options: RfbClientOptions = {}): Promise<RfbClient> {
    const client = new RfbClient(stream);
    try {
      await client.#handshake(options);
    } catch (error) {
      client.close();
      throw error;
    }
    client.#follow().catch((error: unknown) => {
      client.#finish(client.#closed ? undefined : (error as Error));
    });
    return client;
  }

  close(): void {
    this.#closed = true;
    this.#reader.destroy();
    this.#inflate.destroy();
  }

  /** Whether any pixel differs from the first. */
  get isBlank(): boolean {
    return this.pixels.every((pixel) => pixel === this.pixels[0]);
  }

  /** The picture as a PNG file. */
  png(): Buffer {
    const head = Buffer.alloc(13);
    head.writeUInt32BE(this.width, 0);
    head.writeUInt32BE(this.height, 4);
    head.set([8, 2], 8); // eight bits each of red, green and blue
    const rows = Buffer.alloc(this.height * (1 + this.width * 3));
    for (const [i, pixel] of this.pixels.entries()) {
      rows.writeUIntBE(pixel & 0xffffff, 1 + Math.floor(i / this.width) + i * 3, 3);
    }
    const parts: [string, Buffer][] = [
      ['IHDR', head],
      ['IDAT', deflateSync(rows)],
      ['IEND', Buffer.alloc(0)],
    ];
    return Buffer.concat([PNG_SIGNATURE, ...parts.map(pngChunk)]);
  }

  key(keysym: number, down: boolean): void {
    const message = Buffer.alloc(8);
    message[0] = 4;
    message[1] = down ? 1 : 0;
    message.writeUInt32BE(keysym, 4);
    this.#stream.write(message);
  }

  /** Types a line as a person does, with Shift where the American layout needs it. */
  async type(text: string): Promise<void> {
    for (const character of text) {
      const keysym = character === '\n' ? RETURN_KEYSYM : (character.codePointAt(0) ?? 0);
      const shifted = /[A-Z~!@#$%^&*()_+{}:"|<>?]/.test(character);
      if (shifted) this.key(SHIFT_KEYSYM, true);
      this.key(keysym, true);
      this.key(keysym, false);
      if (shifted) this.key(SHIFT_KEYSYM, false);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** `buttons`: 1 left, 2 middle, 4 right, 8 and 16 the wheel. */
  pointer(x: number, y: number, buttons = 0): void {
    const message = Buffer.alloc(6);
    message[0] = 5;
    message[1] = buttons;
    message.writeUInt16BE(x, 2);
    message.writeUInt16BE(y, 4);
    this.#stream.write(message);
  }

  async #handshake({
    version = '003.008',
    password,
    shared = true,
    encodings = ENCODINGS,
  }: RfbClientOptions): Promise<void> {
    const reader = this.#reader;
    await reader.read(12);
    this.#stream.write(`RFB ${version}\n`);
    const security = await this.#chooseSecurity(version, password !== undefined);
    if (security === 2) {
      const challenge = await reader.read(16);
      this.#stream.write(vncResponse(password ?? '', challenge));
    }
    if (security === 2 || version === '003.008') {
      if ((await reader.read(4)).readUInt32BE(0) !== 0) throw new Error(await this.#reason(version));
    }
    this.#stream.write(Uint8Array.of(shared ? 1 : 0));
    const init = await reader.read(24);
    this.#resize(init.readUInt16BE(0), init.readUInt16BE(2));
    this.name = (await reader.read(init.readUInt32BE(20))).toString();
    const list = Buffer.alloc(4 + 4 * encodings.length);
    list[0] = 2;
    list.writeUInt16BE(encodings.length, 2);
    for (const [i, encoding] of encodings.entries()) list.writeInt32BE(encoding, 4 + 4 * i);
    this.#stream.write(list);
    this.#request(false);
  }

  async #chooseSecurity(version: string, wantsPassword: boolean): Promise<number> {
    if (version === '003.003') {
      const type = (await this.#reader.read(4)).readUInt32BE(0);
      if (type === 0) throw new Error(await this.#reason('003.008'));
      return type;
    }
    const [count = 0] = await this.#reader.read(1);
    if (count === 0) throw new Error(await this.#reason('003.008'));
    const types = await this.#reader.read(count);
    const type = wantsPassword && types.includes(2) ? 2 : (types[0] ?? 0);
    this.#stream.write(Uint8Array.of(type));
    return type;
  }

  async #reason(version: string): Promise<string> {
    if (version !== '003.008') return 'refused';
    const length = (await this.#reader.read(4)).readUInt32BE(0);
    return (await this.#reader.read(length)).toString();
  }

  #request(incremental: boolean): void {
    const message = Buffer.alloc(10);
    message[0] = 3;
    message[1] = incremental ? 1 : 0;
    message.writeUInt16BE(this.width, 6);
    message.writeUInt16BE(this.height, 8);
    this.#stream.write(message);
  }

  async #follow(): Promise<never> {
    for (;;) {
      const [type] = await this.#reader.read(1);
      if (type !== 0) throw new Error(`message type ${String(type)} of the server`);
      const count = (await this.#reader.read(3)).readUInt16BE(1);
      let resized = false;
      for (let i = 0; i < count; i++) resized = (await this.#rect()) || resized;
      this.updates++;
      this.#request(!resized);
    }
  }

  /** Whether the screen has another size now. */
  async #rect(): Promise<boolean> {
    const head = await this.#reader.read(12);
    const [x, y, width, height] = [0, 2, 4, 6].map((at) => head.readUInt16BE(at)) as [number, number, number, number];
    switch (head.readInt32BE(8)) {
      case RfbEncoding.raw:
        this.#put(x, y, width, pixelsOf(await this.#counted(width * height * 4)));
        return false;
      case RfbEncoding.hextile:
        await this.#hextile(x, y, width, height);
        return false;
      case RfbEncoding.zrle:
        this.#zrle(x, y, width, height, await this.#inflateNext());
        return false;
      case RfbEncoding.desktopSize:
        this.#resize(width, height);
        return true;
      case RfbEncoding.extendedKeyEvent:
        return false;
      default:
        throw new Error(`encoding ${head.readInt32BE(8)} was not asked for`);
    }
  }

  async #counted(count: number): Promise<Buffer> {
    this.bytes += count;
    return this.#reader.read(count);
  }

  #resize(width: number, height: number): void {
    this.width = width;
    this.height = height;
    this.pixels = new Uint32Array(width * height);
  }

  #put(x: number, y: number, width: number, source: Uint32Array): void {
    for (let row = 0; row * width < source.length; row++) {
      this.pixels.set(source.subarray(row * width, (row + 1) * width), (y + row) * this.width + x);
    }
  }

  #fill(x: number, y: number, width: number, height: number, pixel: number): void {
    this.#put(x, y, width, new Uint32Array(width * height).fill(pixel));
  }

  async #hextile(left: number, top: number, width: number, height: number): Promise<void> {
    let background = 0;
    let foreground = 0;
    const pixel = async (): Promise<number> => (await this.#counted(4)).readUInt32LE(0);
    for (let y = 0; y < height; y += HEXTILE) {
      for (let x = 0; x < width; x += HEXTILE) {
        const [w, h] = [Math.min(HEXTILE, width - x), Math.min(HEXTILE, height - y)];
        const [flags = 0] = await this.#counted(1);
        if (flags & 1) {
          this.#put(left + x, top + y, w, pixelsOf(await this.#counted(w * h * 4)));
          continue;
        }
        if (flags & 2) background = await pixel();
        if (flags & 4) foreground = await pixel();
        this.#fill(left + x, top + y, w, h, background);
        const [count = 0] = flags & 8 ? await this.#counted(1) : [];
        for (let i = 0; i < count; i++) {
          const colour = flags & 16 ? await pixel() : foreground;
          const [place = 0, size = 0] = await this.#counted(2);
          this.#fill(left + x + (place >> 4), top + y + (place & 15), (size >> 4) + 1, (size & 15) + 1, colour);
        }
      }
    }
  }

  async #inflateNext(): Promise<Buffer> {
    const length = (await this.#counted(4)).readUInt32BE(0);
    const data = await this.#counted(length);
    await new Promise<void>((resolve) => {
      this.#inflate.write(data);
      this.#inflate.flush(constants.Z_SYNC_FLUSH, () => {
        resolve();
      });
    });
    return Buffer.concat(this.#inflated.splice(0));
  }

  #zrle(left: number, top: number, width: number, height: number, data: Buffer): void {
    let at = 0;
    const colour = (): number => {
      const value = data.readUIntLE(at, 3);
      at += 3;
      return value;
    };
    for (let y = 0; y < height; y += ZRLE_TILE) {
      for (let x = 0; x < width; x += ZRLE_TILE) {
        const [w, h] = [Math.min(ZRLE_TILE, width - x), Math.min(ZRLE_TILE, height - y)];
        const kind = data[at++] ?? 0;
        if (kind > 16) throw new Error(`ZRLE tile of kind ${kind}`);
        const tile = new Uint32Array(w * h);
        const palette = Array.from({ length: kind }, colour);
        const bits = kind === 2 ? 1 : kind <= 4 ? 2 : 4;
        for (let row = 0; row < h; row++) {
          for (let column = 0; column < w; column++) {
            if (kind === 0) tile[row * w + column] = colour();
            else if (kind === 1) tile[row * w + column] = palette[0] ?? 0;
            else {
              const byte = data[at + Math.floor((column * bits) / 8)] ?? 0;
              const index = (byte >> (8 - bits - ((column * bits) % 8))) & ((1 << bits) - 1);
              tile[row * w + column] = palette[index] ?? 0;
            }
          }
          if (kind > 1) at += Math.ceil((w * bits) / 8);
        }
        this.#put(left + x, top + y, w, tile);
      }
    }
    if (at !== data.length) throw new Error(`ZRLE: ${data.length} bytes, ${at} used`);
  }
}

const PNG_SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

function pngChunk([type, data]: [string, Buffer]): Buffer {
  const chunk = Buffer.alloc(12 + data.length);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write(type, 4, 'latin1');
  chunk.set(data, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)), 8 + data.length);
  return chunk;
}

function pixelsOf(bytes: Buffer): Uint32Array {
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(i * 4));
}

/** The answer of somebody who knows the password: DES, whose key has each byte's bits reversed. */
function vncResponse(password: string, challenge: Uint8Array): Buffer {
  const bits = Array.from(Buffer.from(password.padEnd(8, '\0').slice(0, 8), 'latin1'), (byte) =>
    byte.toString(2).padStart(8, '0').split('').reverse().join(''),
  );
  const key = Buffer.from(bits.map((text) => parseInt(text, 2)));
  const cipher = createCipheriv('des-ede3', Buffer.concat([key, key, key]), null).setAutoPadding(false);
  return Buffer.concat([cipher.update(challenge), cipher.final()]);
}
