/**
 * One connection to an XML-RPC server, kept alive, over a Unix socket or TCP. It does no more than it must, so that what it
 * measures is the server.
 */
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { decodeResponse, encodeCall, type XmlRpcValue } from '@xenhost/xmlrpc-codec';

const HEAD_END = '\r\n\r\n';
const LENGTH = /\r\ncontent-length: (\d+)\r\n/i;

export class RpcConnection {
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #arrived: () => void = () => undefined;
  #ended = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data: Buffer) => {
      this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data]);
      this.#arrived();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#ended = true;
      this.#arrived();
    });
  }

  static open(where: NetConnectOpts): Promise<RpcConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(where);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RpcConnection(socket));
      });
    });
  }

  /** Rejects with XmlRpcFault for a fault, with another error when the connection ends. One call at a time. */
  async call(method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    return decodeResponse((await this.post(encodeCall(method, params))).toString());
  }

  /** A document to the document that answers it, unread. */
  post(document: string): Promise<Buffer> {
    const body = Buffer.from(document);
    this.#socket.write(
      `POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: ${body.length}${HEAD_END}`,
    );
    this.#socket.write(body);
    return this.#response();
  }

  close(): void {
    this.#socket.destroy();
  }

  async #response(): Promise<Buffer> {
    for (;;) {
      const headEnd = this.#received.indexOf(HEAD_END);
      if (headEnd >= 0) {
        const head = this.#received.toString('latin1', 0, headEnd + 2);
        const start = headEnd + HEAD_END.length;
        const end = start + Number(LENGTH.exec(head)?.[1] ?? 0);
        if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`the server answered ${head.split('\r\n', 1)[0] ?? ''}`);
        if (this.#received.length >= end) {
          const document = this.#received.subarray(start, end);
          this.#received = this.#received.subarray(end);
          return document;
        }
      }
      if (this.#ended) throw new Error('the connection ended before the answer');
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }
}
