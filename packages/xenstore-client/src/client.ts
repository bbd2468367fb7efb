/** The typed client of xenstored's Unix socket, for the other daemons and tools (what libxenstore's xs_* is in C). */
import { setTimeout as delay } from 'node:timers/promises';
import { hostPaths } from '@xenhost/daemon-kit';
import { XsOp, joinStrings } from '@xenhost/xs-wire';
import { XenstoreNodes } from './access.ts';
import type { XenstoreAccess } from './access.ts';
import type { XenstoreRequestOptions } from './access.ts';
import { XenstoreError, isXenstoreError } from './errors.ts';
import { XenstoreLink } from './link.ts';
import type { ReconnectPolicy } from './link.ts';
import { XenstoreWatch } from './watch.ts';
import type { XenstoreWatchOptions } from './watch.ts';

export interface XenstoreConnectOptions {
  /** The socket; default as libxenstore finds it (XENSTORED_PATH, XENSTORED_RUNDIR, run directory). */
  readonly path?: string;
  readonly signal?: AbortSignal;
  /**
   * Connects anew when xenstored went away: requests under way reject with ECONNRESET, later ones wait, watches are
   * registered again and get their first event anew. Absent: the client is closed then.
   */
  readonly reconnect?: ReconnectPolicy;
}

export interface XenstoreTransactionOptions {
  /** Ends the attempt under way, if `body` passes it on, and further ones: ECANCELED. */
  readonly signal?: AbortSignal | undefined;
  /** Attempts before EAGAIN is thrown; default 1000. */
  readonly maxAttempts?: number | undefined;
}

const DEFAULT_ATTEMPTS = 1000;
/** So many attempts follow each other at once; later ones wait for a random part of a time that doubles up to the last. */
const EAGER_ATTEMPTS = 4;
const MAX_BACKOFF_MS = 32;

export class XenstoreClient extends XenstoreNodes {
  readonly #link: XenstoreLink;
  #nextToken = 1;

  private constructor(link: XenstoreLink) {
    super(link, 0);
    this.#link = link;
  }

  /** Rejects with XenstoreError: ENOENT or ECONNREFUSED when no xenstored answers. */
  static async connect(options: XenstoreConnectOptions = {}): Promise<XenstoreClient> {
    const { path = hostPaths().xenstored, signal, reconnect } = options;
    return new XenstoreClient(await XenstoreLink.open({ path, signal, reconnect }));
  }

