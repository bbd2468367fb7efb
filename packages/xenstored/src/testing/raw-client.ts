/** A client of the socket that sends and takes packets as they are. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { XsOp, XsPacketParser, encodeXsPacket } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';

export class RawClient {
  readonly socket: Socket;
  readonly #parser = new XsPacketParser();
  readonly #packets: XsPacket[] = [];
  #wake: () => void = () => undefined;
  #nextId = 1;
  closed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.#packets.push(...this.#parser.push(chunk));
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  static open(path: string): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path, () => {
        resolve(new RawClient(socket));
      });
      socket.once('error', reject);
    });
  }

  /** The next packet; rejects when the connection has ended. */
  async take(): Promise<XsPacket> {
    for (;;) {
      const packet = this.#packets.shift();
      if (packet) return packet;
      if (this.closed) throw new Error('the connection has ended');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  send(op: number, payload: string, txId = 0): void {
    this.socket.write(encodeXsPacket(op, this.#nextId++, txId, payload.replaceAll('|', '\0')));
  }

  /** The next packet as text, `|` for NUL; events with `!`. */
  async text(): Promise<string> {
    const { op, payload } = await this.take();
    return (op === XsOp.WATCH_EVENT ? '! ' : '') + payload.toString('latin1').replaceAll('\0', '|');
  }

  async ask(op: number, payload: string, txId = 0): Promise<string> {
    this.send(op, payload, txId);
    return this.text();
  }
}
