/** One socket to xenstored: requests matched to replies by id, watch events dispatched by token. No retries, no reconnection (link.ts). */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { XsOp, XsPacketParser, encodeXsPacket, splitStrings, xsOpName } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import { XenstoreError } from './errors.ts';

interface PendingRequest {
  readonly op: number;
  readonly subject: string;
  readonly resolve: (payload: Buffer) => void;
  readonly reject: (error: XenstoreError) => void;
}

/** What sends requests: a connection, or a link that outlives connections. */
export interface Requester {
  /**
   * Sends one request and resolves to its answer; rejects with XenstoreError, ECANCELED when the signal aborts first (the
   * server may have done it then). The payload is sent as it is (no NUL added).
   */
  request(
    op: number,
    txId: number,
    payload: Uint8Array | string,
    subject: string,
    signal?: AbortSignal,
  ): Promise<Buffer>;
}

/** The socket's id space wraps here; far more than can be pending. */
const REQ_ID_MASK = 0x7fffffff;

export class XenstoreConnection implements Requester {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #parser = new XsPacketParser();
  readonly #pending = new Map<number, PendingRequest>();
  readonly #watches = new Map<string, (path: string) => void>();
  readonly #closeListeners = new Set<(error?: XenstoreError) => void>();
  #nextId = 1;
  #closed: { readonly error: XenstoreError | undefined } | undefined;
  #closing = false;
  #outgoing: Buffer[] = [];

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    socket.on('data', (chunk) => {
      this.#receive(chunk);
    });
    socket.on('error', (error) => {
      const { code = 'EIO' } = error as NodeJS.ErrnoException;
      // Whether the other end's going was noticed in writing makes no difference.
      this.#end(new XenstoreError(code === 'EPIPE' ? 'ECONNRESET' : code, 'connection', path, { cause: error }));
    });
    socket.on('close', () => {
      this.#end(this.#closing ? undefined : new XenstoreError('ECONNRESET', 'connection', path));
    });
  }

  /** Rejects with XenstoreError (ENOENT, ECONNREFUSED, ECANCELED when the signal aborts first). */
  static open(path: string, signal?: AbortSignal): Promise<XenstoreConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      const fail = (code: string, cause?: unknown): void => {
        socket.destroy();
        reject(new XenstoreError(code, 'connect', path, { cause }));
      };
      const onAbort = (): void => {
        fail('ECANCELED', signal?.reason);
      };
      const onError = (error: NodeJS.ErrnoException): void => {
        signal?.removeEventListener('abort', onAbort);
        fail(error.code ?? 'EIO', error);
      };
      if (signal?.aborted) {
        onAbort();
        return;
      }
      signal?.addEventListener('abort', onAbort, { once: true });
      socket.once('error', onError);
      socket.once('connect', () => {
        socket.off('error', onError);
        signal?.removeEventListener('abort', onAbort);
        resolve(new XenstoreConnection(socket, path));
      });
    });
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** Requests of one tick leave in one write. */
  request(
    op: number,
    txId: number,
    payload: Uint8Array | string,
    subject: string,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#closed || this.#closing) {
        reject(new XenstoreError('ECONNRESET', xsOpName(op), subject));
        return;
      }
      if (signal?.aborted) {
        reject(canceled(op, subject, signal));
        return;
      }
      const id = this.#nextId;
      let packet: Buffer;
      try {
        packet = encodeXsPacket(op, id, txId, payload);
      } catch (cause) {
        reject(new XenstoreError('E2BIG', xsOpName(op), subject, { cause }));
        return;
      }
      this.#nextId = (id + 1) & REQ_ID_MASK || 1;
      const pending: PendingRequest = { op, subject, resolve, reject };
      this.#pending.set(id, signal ? this.#abortable(id, pending, signal) : pending);
      this.#send(packet);
    });
  }

  onWatchEvent(token: string, listener: (path: string) => void): void {
    this.#watches.set(token, listener);
  }

  offWatchEvent(token: string): void {
    this.#watches.delete(token);
  }

  /** Called once; `error` is undefined after `close()`. Called at once when already closed. */
  onClose(listener: (error?: XenstoreError) => void): () => void {
    if (this.#closed) listener(this.#closed.error);
    else this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#closing = true;
      this.onClose(() => {
        resolve();
      });
      this.#socket.destroy();
    });
  }

  /** The answer to an aborted request finds nobody and is dropped. */
  #abortable(id: number, { op, subject, resolve, reject }: PendingRequest, signal: AbortSignal): PendingRequest {
    const onAbort = (): void => {
      this.#pending.delete(id);
      reject(canceled(op, subject, signal));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    return {
      op,
      subject,
      resolve: (payload) => {
        signal.removeEventListener('abort', onAbort);
        resolve(payload);
      },
      reject: (error) => {
        signal.removeEventListener('abort', onAbort);
        reject(error);
      },
    };
  }

  #send(packet: Buffer): void {
    this.#outgoing.push(packet);
    if (this.#outgoing.length > 1) return;
    queueMicrotask(() => {
      const batch = this.#outgoing;
      this.#outgoing = [];
      const first = batch[0];
      if (first !== undefined && !this.#socket.destroyed)
        this.#socket.write(batch.length === 1 ? first : Buffer.concat(batch));
    });
  }

  #receive(chunk: Buffer): void {
    for (const packet of this.#parser.push(chunk)) this.#dispatch(packet);
    if (this.#parser.violated) {
      this.#end(new XenstoreError('EPROTO', 'connection', this.#path));
      this.#socket.destroy();
    }
  }

  #dispatch(packet: XsPacket): void {
    if (packet.op === XsOp.WATCH_EVENT) {
      const [path = '', token = ''] = splitStrings(packet.payload).strings;
      this.#watches.get(token)?.(path);
      return;
    }
    const pending = this.#pending.get(packet.reqId);
    if (!pending) return;
    this.#pending.delete(packet.reqId);
    if (packet.op === XsOp.ERROR) {
      const code = packet.payload.toString('latin1').replace(/\0.*$/s, '');
      pending.reject(new XenstoreError(code, xsOpName(pending.op), pending.subject));
    } else {
      pending.resolve(packet.payload);
    }
  }

  #end(error: XenstoreError | undefined): void {
    if (this.#closed) return;
    this.#closed = { error };
    for (const { op, subject, reject } of this.#pending.values()) {
      reject(new XenstoreError(error?.code ?? 'ECANCELED', xsOpName(op), subject, { cause: error }));
    }
    this.#pending.clear();
    for (const listener of this.#closeListeners) listener(error);
    this.#closeListeners.clear();
  }
}

export const canceled = (op: number, subject: string, signal: AbortSignal): XenstoreError =>
  new XenstoreError('ECANCELED', xsOpName(op), subject, { cause: signal.reason });
