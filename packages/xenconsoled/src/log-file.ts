/** A log file that is appended to and moved aside when it is full. Writes are synchronous: what a guest printed last is on disk. */
import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

export class LogFile {
  readonly path: string;
  readonly #limit: number;
  #fd: number;
  #size: number;

  /** Throws the file system's error. */
  constructor(path: string, limitBytes: number) {
    this.path = path;
    this.#limit = limitBytes;
    mkdirSync(dirname(path), { recursive: true });
    this.#fd = openSync(path, 'a', 0o640);
    this.#size = fstatSync(this.#fd).size;
  }

  write(bytes: Uint8Array): void {
    if (this.#size > 0 && this.#size + bytes.length > this.#limit) this.#rotate();
    let at = 0;
    while (at < bytes.length) at += writeSync(this.#fd, bytes, at);
    this.#size += bytes.length;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    closeSync(this.#fd);
    renameSync(this.path, `${this.path}.1`);
    this.#fd = openSync(this.path, 'a', 0o640);
    this.#size = 0;
  }
}

/** A file name for a domain's log: names come from configuration files, so nothing but plain characters passes. */
export const guestLogName = (domainName: string): string =>
  `guest-${domainName.replace(/[^A-Za-z0-9_.:+-]/g, '_')}.log`;
