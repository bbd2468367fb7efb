/** A watch as an async iterator. */
import { XsOp, joinStrings } from '@xenhost/xs-wire';
import type { XenstoreConnection } from './connection.ts';
import type { XenstoreError } from './errors.ts';

export interface XenstoreWatchEvent {
  /** The node that changed, absolute or relative as the watch was. At registration: the watched path itself. */
  readonly path: string;
  readonly token: string;
}

type State =
  { readonly kind: 'open' } | { readonly kind: 'done' } | { readonly kind: 'failed'; readonly error: XenstoreError };

/**
 * Registered at construction; the first event comes at once, as the protocol has it. Ends when the signal aborts, the loop
 * is left, or the client is closed; throws when registration fails or the connection breaks. Events not yet consumed
 * are coalesced by path, so a slow consumer holds one entry a path: read the store for what is true now.
 */
export class XenstoreWatch implements AsyncIterableIterator<XenstoreWatchEvent> {
  readonly path: string;
  readonly token: string;
  /** Resolves when the server has accepted the watch; rejects with XenstoreError. */
  readonly registered: Promise<void>;
  readonly #connection: XenstoreConnection;
  readonly #queue = new Set<string>();
  readonly #offClose: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.return();
  #waiters: { resolve(r: IteratorResult<XenstoreWatchEvent>): void; reject(e: unknown): void }[] = [];
  #state: State = { kind: 'open' };

  constructor(connection: XenstoreConnection, path: string, token: string, signal?: AbortSignal) {
    this.#connection = connection;
    this.path = path;
    this.token = token;
    this.#signal = signal;
    connection.onWatchEvent(token, (changed) => {
      this.#queue.add(changed);
      this.#deliver();
    });
    this.#offClose = connection.onClose((error) => {
      this.#finish(error ? { kind: 'failed', error } : { kind: 'done' });
    });
    this.registered = connection.request(XsOp.WATCH, 0, joinStrings([path, token]), path).then(() => undefined);
    this.registered.catch((error: unknown) => {
      this.#finish({ kind: 'failed', error: error as XenstoreError });
    });
    if (signal?.aborted) this.#onAbort();
    else signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<XenstoreWatchEvent>> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#deliver();
    });
  }

  /** Unregisters. Safe to call often. */
  async return(): Promise<IteratorResult<XenstoreWatchEvent>> {
    if (this.#state.kind === 'open') {
      this.#queue.clear();
      this.#finish({ kind: 'done' });
      if (!this.#connection.closed) {
        await this.#connection
          .request(XsOp.UNWATCH, 0, joinStrings([this.path, this.token]), this.path)
          .catch(() => undefined);
      }
    }
    return { done: true, value: undefined };
  }

  #finish(state: State): void {
    if (this.#state.kind !== 'open') return;
    this.#state = state;
    this.#connection.offWatchEvent(this.token);
    this.#offClose();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#deliver();
  }

  #deliver(): void {
    while (this.#waiters.length > 0) {
      const next = this.#queue.values().next();
      if (!next.done) {
        this.#queue.delete(next.value);
        this.#waiters.shift()?.resolve({ done: false, value: { path: next.value, token: this.token } });
      } else if (this.#state.kind === 'open') {
        return;
      } else {
        const waiter = this.#waiters.shift();
        if (this.#state.kind === 'failed') {
          const { error } = this.#state;
          this.#state = { kind: 'done' };
          waiter?.reject(error);
        } else {
          waiter?.resolve({ done: true, value: undefined });
        }
      }
    }
  }
}
