/** A watch as an async iterator. */
import type { WatchSink, XenstoreLink } from './link.ts';
import { XenstoreError, isXenstoreError } from './errors.ts';

export interface XenstoreWatchEvent {
  /** The node that changed, absolute or relative as the watch was. At registration: the watched path itself. */
  readonly path: string;
  readonly token: string;
}

export interface XenstoreWatchOptions {
  /** Ends the watch, and any loop over it, when it aborts. */
  readonly signal?: AbortSignal | undefined;
  /** Paths that changed and have not been taken yet, before the watch fails with EOVERFLOW; default 65,536. */
  readonly maxQueued?: number | undefined;
}

const DEFAULT_MAX_QUEUED = 65_536;

type State =
  { readonly kind: 'open' } | { readonly kind: 'done' } | { readonly kind: 'failed'; readonly error: XenstoreError };

/**
 * Registered at construction; the first event comes at once, as the protocol has it, and again after each reconnection. Ends when
 * the signal aborts, the loop is left, or the client is closed; throws when registration fails, the connection breaks for good,
 * or more than `maxQueued` paths wait. No change is lost: events not yet taken are coalesced by path, so a slow consumer holds one
 * entry a path; what came before an error is still given out. Read the store for what is true now.
 */
export class XenstoreWatch implements AsyncIterableIterator<XenstoreWatchEvent>, WatchSink {
  readonly path: string;
  readonly token: string;
  /** Resolves when the server has accepted the watch; rejects with XenstoreError. */
  readonly registered: Promise<void>;
  readonly #link: XenstoreLink;
  readonly #queue = new Set<string>();
  readonly #maxQueued: number;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.return();
  #waiters: { resolve(r: IteratorResult<XenstoreWatchEvent>): void; reject(e: unknown): void }[] = [];
  #state: State = { kind: 'open' };

  constructor(link: XenstoreLink, path: string, token: string, options: XenstoreWatchOptions = {}) {
    const { signal, maxQueued = DEFAULT_MAX_QUEUED } = options;
    this.#link = link;
    this.path = path;
    this.token = token;
    this.#signal = signal;
    this.#maxQueued = maxQueued;
    this.registered = link.addWatch(this);
    this.registered.catch((error: unknown) => {
      this.#fail(error as XenstoreError);
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
      await this.#link.removeWatch(this);
    }
    return { done: true, value: undefined };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.return().then(() => undefined);
  }

  /** From the link: a node has changed. */
  event(path: string): void {
    if (this.#state.kind !== 'open') return;
    this.#queue.add(path);
    if (this.#queue.size > this.#maxQueued) {
      this.#fail(new XenstoreError('EOVERFLOW', `WATCH (${this.#maxQueued} changes wait)`, this.path));
    }
    this.#deliver();
  }

  /** From the link: there will be no more. */
  ended(error?: XenstoreError): void {
    this.#finish(error ? { kind: 'failed', error } : { kind: 'done' });
  }

  #fail(error: XenstoreError): void {
    if (this.#state.kind !== 'open') return;
    this.#finish({ kind: 'failed', error });
    // A server that refused it, or is gone, has none; for others it takes no more room there.
    if (isXenstoreError(error, 'EOVERFLOW')) void this.#link.removeWatch(this);
  }

  #finish(state: State): void {
    if (this.#state.kind !== 'open') return;
    this.#state = state;
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
