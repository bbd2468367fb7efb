/** Collects what goes into a new guest's pages as batched writes. New pages are zero: only what is not zero travels. */
import { domid as asDomid, XenError } from '@xenhost/base';
import type { MemoryOp } from '@xenhost/privcmd';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { Xenctrl } from '../api.ts';

const ZEROS = Buffer.alloc(PAGE_SIZE);
const isZero = (bytes: Uint8Array): boolean => ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
/** Steps sent at once while more are being made. */
const FLUSH_OPS = 8192;

export class PageWriter {
  readonly #xc: Xenctrl;
  readonly #domid: number;
  readonly #p2m: Uint32Array;
  #ops: MemoryOp[] = [];

  constructor(xc: Xenctrl, domid: number, p2m: Uint32Array) {
    this.#xc = xc;
    this.#domid = domid;
    this.#p2m = p2m;
  }

  /** Bytes at a pseudo-physical address; any alignment and length. */
  async write(address: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const offset = (address + at) % PAGE_SIZE;
      const part = bytes.subarray(at, at + PAGE_SIZE - offset);
      at += part.length;
      if (isZero(part)) continue;
      const pfn = Math.floor((address + at - part.length) / PAGE_SIZE);
      const page = { space: 'foreign', domid: asDomid(this.#domid), gfn: this.#p2m[pfn] ?? 0 } as const;
      this.#ops.push({ kind: 'write', page, offset, data: part });
      if (this.#ops.length >= FLUSH_OPS) await this.flush();
    }
  }

  /** A frame that is not in the p2m, such as shared_info or a frame of the grant table. */
  writeFrame(mfn: number, offset: number, data: Uint8Array): void {
    const page = { space: 'foreign', domid: asDomid(this.#domid), gfn: mfn } as const;
    this.#ops.push({ kind: 'write', page, offset, data });
  }

  async flush(): Promise<void> {
    const ops = this.#ops;
    this.#ops = [];
    if (ops.length === 0) return;
    const results = await this.#xc.memory(ops);
    const failed = results.find(({ status }) => status !== 0);
    if (failed) throw new XenError(-failed.status, `writing memory of domain ${this.#domid}`);
  }
}
