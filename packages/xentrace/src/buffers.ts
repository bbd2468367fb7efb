/**
 * The consumer's side of the trace buffers (`tools/xentrace/xentrace.c`): finds them by t_info, reads what each holds,
 * tells the hypervisor what was read. All through foreign frames of DOMID_XEN. There is one consumer at a time.
 */
import type { Xenctrl } from '@xenhost/libxenctrl';
import { DOMID, PAGE_SIZE, TraceBuf, TraceInfo } from '@xenhost/xen-abi';

/** What one buffer held. */
export interface TraceWindow {
  readonly cpu: number;
  /** Whole records. */
  readonly bytes: Uint8Array;
}

interface Buffer {
  readonly cpu: number;
  readonly frames: readonly number[];
}

const HEAD = TraceBuf.size;

export class TraceReader {
  readonly #xc: Xenctrl;
  readonly #buffers: readonly Buffer[];
  readonly #dataSize: number;

  private constructor(xc: Xenctrl, buffers: readonly Buffer[], pages: number) {
    this.#xc = xc;
    this.#buffers = buffers;
    this.#dataSize = pages * PAGE_SIZE - HEAD;
  }

  /** `info` as `tbufEnable` gave it. @throws Error when there are no buffers */
  static async open(xc: Xenctrl, info: { readonly mfn: number; readonly sizeBytes: number }): Promise<TraceReader> {
    if (info.mfn === 0) throw new Error('the hypervisor has no trace buffers');
    const nrFrames = Math.ceil(info.sizeBytes / PAGE_SIZE);
    const bytes = await xc.readFrames(
      DOMID.XEN,
      Uint32Array.from({ length: nrFrames }, (_, i) => info.mfn + i),
    );
    const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const pages = dv.getUint16(TraceInfo.offsets.tbuf_size, true);
    if (pages === 0) throw new Error('the hypervisor has no trace buffers');
    const { nrCpus } = await xc.physinfo();
    const buffers: Buffer[] = [];
    for (let cpu = 0; cpu < nrCpus; cpu++) {
      const list = dv.getUint16(TraceInfo.offsets.mfn_offset + 2 * cpu, true);
      if (list === 0) continue;
      buffers.push({ cpu, frames: Array.from({ length: pages }, (_, i) => dv.getUint32((list + i) * 4, true)) });
    }
    return new TraceReader(xc, buffers, pages);
  }

  /** Drops what the buffers hold. */
  async discard(): Promise<void> {
    for (const buffer of this.#buffers) {
      const { prod } = await this.#indices(buffer);
      await this.#consumed(buffer, prod);
    }
  }

  /** Takes what the buffers hold. */
  async read(): Promise<TraceWindow[]> {
    const windows: TraceWindow[] = [];
    for (const buffer of this.#buffers) {
      const window = await this.#readBuffer(buffer);
      if (window) windows.push(window);
    }
    return windows;
  }

  async #readBuffer(buffer: Buffer): Promise<TraceWindow | undefined> {
    const size = this.#dataSize;
    const { cons, prod } = await this.#indices(buffer);
    if (cons === prod) return undefined;
    const length = prod > cons ? prod - cons : prod + 2 * size - cons;
    if (cons >= 2 * size || prod >= 2 * size || length > size)
      throw new Error(`trace buffer of CPU ${buffer.cpu}: indices ${cons} and ${prod} cannot be`);
    const bytes = new Uint8Array(length);
    const start = cons % size;
    const first = Math.min(length, size - start);
    bytes.set(await this.#data(buffer, start, first));
    if (first < length) bytes.set(await this.#data(buffer, 0, length - first), first);
    await this.#consumed(buffer, prod);
    return { cpu: buffer.cpu, bytes };
  }

  /** A part of the data, which starts behind the head of the first frame. */
  async #data(buffer: Buffer, offset: number, length: number): Promise<Uint8Array> {
    const from = HEAD + offset;
    const firstPage = Math.floor(from / PAGE_SIZE);
    const lastPage = Math.floor((from + length - 1) / PAGE_SIZE);
    const frames = Uint32Array.from(buffer.frames.slice(firstPage, lastPage + 1));
    const pages = await this.#xc.readFrames(DOMID.XEN, frames);
    const at = from - firstPage * PAGE_SIZE;
    return pages.subarray(at, at + length);
  }

  async #indices(buffer: Buffer): Promise<{ readonly cons: number; readonly prod: number }> {
    const head = await this.#xc.readFrame(DOMID.XEN, buffer.frames[0] ?? 0, 0, HEAD);
    const dv = new DataView(head.buffer, head.byteOffset, head.byteLength);
    return { cons: dv.getUint32(TraceBuf.offsets.cons, true), prod: dv.getUint32(TraceBuf.offsets.prod, true) };
  }

  async #consumed(buffer: Buffer, cons: number): Promise<void> {
    const word = new Uint8Array(4);
    new DataView(word.buffer).setUint32(0, cons, true);
    await this.#xc.writeFrame(DOMID.XEN, buffer.frames[0] ?? 0, TraceBuf.offsets.cons, word);
  }
}