  /**
   * Runs `body` in a transaction and commits; runs it again from the start when the commit conflicts (EAGAIN), so it must
   * have no effects but on `t`. When it throws, the transaction is aborted and the error passed on. A connection that is lost
   * meanwhile is an error (ECONNRESET): whether the commit was done is not known then.
   */
  async transaction<T>(
    body: (t: XenstoreAccess, attempt: number) => Promise<T>,
    options: XenstoreTransactionOptions = {},
  ): Promise<T> {
    const { maxAttempts = DEFAULT_ATTEMPTS, signal } = options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#attempt((t) => body(t, attempt), signal);
      } catch (error) {
        if (!isXenstoreError(error, 'EAGAIN') || attempt >= maxAttempts) throw error;
      }
      if (attempt < EAGER_ATTEMPTS) continue;
      const backoffMs = Math.random() * Math.min(2 ** (attempt - EAGER_ATTEMPTS), MAX_BACKOFF_MS);
      // What it rejects with when aborted, the next attempt rejects with, too.
      await delay(backoffMs, undefined, signal ? { signal } : {}).catch(() => undefined);
    }
  }

  /**
   * Watches a node and all below it, or `@introduceDomain`, `@releaseDomain`. The request is sent at once;
   * `await watch.registered` when it matters that the server has it.
   */
  watch(path: string, options: XenstoreWatchOptions = {}): XenstoreWatch {
    return new XenstoreWatch(this.#link, path, `w${this.#nextToken++}`, options);
  }

  /** Tells xenstored about a domain's ring: `mfn` of the ring page and the domain's own port of the event channel. */
  async introduce(domid: number, mfn: number | bigint, port: number, options?: XenstoreRequestOptions): Promise<void> {
    const payload = joinStrings([String(domid), String(mfn), String(port)]);
    await this.#text(XsOp.INTRODUCE, payload, `domain ${domid}`, options);
  }

  /** Forgets a domain: its watches and transactions end, @releaseDomain fires. */
  async release(domid: number, options?: XenstoreRequestOptions): Promise<void> {
    await this.#domainOp(XsOp.RELEASE, domid, options);
  }

  /** After a suspended domain was resumed in place: @releaseDomain may fire for it again. */
  async resume(domid: number, options?: XenstoreRequestOptions): Promise<void> {
    await this.#domainOp(XsOp.RESUME, domid, options);
  }

  /** Gives `domid` the rights of `target` (a device model's domain). */
  async setTarget(domid: number, target: number, options?: XenstoreRequestOptions): Promise<void> {
    await this.#text(XsOp.SET_TARGET, joinStrings([String(domid), String(target)]), `domain ${domid}`, options);
  }

  /** `/local/domain/<domid>`, without a NUL. */
  getDomainPath(domid: number, options?: XenstoreRequestOptions): Promise<string> {
    return this.#domainOp(XsOp.GET_DOMAIN_PATH, domid, options);
  }

  async isDomainIntroduced(domid: number, options?: XenstoreRequestOptions): Promise<boolean> {
    return (await this.#domainOp(XsOp.IS_DOMAIN_INTRODUCED, domid, options)) === 'T';
  }

  /** `xenstore-control`'s commands; the answer as text. */
  control(...words: readonly string[]): Promise<string> {
    return this.#text(XsOp.CONTROL, joinStrings(words), words.join(' '));
  }

  /**
   * Called once when the client has no connection and will have none; `error` is undefined after `close()`. Returns a function
   * that removes the listener.
   */
  onClose(listener: (error?: XenstoreError) => void): () => void {
    return this.#link.onClose(listener);
  }

  /** Called after each reconnection; watches have been sent again by then. Returns a function that removes the listener. */
  onReconnect(listener: () => void): () => void {
    return this.#link.onReconnect(listener);
  }

  get closed(): boolean {
    return this.#link.closed;
  }

  /** Ends the connection: pending requests reject with ECANCELED, watches end. */
  close(): Promise<void> {
    return this.#link.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** One transaction from its start to its end, all on one connection: its number means nothing on another. */
  async #attempt<T>(body: (t: XenstoreAccess) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const connection = await this.#link.connection(XsOp.TRANSACTION_START, '', signal);
    // Not abortable: a number that nobody waits for would stay open.
    if (signal?.aborted) throw new XenstoreError('ECANCELED', 'TRANSACTION', '', { cause: signal.reason });
    const txId = parseInt((await connection.request(XsOp.TRANSACTION_START, 0, '\0', '')).toString('latin1'), 10);
    let result: T;
    try {
      result = await body(new XenstoreNodes(connection, txId));
      if (signal?.aborted) throw new XenstoreError('ECANCELED', 'TRANSACTION', '', { cause: signal.reason });
    } catch (error) {
      await connection.request(XsOp.TRANSACTION_END, txId, 'F\0', '').catch(() => undefined);
      throw error;
    }
    await connection.request(XsOp.TRANSACTION_END, txId, 'T\0', '');
    return result;
  }

  #domainOp(op: number, domid: number, options?: XenstoreRequestOptions): Promise<string> {
    return this.#text(op, `${domid}\0`, `domain ${domid}`, options);
  }

  async #text(op: number, payload: string, subject: string, options?: XenstoreRequestOptions): Promise<string> {
    const answer = await this.#link.request(op, 0, payload, subject, options?.signal);
    return answer.toString('utf8').replace(/\0$/, '');
  }
}
