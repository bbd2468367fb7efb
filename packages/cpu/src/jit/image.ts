/**
 * What a compiled region is made from and how it is entered, so that other engines over the same machine memory can use
 * the same module: what they may run is decided by comparing the bytes, not by whoever compiled it.
 */
import type { CodePage } from '../interpreter/code-cache.ts';
import type { RegionPlan, Span } from './plan.ts';

const PAGE = 4096;
/** Regions of others that are kept for the time when their code gets hot here; the oldest go first. */
const MAX_IMAGES = 1024;

export interface RegionImage {
  /** Name of the function in its module, and its share of the module's bytes. */
  readonly name: string;
  readonly size: number;
  /** Pages by their small numbers: distance in pages from the lowest, machine frame. */
  readonly pages: readonly { readonly distance: number; readonly frame: number }[];
  readonly entries: readonly { readonly at: number; readonly block: number }[];
  readonly spans: readonly Span[];
}
/** Goes between threads as it is. */
export interface SharedRegions {
  readonly module: WebAssembly.Module;
  readonly regions: readonly RegionImage[];
}

export function imageOf(plan: RegionPlan, name: string, size: number): RegionImage {
  const entries = plan.blocks.flatMap((block, n) => (block.isEntry ? [{ at: block.at, block: n }] : []));
  const pages = [...plan.pages].map(([distance, page]) => ({ distance, frame: page.frame }));
  return { name, size, pages, entries, spans: plan.spans };
}

export interface Candidate {
  readonly module: WebAssembly.Module;
  readonly image: RegionImage;
}

/** Regions that others have compiled, by the machine addresses of their entries. */
export class ForeignRegions {
  private readonly byEntry = new Map<number, Candidate>();

  add({ module, regions }: SharedRegions): void {
    for (const image of regions)
      for (const { at } of image.entries) {
        const frame = image.pages.find((page) => page.distance === Math.floor(at / PAGE))?.frame;
        if (frame === undefined) continue;
        this.byEntry.set(frame * PAGE + (at & (PAGE - 1)), { module, image });
        for (const oldest of this.byEntry.keys()) {
          if (this.byEntry.size <= MAX_IMAGES) break;
          this.byEntry.delete(oldest);
        }
      }
  }

  /** A region that is entered at `offset` of the page and is still what is there, with its pages by their small numbers. */
  find(
    page: CodePage,
    offset: number,
    source: { machine: Uint8Array; pageAt(distance: number): CodePage | undefined },
  ): { candidate: Candidate; pages: CodePage[] } | undefined {
    const key = page.frame * PAGE + offset;
    const candidate = this.byEntry.get(key);
    if (!candidate) return undefined;
    this.byEntry.delete(key);
    const { image } = candidate;
    const home = image.pages.find((one) => one.frame === page.frame)?.distance ?? 0;
    const pages: CodePage[] = [];
    for (const { distance, frame } of image.pages) {
      const here = source.pageAt(distance - home);
      if (here?.frame !== frame || here.code !== page.code) return undefined;
      pages.push(here);
    }
    for (const { at, bytes } of image.spans) {
      const frame = image.pages.find((one) => one.distance === Math.floor(at / PAGE))?.frame;
      if (frame === undefined) return undefined;
      const from = frame * PAGE + (at & (PAGE - 1));
      if (bytes.some((byte, i) => source.machine[from + i] !== byte)) return undefined;
    }
    return { candidate, pages };
  }
}
