/** Machine memory with an image behind page tables. Pages of the image may move to other frames, as a pager moves them. */
import { PTE, PageTables } from '../lib/page-tables.ts';
import { IMAGE_PAGES, PAGE, REGIONS } from './world.ts';

/** Frames of one image: page tables, and each page's frame twice. */
export const FRAMES_PER_IMAGE = 64;
/** Frames for page tables; those of the image follow. */
const NR_TABLES = 24;
/** What is left in a frame that was moved away from. */
const STALE = 0xf4;

export class MappedImage {
  readonly cr3: bigint;
  readonly #tables: PageTables;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  /** Frame of each page of the image. */
  readonly #frames: number[] = [];
  readonly #spare: number[] = [];

  /** In the `FRAMES_PER_IMAGE` frames of machine memory from `root` on. */
  constructor(memory: WebAssembly.Memory, root: number) {
    this.cr3 = BigInt(root * PAGE);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
    this.#tables = new PageTables(this.#view, root);
    const first = root + NR_TABLES;
    for (let n = 0; n < IMAGE_PAGES; n++) {
      this.#frames.push(first + n);
      this.#spare.push(first + IMAGE_PAGES + n);
    }
    for (let n = 0; n < IMAGE_PAGES; n++) this.#mapPage(n);
  }

  /** All frames that ever hold pages. */
  get frames(): readonly number[] {
    return [...this.#frames, ...this.#spare];
  }

  read(): Uint8Array {
    const image = new Uint8Array(IMAGE_PAGES * PAGE);
    this.#frames.forEach((frame, n) => {
      image.set(this.#bytes.subarray(frame * PAGE, (frame + 1) * PAGE), n * PAGE);
    });
    return image;
  }
  write(image: Uint8Array): void {
    this.#frames.forEach((frame, n) => {
      this.#bytes.set(image.subarray(n * PAGE, (n + 1) * PAGE), frame * PAGE);
    });
  }
  /** Quadword at an offset of the image, as somebody outside reads and writes it. */
  quadword(offset: number): bigint {
    return this.#view.getBigUint64(this.#at(offset), true);
  }
  setQuadword(offset: number, value: bigint): void {
    this.#view.setBigUint64(this.#at(offset), value, true);
  }
  byte(offset: number): number {
    return this.#bytes[this.#at(offset)] ?? 0;
  }
  #at(offset: number): number {
    return (this.#frames[Math.floor(offset / PAGE)] ?? 0) * PAGE + (offset % PAGE);
  }

  /** Moves a page to another frame; returns the addresses whose translations have changed. */
  migrate(page: number, overwritesOld: boolean): { addresses: number[]; oldFrame: number; newFrame: number } {
    const oldFrame = this.#frames[page] ?? 0;
    const newFrame = this.#spare.shift() ?? 0;
    this.#spare.push(oldFrame);
    this.#frames[page] = newFrame;
    this.#bytes.copyWithin(newFrame * PAGE, oldFrame * PAGE, (oldFrame + 1) * PAGE);
    if (overwritesOld) this.#bytes.fill(STALE, oldFrame * PAGE, (oldFrame + 1) * PAGE);
    return { addresses: this.#mapPage(page), oldFrame, newFrame };
  }

  #mapPage(n: number): number[] {
    const addresses: number[] = [];
    for (const { address, page, pages, write, execute } of REGIONS) {
      if (n < page || n >= page + pages) continue;
      const at = address + (n - page) * PAGE;
      this.#tables.map(at, this.#frames[n] ?? 0, (write ? PTE.writable : 0n) | (execute ? 0n : PTE.noExecute));
      addresses.push(at);
    }
    return addresses;
  }
}
