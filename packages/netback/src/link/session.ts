/**
 * What two ends of a link say to each other: who knows the secret, and frames that nobody else can read, change, replay or add.
 * docs/NETWORK.md has the format. Does no I/O: packets in, packets and frames out; the transport only has to carry packets, in any order.
 *
 * HELLO carries a fresh nonce of the sender and the nonce that it has heard, under an HMAC of the secret. An end that hears its own
 * nonce back knows that the other is alive now: a recorded HELLO brings about nothing. Keys come from both nonces (HKDF), one for each
 * direction; frames are sealed with AES-256-GCM under a counter.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { HELLO_KEEPALIVE_MS, HELLO_SEARCH_MS, MAX_PACKETS_PER_KEY, REPLAY_WINDOW, SILENCE_MS } from './limits.ts';

const TYPE = { hello: 1, sealed: 2 } as const;
const VERSION = 1;
const ID_BYTES = 16;
const NONCE_BYTES = 32;
const MAC_BYTES = 32;
const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** Type and counter in front of what is sealed. */
const SEALED_HEADER_BYTES = 9;
const HELLO_FIXED_BYTES = 2 + ID_BYTES + 2 * NONCE_BYTES + 1;
const CIPHER = 'aes-256-gcm';
/** What sealing adds to a frame's part. */
export const SEAL_BYTES = SEALED_HEADER_BYTES + TAG_BYTES;

export interface SessionOptions {
  readonly secret: string;
  /** The link's name: the same at both ends. */
  readonly name: string;
  /** Who we are: the same on all links of one bridge. */
  readonly id: Uint8Array;
}

export type SessionEvent =
  { readonly kind: 'up'; readonly peer: string } | { readonly kind: 'data'; readonly bytes: Uint8Array };

interface Keys {
  readonly own: Buffer;
  readonly peer: Buffer;
  readonly peerId: string;
  readonly sealKey: Uint8Array;
  readonly openKey: Uint8Array;
  readonly seen: ReplayWindow;
  sent: number;
}

export class LinkSession {
  readonly #options: SessionOptions;
  readonly #helloKey: Uint8Array;
  readonly #send: (packet: Uint8Array) => void;
  #keys: Keys | undefined;
  /** Our nonce for whoever we have no keys with yet. */
  #nonce = randomBytes(NONCE_BYTES);
  #heard: Buffer = Buffer.alloc(NONCE_BYTES);
  #heardMs = 0;
  #helloMs = Number.NEGATIVE_INFINITY;

  /** `send` is called with packets of the session's own, too. */
  constructor(options: SessionOptions, send: (packet: Uint8Array) => void) {
    this.#options = options;
    this.#send = send;
    this.#helloKey = derive(options.secret, new Uint8Array(0), 'xenhost link hello');
  }

  /** Who is at the other end; undefined while the link is down. */
  get peer(): string | undefined {
    return this.#keys?.peerId;
  }

