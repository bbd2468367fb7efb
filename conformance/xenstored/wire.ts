/** A client of xenstored that sends whatever bytes it is told to, and tells all that comes back, in order. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { XsOp, XsPacketParser, encodeXsPacket } from '@xenhost/xs-wire';
import type { XsOpName, XsPacket } from '@xenhost/xs-wire';

/** Marks the request that ends a step: its answer says that all before it has been answered. */
const END_OF_STEP = 0x7e57e57e;
const CLOSED = 'closed';

export class WireClient {
  readonly socket: Socket;
  readonly #parser = new XsPacketParser();
  #packets: XsPacket[] = [];
  /** Those before it have been taken. */
  #taken = 0;
  #closed = false;
  #arrived: () => void = () => undefined;
  #nextId = 1;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.#packets.push(...this.#parser.push(chunk));
      this.#arrived();
    });
    const end = (): void => {
      this.#closed = true;
      this.#arrived();
    };
    socket.on('error', end);
    socket.on('close', end);
  }

  static connect(path: string): Promise<WireClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new WireClient(socket));
      });
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The number of the request, which its answer bears. */
  send(op: number, txId: number, payload: string | Uint8Array): number {
    const id = this.#nextId++;
    if (!this.#closed) this.socket.write(encodeXsPacket(op, id, txId, payload));
    return id;
  }

  /** The next packet; undefined when the connection has ended. */
  async next(timeoutMs = 10_000): Promise<XsPacket | undefined> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const packet = this.#packets[this.#taken];
      if (packet !== undefined) {
        this.#taken++;
        return packet;
      }
      this.#packets = [];
      this.#taken = 0;
      if (this.#closed) return undefined;
      const left = end - Date.now();
      if (left <= 0) throw new Error(`no answer within ${timeoutMs} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#arrived = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Sends one request and takes its answer; events that come before it are passed over. */
  async ask(op: XsOpName, payload: string, txId = 0): Promise<string> {
    this.send(XsOp[op], txId, text(payload));
    for (;;) {
      const packet = await this.next();
      if (packet === undefined) return CLOSED;
      if (packet.op !== XsOp.WATCH_EVENT) return show(packet);
    }
  }

  /** Sends one request and tells all that comes up to its end: answers, events, `closed`. */
  async step(op: number | undefined, txId: number, payload: Uint8Array | string): Promise<string[]> {
    if (op !== undefined) this.send(op, txId, payload);
    if (!this.#closed) this.socket.write(encodeXsPacket(XsOp.GET_DOMAIN_PATH, END_OF_STEP, 0, '0\0'));
    const said: string[] = [];
    for (;;) {
      const packet = await this.next();
      if (packet === undefined) return [...said, CLOSED];
      if (packet.reqId === END_OF_STEP) return said;
      said.push(show(packet));
    }
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed) resolve();
      else this.socket.once('close', () => resolve());
      this.socket.destroy();
    });
  }
}

/** NUL as `|`, runs of one character as in `text`: answers as their payload, errors as `!NAME`, events as `@ path|token|`. */
function show({ op, payload }: XsPacket): string {
  const shown = payload
    .toString('latin1')
    .replaceAll('\0', '|')
    .replace(/(.)\1{63,}/gs, (run, one: string) => `{${one}*${run.length}}`);
  if (op === XsOp.WATCH_EVENT) return `@ ${shown}`;
  return op === XsOp.ERROR ? `!${shown.replace(/\|$/, '')}` : shown;
}

/** `|` as NUL, `{x*9}` as nine times x, the other characters as bytes. */
export const text = (written: string): Buffer =>
  Buffer.from(
    written
      .replace(/\{(.)\*(\d+)\}/gs, (_all, one: string, count: string) => one.repeat(Number(count)))
      .replaceAll('|', '\0'),
    'latin1',
  );
