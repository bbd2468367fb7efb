/**
 * A guest's framebuffer: frames named by the page directories of its shared page (`fbif.h`), read by copies. The guest may
 * write what it likes into the page and the directories: they are read once, and frames that are not the guest's own are
 * refused by the hypervisor, one by one.
 */
import { bytesOf } from '@xenhost/base';
import type { Domid } from '@xenhost/base';
import type { MemoryOp, PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { XenfbPage, XenfbPage32, xenfbDirectories } from '@xenhost/xen-abi';
import { fitGeometry, type Geometry } from './geometry.ts';

const PAGE_BYTES = 4096;
/** Frame numbers that no machine has are no frames of this guest either. */
const NO_FRAME = 0xffff_ffff;

export interface FramebufferOptions {
  readonly domid: Domid;
  readonly page: RemotePage;
  /** Of the frontend: entries of the directories are as wide. */
  readonly bits: 32 | 64;
  /** Bytes that are looked at. */
  readonly maxBytes: number;
}

export class Framebuffer {
  /** As the shared page says. */
  readonly geometry: Geometry;
  readonly length: number;
  readonly #domid: Domid;
  readonly #frames: Float64Array;
  readonly #privcmd: Pick<PrivcmdPort, 'memory'>;
  #refused = 0;

  private constructor(
    options: {
      readonly domid: Domid;
      readonly geometry: Geometry;
      readonly length: number;
      readonly frames: Float64Array;
    },
    privcmd: Pick<PrivcmdPort, 'memory'>,
  ) {
    this.#domid = options.domid;
    this.geometry = options.geometry;
    this.length = options.length;
    this.#frames = options.frames;
    this.#privcmd = privcmd;
  }

  /** Reads the shared page and the directories. A sentence where they make no framebuffer. */
  static async open(options: FramebufferOptions, privcmd: Pick<PrivcmdPort, 'memory'>): Promise<Framebuffer | string> {
    const { page, domid, bits, maxBytes } = options;
    const layout = bits === 64 ? XenfbPage : XenfbPage32;
    const entryBytes = bits / 8;
    const maxDirectories = xenfbDirectories(layout.offsets.pd, entryBytes);
    const headBytes = layout.offsets.pd + maxDirectories * entryBytes;
    const [head] = await privcmd.memory([{ kind: 'read', page, offset: 0, length: headBytes }]);
    if (!head?.data) return `its page cannot be read (${head?.status ?? 0})`;
    const { width, height, line_length, mem_length, depth } = layout.view(bytesOf(head.data), 0);
    const perDirectory = PAGE_BYTES / entryBytes;
    const length = Math.min(mem_length, maxBytes, maxDirectories * perDirectory * PAGE_BYTES);
    const geometry = fitGeometry({ width, height, stride: line_length, depth, offset: 0 }, length);
    if (typeof geometry === 'string') return geometry;
    const nrFrames = Math.ceil(length / PAGE_BYTES);
    const directories = entries(head.data.subarray(layout.offsets.pd), entryBytes, Math.ceil(nrFrames / perDirectory));
    const read = await privcmd.memory(
      [...directories].map((gfn): MemoryOp => {
        return { kind: 'read', page: { space: 'foreign', domid, gfn }, offset: 0, length: PAGE_BYTES };
      }),
    );
    const frames = new Float64Array(nrFrames);
    for (const [i, { data, status }] of read.entries()) {
      if (!data) return `directory ${i} cannot be read (${status})`;
      const first = i * perDirectory;
      frames.set(entries(data, entryBytes, Math.min(perDirectory, nrFrames - first)), first);
    }
    return new Framebuffer({ domid, geometry, length, frames }, privcmd);
  }

  /** Frames that could not be read so far; their pixels are black. */
  get refusedFrames(): number {
    return this.#refused;
  }

  /** The bytes from `start` on; fewer where the framebuffer ends. */
  async read(start: number, length: number): Promise<Uint8Array> {
    const end = Math.min(start + length, this.length);
    const first = Math.floor(start / PAGE_BYTES);
    const ops: MemoryOp[] = [];
    for (let frame = first; frame * PAGE_BYTES < end; frame++) {
      const offset = Math.max(0, start - frame * PAGE_BYTES);
      const size = Math.min(PAGE_BYTES, end - frame * PAGE_BYTES) - offset;
      const page: RemotePage = { space: 'foreign', domid: this.#domid, gfn: this.#frames[frame] ?? 0 };
      ops.push({ kind: 'read', page, offset, length: size });
    }
    const bytes = new Uint8Array(Math.max(0, end - start));
    for (const [i, { data }] of (await this.#privcmd.memory(ops)).entries()) {
      if (data) bytes.set(data, Math.max(0, (first + i) * PAGE_BYTES - start));
      else this.#refused++;
    }
    return bytes;
  }
}

function entries(bytes: Uint8Array, entryBytes: number, count: number): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float64Array.from({ length: count }, (_, i) =>
    entryBytes === 8 ? Math.min(Number(view.getBigUint64(i * 8, true)), NO_FRAME) : view.getUint32(i * 4, true),
  );
}