  /** To be called now and then: says hello when it is time, notices silence. */
  tick(nowMs: number): void {
    if (this.#keys && nowMs - this.#heardMs > SILENCE_MS) this.#keys = undefined;
    if (nowMs - this.#helloMs < (this.#keys ? HELLO_KEEPALIVE_MS : HELLO_SEARCH_MS)) return;
    this.#helloMs = nowMs;
    this.#hello(this.#keys?.own ?? this.#nonce, this.#keys?.peer ?? this.#heard);
  }

  /** Seals bytes and sends them; false while the link is down. */
  seal(bytes: Uint8Array): boolean {
    const keys = this.#keys;
    if (!keys) return false;
    if (keys.sent >= MAX_PACKETS_PER_KEY) {
      this.#keys = undefined;
      return false;
    }
    const header = new Uint8Array(SEALED_HEADER_BYTES);
    header[0] = TYPE.sealed;
    new DataView(header.buffer).setBigUint64(1, BigInt(keys.sent));
    keys.sent += 1;
    const cipher = createCipheriv(CIPHER, keys.sealKey, ivOf(header));
    cipher.setAAD(header);
    const sealed = cipher.update(bytes);
    cipher.final();
    this.#send(Buffer.concat([header, sealed, cipher.getAuthTag()]));
    return true;
  }

  /** What a packet means; undefined for those of the session's own and those of strangers. */
  receive(packet: Uint8Array, nowMs: number): SessionEvent | undefined {
    if (packet[0] === TYPE.sealed) return this.#open(packet, nowMs);
    return packet[0] === TYPE.hello ? this.#greeted(packet, nowMs) : undefined;
  }

  #hello(own: Buffer, heard: Buffer): void {
    const { id, name } = this.#options;
    const nameBytes = Buffer.from(name);
    const body = Buffer.concat([
      Uint8Array.of(TYPE.hello, VERSION),
      id,
      own,
      heard,
      Uint8Array.of(nameBytes.length),
      nameBytes,
    ]);
    this.#send(Buffer.concat([body, this.#macOf(body)]));
  }

  #macOf(body: Uint8Array): Buffer {
    return createHmac('sha256', this.#helloKey).update(body).digest();
  }

  #greeted(packet: Uint8Array, nowMs: number): SessionEvent | undefined {
    const body = Buffer.from(packet.subarray(0, Math.max(0, packet.length - MAC_BYTES)));
    if (body.length < HELLO_FIXED_BYTES || body[1] !== VERSION) return undefined;
    if (!timingSafeEqual(this.#macOf(body), packet.subarray(body.length))) return undefined;
    if (body.subarray(HELLO_FIXED_BYTES).toString() !== this.#options.name) return undefined;
    const peerId = body.subarray(2, 2 + ID_BYTES);
    const peer = body.subarray(2 + ID_BYTES, 2 + ID_BYTES + NONCE_BYTES);
    const echo = body.subarray(2 + ID_BYTES + NONCE_BYTES, 2 + ID_BYTES + 2 * NONCE_BYTES);
    // Our own packet come back: a link to ourselves.
    if (peer.equals(this.#nonce) || (this.#keys && peer.equals(this.#keys.own))) return undefined;
    if (this.#keys && peer.equals(this.#keys.peer)) {
      if (echo.equals(this.#keys.own)) this.#heardMs = nowMs;
      else this.#hello(this.#keys.own, peer);
      return undefined;
    }
    if (!echo.equals(this.#nonce)) {
      this.#heard = peer;
      this.#hello(this.#nonce, peer);
      return undefined;
    }
    const own = this.#nonce;
    this.#keys = this.#keysOf(own, peer, peerId.toString('hex'));
    // Never used again: the same two nonces would be the same keys.
    this.#nonce = randomBytes(NONCE_BYTES);
    this.#heard = Buffer.alloc(NONCE_BYTES);
    this.#heardMs = nowMs;
    this.#hello(own, peer);
    return { kind: 'up', peer: this.#keys.peerId };
  }

  #keysOf(own: Buffer, peer: Buffer, peerId: string): Keys {
    const first = Buffer.compare(own, peer) < 0;
    const salt = Buffer.concat(first ? [own, peer] : [peer, own]);
    const [low, high] = ['low', 'high'].map((end) => derive(this.#options.secret, salt, `xenhost link ${end}`));
    const [sealKey = new Uint8Array(0), openKey = new Uint8Array(0)] = first ? [low, high] : [high, low];
    return { own, peer, peerId, sealKey, openKey, seen: new ReplayWindow(), sent: 0 };
  }

  #open(packet: Uint8Array, nowMs: number): SessionEvent | undefined {
    const keys = this.#keys;
    if (!keys || packet.length < SEAL_BYTES) return undefined;
    const header = packet.subarray(0, SEALED_HEADER_BYTES);
    const counter = Number(new DataView(packet.buffer, packet.byteOffset).getBigUint64(1));
    if (!keys.seen.isNew(counter)) return undefined;
    const end = packet.length - TAG_BYTES;
    const decipher = createDecipheriv(CIPHER, keys.openKey, ivOf(header));
    decipher.setAAD(header);
    decipher.setAuthTag(packet.subarray(end));
    const bytes = decipher.update(packet.subarray(SEALED_HEADER_BYTES, end));
    try {
      decipher.final();
    } catch {
      // Not sealed with our key: a stranger's, or one from before a restart.
      return undefined;
    }
    keys.seen.note(counter);
    this.#heardMs = nowMs;
    return { kind: 'data', bytes };
  }
}

function derive(secret: string, salt: Uint8Array, info: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, salt, info, KEY_BYTES));
}

/** The counter, big-endian, behind four zero bytes. */
function ivOf(header: Uint8Array): Uint8Array {
  const iv = new Uint8Array(IV_BYTES);
  iv.set(header.subarray(1), IV_BYTES - 8);
  return iv;
}

/** Which of the last counters have been seen (RFC 6479's idea, in bytes). */
export class ReplayWindow {
  readonly #seen = new Uint8Array(REPLAY_WINDOW);
  #next = 0;

  isNew(counter: number): boolean {
    if (counter >= this.#next) return counter < MAX_PACKETS_PER_KEY;
    return counter >= this.#next - REPLAY_WINDOW && this.#seen[counter % REPLAY_WINDOW] === 0;
  }

  note(counter: number): void {
    if (counter >= this.#next) {
      const from = Math.max(this.#next, counter - REPLAY_WINDOW + 1);
      for (let skipped = from; skipped < counter; skipped += 1) this.#seen[skipped % REPLAY_WINDOW] = 0;
      this.#next = counter + 1;
    }
    this.#seen[counter % REPLAY_WINDOW] = 1;
  }
}
