/** A guest's ring page as bytes, for a guest that keeps to nothing. */
import { appendFileSync, closeSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { XenstoreDomainInterface as Page } from '@xenhost/xen-abi';

/** `fakexen.h`: the daemon's port for domain N is this plus N. */
const FIRST_PORT = 1000;
const RING_BYTES = 1024;

export type RingIndex = 'req_cons' | 'req_prod' | 'rsp_cons' | 'rsp_prod' | 'error';

export class RawRing implements Disposable {
  readonly #page: number;
  readonly #doorbell: string;
  readonly #port = Buffer.alloc(4);

  constructor(directory: string, domid: number) {
    this.#page = openSync(join(directory, `page.${domid}`), 'r+');
    this.#doorbell = join(directory, 'events');
    this.#port.writeUInt32LE(FIRST_PORT + domid);
  }

  get(index: RingIndex): number {
    const bytes = Buffer.alloc(4);
    readSync(this.#page, bytes, 0, 4, Page.offsets[index]);
    return bytes.readUInt32LE();
  }

  set(index: RingIndex, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value >>> 0);
    writeSync(this.#page, bytes, 0, 4, Page.offsets[index]);
  }

  /** Puts what there is room for; the number of bytes. Replies are left where they are. */
  put(bytes: Uint8Array): number {
    const prod = this.get('req_prod');
    const used = (prod - this.get('req_cons')) >>> 0;
    const length = Math.min(Math.max(0, RING_BYTES - used), bytes.length);
    for (let done = 0; done < length;) {
      const at = (prod + done) % RING_BYTES;
      const piece = Math.min(length - done, RING_BYTES - at);
      writeSync(this.#page, bytes, done, piece, Page.offsets.req + at);
      done += piece;
    }
    this.set('req_prod', prod + length);
    this.notify();
    return length;
  }

  notify(): void {
    appendFileSync(this.#doorbell, this.#port);
  }

  [Symbol.dispose](): void {
    closeSync(this.#page);
  }
}
