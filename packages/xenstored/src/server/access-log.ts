/**
 * The access log (`xenstore-control log on`): a line for each request, reply and event. Lines of a turn are written at once; a
 * file that has grown to its limit is renamed to `FILE.1`, in the place of the one before.
 */
import { appendFileSync, closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Logger } from '@xenhost/daemon-kit';
import { xsOpName } from '@xenhost/xs-wire';
import type { XsErrorName, XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from '../core/connection.ts';
import type { TracePort } from '../core/ports.ts';
import { ACCESS_LOG_MAX_BYTES, ACCESS_LOG_TEXT_MAX } from './limits.ts';

const MODE = 0o600;
// Whatever a client sends: a line stays a line, and a terminal unharmed.
const UNPRINTABLE = /[^\x20-\x7e]/g;

export class AccessLog implements TracePort {
  readonly #log: Logger;
  #path: string;
  #on = false;
  #fd: number | undefined;
  #sizeBytes = 0;
  #lines = '';

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  setOn(on: boolean): void {
    this.#on = on;
    this.#close();
  }

  /** Lines go to another file from now on. */
  setFile(path: string): void {
    this.#close();
    this.#path = path;
    this.#on = true;
  }

  /** Appends a text to a file, by default the log's. False when it cannot be written. */
  append(path: string | undefined, text: string): boolean {
    this.flush();
    try {
      appendFileSync(path ?? this.#path, text, { mode: MODE });
      return true;
    } catch (error) {
      this.#log.warn({ err: error, path }, 'cannot write a report');
      return false;
    }
  }

  request(connection: StoreConnection, { op, txId, payload }: XsPacket): void {
    const shown = payload.toString('latin1', 0, Math.min(payload.length, ACCESS_LOG_TEXT_MAX));
    this.#line(connection, 'IN', `${xsOpName(op)} tx ${txId}`, shown);
  }

  reply(connection: StoreConnection, { op, txId }: XsPacket, error: XsErrorName | undefined, payload: string): void {
    this.#line(connection, 'OUT', `${xsOpName(op)} tx ${txId}`, error ?? payload);
  }

  event(connection: StoreConnection, payload: string): void {
    this.#line(connection, 'OUT', 'WATCH_EVENT', payload);
  }

  /** Writes what has been noted. */
  flush(): void {
    const lines = this.#lines;
    this.#lines = '';
    if (lines === '') return;
    try {
      if (this.#fd === undefined) this.#open();
      if (this.#fd !== undefined) this.#sizeBytes += writeSync(this.#fd, lines, null, 'latin1');
      if (this.#sizeBytes < ACCESS_LOG_MAX_BYTES) return;
      this.#close();
      renameSync(this.#path, `${this.#path}.1`);
    } catch (error) {
      this.#on = false;
      this.#close();
      this.#log.warn({ err: error, path: this.#path }, 'cannot write the access log, switched off');
    }
  }

  #line({ domid, id }: StoreConnection, way: 'IN' | 'OUT', what: string, text: string): void {
    if (!this.#on) return;
    if (this.#lines === '') {
      setImmediate(() => {
        this.flush();
      });
    }
    const shown = text.slice(0, ACCESS_LOG_TEXT_MAX).replaceAll(UNPRINTABLE, ' ').trimEnd();
    this.#lines += `${new Date().toISOString()} d${domid} ${id} ${way} ${what} ${shown}\n`;
  }

  #open(): void {
    mkdirSync(dirname(this.#path), { recursive: true });
    this.#fd = openSync(this.#path, 'a', MODE);
    this.#sizeBytes = fstatSync(this.#fd).size;
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
