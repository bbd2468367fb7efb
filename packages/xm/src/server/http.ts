/**
 * HTTP/1.1 as xm needs it: POST and wait, one exchange after another on one connection that is kept. Not node:http, whose
 * loading and first request take longer than most commands (docs/RATIONALE.md). Bodies with a length, in chunks, or up to
 * the end of the connection (RFC 9112 sections 6 and 7).
 */
import type { Duplex } from 'node:stream';
import { ProtocolError } from '../errors.ts';

/** Of an answer's status line and fields, and of its chunks' lines. */
const MAX_HEAD_BYTES = 65_536;

export interface HttpOptions {
  /** What the Host field says. */
  readonly host: string;
  /** Of an answer's body; a longer one is a ProtocolError. */
  readonly maxBodyBytes: number;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  readonly reason: string;
  readonly body: string;
}

export class HttpConnection {
  readonly #options: HttpOptions;
  readonly #dial: () => Duplex;
  #stream: Duplex | undefined;

  /** `dial` opens a stream; what is written before it is connected must be kept. */
  constructor(options: HttpOptions, dial: () => Duplex) {
    this.#options = options;
    this.#dial = dial;
  }

  /** Rejects with the stream's error, with ProtocolError, or with the signal's reason. One call at a time. */
  async post(path: string, body: string): Promise<HttpAnswer> {
    const { signal, host, maxBodyBytes } = this.#options;
    signal.throwIfAborted();
    const stream = (this.#stream ??= this.#open());
    const answer = new AnswerReader(maxBodyBytes);
    return new Promise<HttpAnswer>((resolve, reject) => {
      const settle = (end: () => void, keep: boolean): void => {
        stream.off('data', onData).off('end', onEnd).off('error', onError).off('close', onEnd);
        signal.removeEventListener('abort', onAbort);
        if (!keep) this.close();
        end();
      };
      const fail = (error: Error): void => {
        settle(() => {
          reject(error);
        }, false);
      };
      const finish = (): void => {
        settle(() => {
          resolve(answer.value());
        }, answer.mayKeep);
      };
      const onData = (bytes: Buffer): void => {
        try {
          if (answer.push(bytes)) finish();
        } catch (error) {
          fail(error as Error);
        }
      };
      const onEnd = (): void => {
        if (answer.end()) finish();
        else fail(new ProtocolError(undefined, 'the connection ended before the answer'));
      };
      const onError = (error: Error): void => {
        fail(error);
      };
      const onAbort = (): void => {
        fail(signal.reason as Error);
      };
      stream.on('data', onData).on('end', onEnd).on('error', onError).on('close', onEnd);
      signal.addEventListener('abort', onAbort);
      const length = Buffer.byteLength(body);
      stream.write(
        `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: xenhost-xm\r\nContent-Type: text/xml\r\n` +
          `Content-Length: ${length}\r\n\r\n${body}`,
      );
    });
  }

  close(): void {
    this.#stream?.destroy();
    this.#stream = undefined;
  }

  #open(): Duplex {
    const stream = this.#dial();
    const forget = (): void => {
      if (this.#stream === stream) this.#stream = undefined;
    };
    // A kept connection may end between two calls: the next one opens another.
    stream.on('error', forget).on('end', forget).on('close', forget);
    return stream;
  }
}

/** How the end of a body is found. `left` of chunks counts the line end behind the chunk too. */
type Body = { readonly kind: 'length'; left: number } | Chunks | { readonly kind: 'end' };

interface Chunks {
  readonly kind: 'chunks';
  left: number;
  /** The last chunk has been read: fields may follow, which nobody asked for, and an empty line. */
  ended: boolean;
}

const LINE_END = 2;

/** Takes an answer's bytes as they come. Throws ProtocolError for what is not HTTP. */
class AnswerReader {
  readonly #maxBodyBytes: number;
  #pending: Buffer = Buffer.alloc(0);
  #status: { readonly code: number; readonly reason: string } | undefined;
  #body: Body | undefined;
  readonly #parts: Buffer[] = [];
  #size = 0;
  #keep = true;

  constructor(maxBodyBytes: number) {
    this.#maxBodyBytes = maxBodyBytes;
  }

