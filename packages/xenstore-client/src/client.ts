/** The typed client of xenstored's Unix socket, for the other daemons and tools (what libxenstore's xs_* is in C). */
import { hostPaths } from '@xenhost/daemon-kit';
import { XsOp, joinStrings } from '@xenhost/xs-wire';
import { XenstoreNodes } from './access.ts';
import type { XenstoreAccess } from './access.ts';
import { XenstoreConnection } from './connection.ts';
import { XenstoreError, isXenstoreError } from './errors.ts';
import { XenstoreWatch } from './watch.ts';

export interface XenstoreConnectOptions {
  /** The socket; default as libxenstore finds it (XENSTORED_PATH, XENSTORED_RUNDIR, run directory). */
  readonly path?: string;
  readonly signal?: AbortSignal;
}

export interface XenstoreTransactionOptions {
  /** Stops retrying. */
  readonly signal?: AbortSignal;
  /** Attempts before EAGAIN is thrown; default 1000. */
  readonly maxAttempts?: number;
}

const DEFAULT_ATTEMPTS = 1000;

export class XenstoreClient extends XenstoreNodes {
  #nextToken = 1;

  private constructor(connection: XenstoreConnection) {
    super(connection, 0);
  }

  /** Rejects with XenstoreError: ENOENT or ECONNREFUSED when no xenstored answers. */
  static async connect(options: XenstoreConnectOptions = {}): Promise<XenstoreClient> {
    return new XenstoreClient(await XenstoreConnection.open(options.path ?? hostPaths().xenstored, options.signal));
  }

  /**
   * Runs `body` in a transaction and commits; runs it again from the start when the commit conflicts (EAGAIN), so it must
   * have no effects but on `t`. When it throws, the transaction is aborted and the error passed on.
   */
  async transaction<T>(body: (t: XenstoreAccess) => Promise<T>, options: XenstoreTransactionOptions = {}): Promise<T> {
    const maxAttempts = options.maxAttempts ?? DEFAULT_ATTEMPTS;
    for (let attempt = 1; ; attempt++) {
      if (options.signal?.aborted) throw new XenstoreError('ECANCELED', 'TRANSACTION', '');
      const txId = parseInt(await this.#text(XsOp.TRANSACTION_START, '\0', ''), 10);
      let result: T;
      try {
        result = await body(new XenstoreNodes(this.connection, txId));
      } catch (error) {
        await this.connection.request(XsOp.TRANSACTION_END, txId, 'F\0', '').catch(() => undefined);
        if (isXenstoreError(error, 'EAGAIN') && attempt < maxAttempts) continue;
        throw error;
      }
      try {
        await this.connection.request(XsOp.TRANSACTION_END, txId, 'T\0', '');
        return result;
      } catch (error) {
        if (!isXenstoreError(error, 'EAGAIN') || attempt >= maxAttempts) throw error;
      }
    }
  }

  /**
   * Watches a node and all below it, or `@introduceDomain`, `@releaseDomain`. The request is sent at once;
   * `await watch.registered` when it matters that the server has it.
   */
  watch(path: string, options: { readonly signal?: AbortSignal } = {}): XenstoreWatch {
    return new XenstoreWatch(this.connection, path, `w${this.#nextToken++}`, options.signal);
  }

  /** Tells xenstored about a domain's ring: `mfn` of the ring page and the domain's own port of the event channel. */
  async introduce(domid: number, mfn: number | bigint, port: number): Promise<void> {
    await this.connection.request(
      XsOp.INTRODUCE,
      0,
      joinStrings([String(domid), String(mfn), String(port)]),
      `domain ${domid}`,
    );
  }

  /** Forgets a domain: its watches and transactions end, @releaseDomain fires. */
  async release(domid: number): Promise<void> {
    await this.#domainOp(XsOp.RELEASE, domid);
  }

  /** After a suspended domain was resumed in place: @releaseDomain may fire for it again. */
  async resume(domid: number): Promise<void> {
    await this.#domainOp(XsOp.RESUME, domid);
  }

  /** Gives `domid` the rights of `target` (a device model's domain). */
  async setTarget(domid: number, target: number): Promise<void> {
    await this.connection.request(XsOp.SET_TARGET, 0, joinStrings([String(domid), String(target)]), `domain ${domid}`);
  }

  /** `/local/domain/<domid>`, without a NUL. */
  getDomainPath(domid: number): Promise<string> {
    return this.#domainOp(XsOp.GET_DOMAIN_PATH, domid);
  }

  async isDomainIntroduced(domid: number): Promise<boolean> {
    return (await this.#domainOp(XsOp.IS_DOMAIN_INTRODUCED, domid)) === 'T';
  }

  /** `xenstore-control`'s commands; the answer as text. */
  control(...words: readonly string[]): Promise<string> {
    return this.#text(XsOp.CONTROL, joinStrings(words), words.join(' '));
  }

  /** Called once when the connection ends; `error` is undefined after `close()`. Returns a function that removes the listener. */
  onClose(listener: (error?: XenstoreError) => void): () => void {
    return this.connection.onClose(listener);
  }

  get closed(): boolean {
    return this.connection.closed;
  }

  /** Ends the connection: pending requests reject with ECANCELED, watches end. */
  close(): Promise<void> {
    return this.connection.close();
  }

  #domainOp(op: number, domid: number): Promise<string> {
    return this.#text(op, `${domid}\0`, `domain ${domid}`);
  }

  async #text(op: number, payload: string, subject: string): Promise<string> {
    return (await this.connection.request(op, 0, payload, subject)).toString('utf8').replace(/\0$/, '');
  }
}
