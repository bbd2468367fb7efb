/** Node operations, the same outside and inside a transaction. */
import { XsOp, formatXsPerm, joinStrings, parseXsPerm, splitStrings } from '@xenhost/xs-wire';
import type { XsPerm } from '@xenhost/xs-wire';
import type { XenstoreConnection } from './connection.ts';
import { XenstoreError, isXenstoreError } from './errors.ts';

/** All reject with XenstoreError. Paths are absolute, or relative to `/local/domain/0` for a socket's client. */
export interface XenstoreAccess {
  /** The value; ENOENT when there is no such node. */
  read(path: string): Promise<Buffer>;
  /** The value as UTF-8. */
  readString(path: string): Promise<string>;
  /** The value as UTF-8, or undefined when there is no such node. */
  tryRead(path: string): Promise<string | undefined>;
  /** Creates the node and its parents when missing. Numbers and bigints are written in decimal. */
  write(path: string, value: string | Uint8Array | number | bigint): Promise<void>;
  /** Creates an empty node when missing. */
  mkdir(path: string): Promise<void>;
  /** Removes the node and all below it. No error when it is missing but its parent is there. */
  rm(path: string): Promise<void>;
  /** Names of the children; ENOENT when there is no such node. */
  directory(path: string): Promise<string[]>;
  /** Names of the children, or empty when there is no such node. */
  tryDirectory(path: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  getPerms(path: string): Promise<XsPerm[]>;
  /** The first entry is the owner and everyone's access. */
  setPerms(path: string, perms: readonly XsPerm[]): Promise<void>;
}

export class XenstoreNodes implements XenstoreAccess {
  protected readonly connection: XenstoreConnection;
  protected readonly txId: number;

  constructor(connection: XenstoreConnection, txId: number) {
    this.connection = connection;
    this.txId = txId;
  }

  read(path: string): Promise<Buffer> {
    return this.#ask(XsOp.READ, path);
  }

  async readString(path: string): Promise<string> {
    return (await this.read(path)).toString('utf8');
  }

  async tryRead(path: string): Promise<string | undefined> {
    return orIfMissing(this.readString(path), undefined);
  }

  async write(path: string, value: string | Uint8Array | number | bigint): Promise<void> {
    const bytes = value instanceof Uint8Array ? value : Buffer.from(String(value), 'utf8');
    await this.connection.request(
      XsOp.WRITE,
      this.txId,
      Buffer.concat([Buffer.from(path + '\0', 'latin1'), bytes]),
      path,
    );
  }

  async mkdir(path: string): Promise<void> {
    await this.#ask(XsOp.MKDIR, path);
  }

  async rm(path: string): Promise<void> {
    await this.#ask(XsOp.RM, path);
  }

  async directory(path: string): Promise<string[]> {
    try {
      return splitStrings(await this.#ask(XsOp.DIRECTORY, path)).strings;
    } catch (error) {
      if (!isXenstoreError(error, 'E2BIG')) throw error;
      return this.#directoryInParts(path);
    }
  }

  async tryDirectory(path: string): Promise<string[]> {
    return orIfMissing(this.directory(path), []);
  }

  async exists(path: string): Promise<boolean> {
    return (await orIfMissing(this.read(path), undefined)) !== undefined;
  }

  async getPerms(path: string): Promise<XsPerm[]> {
    return splitStrings(await this.#ask(XsOp.GET_PERMS, path)).strings.map((text) => {
      const perm = parseXsPerm(text);
      if (!perm) throw new XenstoreError('EPROTO', 'GET_PERMS', path);
      return perm;
    });
  }

  async setPerms(path: string, perms: readonly XsPerm[]): Promise<void> {
    const payload = joinStrings([path, ...perms.map(formatXsPerm)]);
    await this.connection.request(XsOp.SET_PERMS, this.txId, payload, path);
  }

  /** A list longer than one payload comes in parts, each starting with the node's generation; a change starts it over. */
  async #directoryInParts(path: string): Promise<string[]> {
    let generation: string | undefined;
    let names: Buffer[] = [];
    let offset = 0;
    for (;;) {
      const payload = joinStrings([path, String(offset)]);
      const part = await this.connection.request(XsOp.DIRECTORY_PART, this.txId, payload, path);
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

  #ask(op: number, path: string): Promise<Buffer> {
    return this.connection.request(op, this.txId, path + '\0', path);
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