  /** Whether the connection may be used again; meaningful once the answer is whole. */
  get mayKeep(): boolean {
    return this.#keep && this.#pending.length === 0;
  }

  value(): HttpAnswer {
    const { code, reason } = this.#status ?? { code: 0, reason: '' };
    return { status: code, reason, body: Buffer.concat(this.#parts).toString('utf8') };
  }

  /** Whether the answer is whole. */
  push(bytes: Buffer): boolean {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    while (this.#body === undefined) {
      const head = this.#until('\r\n\r\n');
      if (head === undefined) return false;
      this.#readHead(head);
    }
    const body = this.#body;
    if (body.kind === 'chunks') return this.#readChunks(body);
    this.#take(body.kind === 'end' ? this.#pending.length : this.#takeable(body, 0));
    return body.kind === 'length' && body.left === 0;
  }

  /** Whether the answer is whole now that nothing follows. */
  end(): boolean {
    this.#keep = false;
    return this.#body?.kind === 'end';
  }

  #readHead(head: string): void {
    const [line = '', ...fields] = head.split('\r\n');
    const [, version = '', code = '', reason = ''] = /^HTTP\/(1\.[01]) (\d{3})(?: (.*))?$/.exec(line) ?? [];
    if (code === '') throw new ProtocolError(undefined, 'not an HTTP status line');
    // 100 Continue and its like come before the answer.
    if (code.startsWith('1')) return;
    const values = new Map<string, string>();
    for (const field of fields) {
      const colon = field.indexOf(':');
      values.set(field.slice(0, colon).trim().toLowerCase(), field.slice(colon + 1).trim());
    }
    this.#status = { code: Number(code), reason };
    const connection = values.get('connection')?.toLowerCase();
    this.#keep = version === '1.1' ? connection !== 'close' : connection === 'keep-alive';
    this.#body = this.#framing(values);
  }

  #framing(values: ReadonlyMap<string, string>): Body {
    if (values.get('transfer-encoding')?.toLowerCase() === 'chunked') return { kind: 'chunks', left: 0, ended: false };
    const length = values.get('content-length');
    if (length === undefined) return { kind: 'end' };
    const left = /^\d{1,12}$/.test(length) ? Number(length) : Number.POSITIVE_INFINITY;
    if (left > this.#maxBodyBytes) throw new ProtocolError(undefined, 'answer too long');
    return { kind: 'length', left };
  }

  #readChunks(body: Chunks): boolean {
    for (;;) {
      this.#take(this.#takeable(body, LINE_END));
      if (body.left > 0) {
        if (body.left > LINE_END || this.#pending.length < LINE_END) return false;
        this.#pending = this.#pending.subarray(LINE_END);
        body.left = 0;
      }
      const line = this.#until('\r\n');
      if (line === undefined) return false;
      if (body.ended) {
        if (line === '') return true;
        continue;
      }
      const digits = /^([0-9a-f]{1,8})\s*(?:;.*)?$/i.exec(line)?.[1];
      if (digits === undefined) throw new ProtocolError(undefined, 'bad chunk');
      const size = Number.parseInt(digits, 16);
      body.ended = size === 0;
      if (body.ended) continue;
      body.left = size + LINE_END;
    }
  }

  /** How much of what is pending belongs to the body, but for its last `behind` bytes; taken off what is left. */
  #takeable(body: { left: number }, behind: number): number {
    const bytes = Math.min(Math.max(body.left - behind, 0), this.#pending.length);
    body.left -= bytes;
    return bytes;
  }

  #take(bytes: number): void {
    this.#size += bytes;
    if (this.#size > this.#maxBodyBytes) throw new ProtocolError(undefined, 'answer too long');
    if (bytes > 0) this.#parts.push(this.#pending.subarray(0, bytes));
    this.#pending = this.#pending.subarray(bytes);
  }

  #until(mark: string): string | undefined {
    const end = this.#pending.indexOf(mark);
    if (end === -1 ? this.#pending.length > MAX_HEAD_BYTES : end > MAX_HEAD_BYTES) {
      throw new ProtocolError(undefined, 'head too long');
    }
    if (end === -1) return undefined;
    const text = this.#pending.toString('latin1', 0, end);
    this.#pending = this.#pending.subarray(end + mark.length);
    return text;
  }
}
