/** The connection to the host that a machine is moved to. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { osText } from '../domain/checkpoint.ts';
import { XendError } from '../errors.ts';
import { send, SocketReader, SocketSink } from '../image/stream.ts';
import {
  RELOCATION_ANSWER_TIMEOUT_MS, RELOCATION_ERROR_TIMEOUT_MS, RELOCATION_IMAGE_TIMEOUT_MS, RELOCATION_TIMEOUT_MS,
} from '../limits.ts'; // prettier-ignore
import { CANCEL, MAX_LINE_BYTES, parseAnswer, QUIT, RECEIVE, SSL_RECEIVE } from './protocol.ts';

export class FarHost {
  readonly host: string;
  readonly sink: SocketSink;
  readonly #socket: Socket;
  /** What it says after the image, or before its end when it does not want it; undefined when it leaves without a word. */
  readonly #answer: Promise<string | undefined>;
  /** How the wait for an answer failed. */
  #failure: XendError | undefined;

  private constructor(host: string, socket: Socket, reader: SocketReader) {
    this.host = host;
    this.#socket = socket;
    this.#answer = reader.line(MAX_LINE_BYTES).catch((error: unknown) => {
      this.#failure = new XendError(`the connection to ${host} broke: ${osText(error)}`, { cause: error });
      return undefined;
    });
    // Whoever answers, or goes, before the image is there does not want the rest of it.
    const over = new AbortController();
    void this.#answer.then(() => {
      over.abort();
    });
    this.sink = new SocketSink(socket, over.signal);
  }

  /** Resolves when it is ready for an image. Throws XendError. */
  static async connect(host: string, port: number, ssl: boolean): Promise<FarHost> {
    if (!(port > 0 && port < 65536)) throw new XendError("can't connect: port must be 0-65535");
    let socket: Socket | undefined;
    try {
      socket = await open(host, port, ssl);
      await send(socket, `${ssl ? SSL_RECEIVE : RECEIVE}\n`);
      const reader = new SocketReader(socket);
      const line = await reader.line(MAX_LINE_BYTES);
      const { tag, error } = parseAnswer(line ?? '');
      if (error !== undefined) throw new XendError(`${error} (from ${host})`);
      if (tag !== 'ready') {
        throw new XendError(`can't connect: ${line === undefined ? 'closed by' : 'no relocation server on'} ${host}`);
      }
      socket.setTimeout(RELOCATION_IMAGE_TIMEOUT_MS);
      return new FarHost(host, socket, reader);
    } catch (error) {
      socket?.destroy();
      if (error instanceof XendError) throw error;
      throw new XendError(`can't connect: ${osText(error)}`, { cause: error });
    }
  }

  /** All was sent: resolves when the machine is there. Throws XendError or the connection's error. */
  async done(): Promise<void> {
    // The connection must outlast the wait: an end of it would let the machine run over there.
    this.#socket.setTimeout(0);
    const line = await this.#answerWithin(RELOCATION_ANSWER_TIMEOUT_MS);
    if (line === undefined) throw this.#failure ?? new XendError(`${this.host} left without an answer`);
    const { tag, error } = parseAnswer(line);
    if (tag !== 'ok') throw new XendError(`${error ?? 'no answer that is one'} (from ${this.host})`);
  }

  /** What it said is why, where it said anything; then that it is gone, where it is; else the error itself. */
  async reasonFor(error: unknown): Promise<unknown> {
    const line = await this.#answerWithin(RELOCATION_ERROR_TIMEOUT_MS).catch(() => undefined);
    const said = line === undefined ? undefined : parseAnswer(line).error;
    return said === undefined ? (this.#failure ?? error) : new XendError(`${said} (from ${this.host})`);
  }

  /** The machine goes on here. Never throws. */
  cancel(): Promise<void> {
    return this.#say(CANCEL);
  }

  /** The machine is no more here. Never throws. */
  letGo(): Promise<void> {
    return this.#say(QUIT);
  }

  close(): void {
    this.#socket.destroySoon();
  }

  /** Rejects when it takes longer than that. */
  async #answerWithin(timeoutMs: number): Promise<string | undefined> {
    const over = new AbortController();
    const late = sleep(timeoutMs, undefined, { signal: over.signal }).then(() => {
      throw timedOut();
    });
    try {
      return await Promise.race([this.#answer, late]);
    } finally {
      late.catch(() => undefined);
      over.abort();
    }
  }

  async #say(word: string): Promise<void> {
    this.#socket.setTimeout(RELOCATION_TIMEOUT_MS);
    // A connection that broke has told it already, as far as it can be told.
    await send(this.#socket, `${word}\n`).catch(() => undefined);
  }
}

const timedOut = (): Error => Object.assign(new Error('timed out'), { code: 'ETIMEDOUT' });

/** A connection that ends with an error when it is silent for too long. */
function open(host: string, port: number, ssl: boolean): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // Xen 4.4 does not look at certificates either.
    const socket = ssl ? connectTls({ host, port, rejectUnauthorized: false }) : connect({ host, port });
    socket.setTimeout(RELOCATION_TIMEOUT_MS);
    socket.on('timeout', () => socket.destroy(timedOut()));
    socket.on('error', reject);
    socket.once(ssl ? 'secureConnect' : 'connect', () => {
      resolve(socket);
    });
  });
}
