/** Node operations, the same outside and inside a transaction. */
import { XsOp, formatXsPerm, joinStrings, parseXsPerm, splitStrings } from '@xenhost/xs-wire';
import type { XsPerm } from '@xenhost/xs-wire';
import type { Requester } from './connection.ts';
import { XenstoreError, isXenstoreError } from './errors.ts';

export interface XenstoreRequestOptions {
  /** Rejects with ECANCELED when it aborts; the server may have done what was asked. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * All reject with XenstoreError. Paths are absolute, or relative to `/local/domain/0` for a socket's client. Requests may be made without
 * waiting for earlier ones: they leave, and are done, in the order of the calls.
 */
export interface XenstoreAccess {
  /** The value; ENOENT when there is no such node. */
  read(path: string, options?: XenstoreRequestOptions): Promise<Buffer>;
  /** The value as UTF-8. */
  readString(path: string, options?: XenstoreRequestOptions): Promise<string>;
  /** The value as UTF-8, or undefined when there is no such node. */
  tryRead(path: string, options?: XenstoreRequestOptions): Promise<string | undefined>;
  /** Creates the node and its parents when missing. Numbers and bigints are written in decimal. */
  write(path: string, value: string | Uint8Array | number | bigint, options?: XenstoreRequestOptions): Promise<void>;
  /** Creates an empty node when missing. */
  mkdir(path: string, options?: XenstoreRequestOptions): Promise<void>;
  /** Removes the node and all below it. No error when it is missing but its parent is there. */
  rm(path: string, options?: XenstoreRequestOptions): Promise<void>;
  /** Names of the children; ENOENT when there is no such node. */
  directory(path: string, options?: XenstoreRequestOptions): Promise<string[]>;
  /** Names of the children, or empty when there is no such node. */
  tryDirectory(path: string, options?: XenstoreRequestOptions): Promise<string[]>;
  exists(path: string, options?: XenstoreRequestOptions): Promise<boolean>;
  getPerms(path: string, options?: XenstoreRequestOptions): Promise<XsPerm[]>;
  /** The first entry is the owner and everyone's access. */
  setPerms(path: string, perms: readonly XsPerm[], options?: XenstoreRequestOptions): Promise<void>;
}

export class XenstoreNodes implements XenstoreAccess {
  protected readonly requester: Requester;
  protected readonly txId: number;

  constructor(requester: Requester, txId: number) {
    this.requester = requester;
    this.txId = txId;
  }

  read(path: string, options?: XenstoreRequestOptions): Promise<Buffer> {
    return this.#ask(XsOp.READ, path, options);
  }

  async readString(path: string, options?: XenstoreRequestOptions): Promise<string> {
    return (await this.read(path, options)).toString('utf8');
  }

  async tryRead(path: string, options?: XenstoreRequestOptions): Promise<string | undefined> {
    return orIfMissing(this.readString(path, options), undefined);
  }

  async write(
    path: string,
    value: string | Uint8Array | number | bigint,
    options?: XenstoreRequestOptions,
  ): Promise<void> {
    const bytes = value instanceof Uint8Array ? value : Buffer.from(String(value), 'utf8');
    const payload = Buffer.concat([Buffer.from(path + '\0', 'latin1'), bytes]);
    await this.requester.request(XsOp.WRITE, this.txId, payload, path, options?.signal);
  }

  async mkdir(path: string, options?: XenstoreRequestOptions): Promise<void> {
    await this.#ask(XsOp.MKDIR, path, options);
  }

  async rm(path: string, options?: XenstoreRequestOptions): Promise<void> {
    await this.#ask(XsOp.RM, path, options);
  }

  async directory(path: string, options?: XenstoreRequestOptions): Promise<string[]> {
    try {
      return splitStrings(await this.#ask(XsOp.DIRECTORY, path, options)).strings;
    } catch (error) {
      if (!isXenstoreError(error, 'E2BIG')) throw error;
      return this.#directoryInParts(path, options);
    }
  }

  async tryDirectory(path: string, options?: XenstoreRequestOptions): Promise<string[]> {
    return orIfMissing(this.directory(path, options), []);
  }

  async exists(path: string, options?: XenstoreRequestOptions): Promise<boolean> {
    return (await orIfMissing(this.read(path, options), undefined)) !== undefined;
  }

  async getPerms(path: string, options?: XenstoreRequestOptions): Promise<XsPerm[]> {
    return splitStrings(await this.#ask(XsOp.GET_PERMS, path, options)).strings.map((text) => {
      const perm = parseXsPerm(text);
      if (!perm) throw new XenstoreError('EPROTO', 'GET_PERMS', path);
      return perm;
    });
  }

  async setPerms(path: string, perms: readonly XsPerm[], options?: XenstoreRequestOptions): Promise<void> {
    const payload = joinStrings([path, ...perms.map(formatXsPerm)]);
    await this.requester.request(XsOp.SET_PERMS, this.txId, payload, path, options?.signal);
  }

  /** A list longer than one payload comes in parts, each starting with the node's generation; a change starts it over. */
  async #directoryInParts(path: string, options?: XenstoreRequestOptions): Promise<string[]> {
    let generation: string | undefined;
    let names: Buffer[] = [];
    let offset = 0;
    for (;;) {
      const payload = joinStrings([path, String(offset)]);
      const part = await this.requester.request(XsOp.DIRECTORY_PART, this.txId, payload, path, options?.signal);
      const nul = part.indexOf(0);
      if (nul < 0) throw new XenstoreError('EPROTO', 'DIRECTORY_PART', path);
      const seen = part.toString('latin1', 0, nul);
      if (generation !== undefined && seen !== generation) {
        generation = undefined;
        names = [];
        offset = 0;
        continue;
      }
      generation = seen;
      const body = part.subarray(nul + 1);
      // The last part ends with an empty name: one NUL more.
      const last = body.length === 0 || (body.at(-1) === 0 && (body.length === 1 || body.at(-2) === 0));
      const kept = last && body.length > 0 ? body.subarray(0, -1) : body;
      names.push(kept);
      offset += kept.length;
      if (last) return splitStrings(Buffer.concat(names)).strings;
    }
  }

  #ask(op: number, path: string, options?: XenstoreRequestOptions): Promise<Buffer> {
    return this.requester.request(op, this.txId, path + '\0', path, options?.signal);
  }
}

async function orIfMissing<T, U>(result: Promise<T>, missing: U): Promise<T | U> {
  try {
    return await result;
  } catch (error) {
    if (isXenstoreError(error, 'ENOENT')) return missing;
    throw error;
  }
}
