/**
 * The JIT tier of one engine: takes hot records from the interpreter, plans and compiles regions, puts ways into them
 * into the decoded code, and takes them out again when the code changes or the cache is full.
 */
import type { JitMode } from '../engine/api.ts';
import type { CodePage, Compiled } from '../interpreter/code-cache.ts';
import type { EngineCore } from '../interpreter/core.ts';
import {
  CODE_TLB, CODE_TLB_ENTRIES, COUNTERS, COUNTER_MASK, ENTRY, HOT_THRESHOLD, NR_REGIONS, RECORD, RECORDS, REGION_PAGES,
} from '../interpreter/memory-map.ts'; // prettier-ignore
import { OFFSET } from '../engine/state.ts';
import { ModuleBuilder } from '../wasm/builder.ts';
import { ForeignRegions, imageOf } from './image.ts';
import type { RegionImage } from './image.ts';
import { SLOW_NAMES, declareImports } from './imports.ts';
import { planRegion } from './plan.ts';
import type { CodeSource, RegionPlan } from './plan.ts';
import { RegionBuilder } from './region.ts';

/** Branches to a place before it is compiled. */
const HOT_AFTER = 8000;
/** A place belongs to the region of a hot one when branches went there this often for one to that (a shift). */
const WARM_SHIFT = 3;
const NEVER = 0xffff_ffff;
/** Plans that are compiled in one module. */
const BATCH = 8;
/** Runs that a plan waits for others at most. */
const MAX_WAIT = 4;
/** Bound of all live Wasm code, of which V8 makes about five times as much machine code; the oldest goes first. */
const MAX_CODE_BYTES = 8 << 20;
const PAGE = 4096;

/** One compiled region, or one that is about to be. */
class Region implements Compiled {
  readonly pages: readonly CodePage[];
  slot = -1;
  bytes = 0;
  isDropped = false;
  /** Its `enter` records and what they say. */
  readonly entries: [record: number, word: number][] = [];
  private readonly tier: JitTier;
  constructor(pages: readonly CodePage[], tier: JitTier) {
    this.pages = pages;
    this.tier = tier;
    for (const page of this.pages) (page.compiled ??= new Set()).add(this);
  }
  drop(): void {
    if (this.isDropped) return;
    this.isDropped = true;
    for (const page of this.pages) page.compiled?.delete(this);
    this.tier.removed(this, 'invalidated');
  }
}
/** A region and, until it is compiled, its plan: that is large. */
interface Planned {
  readonly region: Region;
  readonly plan: RegionPlan;
}

export class JitTier {
  /** Functions of the regions by slot. */
  readonly table = new WebAssembly.Table({ element: 'anyfunc', initial: NR_REGIONS, maximum: NR_REGIONS });
  private readonly core: EngineCore;
  private readonly mode: JitMode;
  private imports: WebAssembly.Imports = {};
  private readonly freeSlots: number[] = [];
  private readonly live = new Set<Region>();
  private waiting: Planned[] = [];
  private readonly foreign = new ForeignRegions();
  private readonly instances = new WeakMap<WebAssembly.Module, WebAssembly.Instance>();
  /** Places that a waiting region begins at or goes through, as addresses of their words in the page maps. */
  private readonly planned = new Set<number>();
  private waited = 0;
  private codeBytes = 0;
  private readonly warmAfter: number;

  constructor(core: EngineCore, mode: JitMode, hotAfter = HOT_AFTER) {
    this.core = core;
    this.mode = mode;
    this.warmAfter = hotAfter >> WARM_SHIFT;
    for (let slot = NR_REGIONS - 1; slot >= 0; slot--) this.freeSlots.push(slot);
    core.words[HOT_THRESHOLD / 4] = mode === 'off' ? NEVER | 0 : mode === 'force' ? 1 : hotAfter;
  }
  /** What modules of regions are linked with; once, before the first run. */
  link(
    memories: { private: WebAssembly.Memory; machine: WebAssembly.Memory },
    slow: Readonly<Record<string, unknown>>,
  ): void {
    const own = Object.fromEntries(SLOW_NAMES.map((name) => [name, slow[name]]));
    this.imports = { engine: { ...memories, regions: this.table }, slow: own } as WebAssembly.Imports;
  }

  /** The interpreter was often at `record`: the record to go on with. */
  hot(record: number): number {
    const { core } = this;
    const { cache, words } = core;
    words[(COUNTERS + ((record >>> 3) & COUNTER_MASK)) / 4] = 0;
    if (record < RECORDS || core.codeSize !== 64 || cache.isEntry(record)) return record;
    const page = this.pageAt(0);
    const offset = core.view.getUint16(record + RECORD.offset, true);
    if (!page || cache.recordAt(page, offset) !== record) return record;
    if (this.planned.has(page.map + 4 * offset)) return record;
    const source = this.source();
    const known = this.foreign.find(page, offset, source);
    if (known) {
      const { candidate, pages } = known;
      this.install(new Region(pages, this), candidate.image, this.instanceOf(candidate.module));
      core.counters.regionsReused++;
      core.counters.regionsLive = this.live.size;
      return cache.recordAt(page, offset) || record;
    }
    const plan = planRegion(source, offset);
    if (!plan) return record;
    const region = new Region([...plan.pages.values()], this);
    if (this.mode !== 'force') {
      this.waiting.push({ region, plan });
      for (const block of plan.blocks) {
        const map = plan.pages.get(Math.floor(block.at / PAGE))?.map;
        if (map !== undefined) this.planned.add(map + 4 * (block.at & (PAGE - 1)));
      }
      return record;
    }
    this.compile([{ region, plan }]);
    return cache.recordAt(page, offset) || record;
  }

  /** Between two runs: takes what others have compiled; compiles what waits, when it is worth a module. */
  betweenRuns(): void {
    const { waiting } = this;
    if (this.mode !== 'off')
      for (let shared = this.core.host.takeRegions?.(); shared; shared = this.core.host.takeRegions?.()) this.foreign.add(shared); // prettier-ignore
    if (waiting.length === 0 || (waiting.length < BATCH && ++this.waited < MAX_WAIT)) return;
    this.waited = 0;
    this.waiting = [];
    this.planned.clear();
    this.compile(waiting.filter(({ region }) => !region.isDropped));
  }

  removed(region: Region, why: 'invalidated' | 'evicted'): void {
    const { core, live } = this;
    for (const [record, word] of region.entries) core.cache.removeEntry(record, word);
    if (!live.delete(region)) return;
    this.table.set(region.slot, null);
    this.freeSlots.push(region.slot);
    this.codeBytes -= region.bytes;
    core.counters[why === 'evicted' ? 'regionsEvicted' : 'regionsInvalidated']++;
    core.counters.regionsLive = live.size;
    core.counters.codeBytes = this.codeBytes;
  }

  // Planning ---------------------------------------------------------------------------------------------------------
  /** The page `distance` pages from that of RIP, by the code TLB. */
  private pageAt(distance: number): CodePage | undefined {
    const { core } = this;
    const { words } = core;
    const low = ((words[OFFSET.ripBase / 4] ?? 0) + distance * PAGE) | 0;
    const base = core.state.ripBase + BigInt(distance * PAGE);
    const high = Number(BigInt.asIntN(32, base >> 32n));
    const index = (low >>> 8) & ((CODE_TLB_ENTRIES - 1) << 4);
    const entry = (CODE_TLB + (words[OFFSET.codeView / 4] ?? 0) + index) / 4;
    if (words[entry] !== low || words[entry + 1] !== high) return undefined;
    return core.cache.pageWithMap((words[entry + 2] ?? 0) >>> 0);
  }
  private source(): CodeSource {
    const { core } = this;
    const { cache, machine, words } = core;
    return {
      machine,
      pageAt: (distance) => this.pageAt(distance),
      isDecoded: (page, offset) => cache.recordAt(page, offset) !== 0,
      isWarm: (page, offset) => {
        if (this.mode === 'force') return true;
        const record = cache.recordAt(page, offset);
        return (
          cache.isEntry(record) || (words[(COUNTERS + ((record >>> 3) & COUNTER_MASK)) / 4] ?? 0) >= this.warmAfter
        );
      },
    };
  }

  // Compiling --------------------------------------------------------------------------------------------------------
  private compile(planned: readonly Planned[]): void {
    if (planned.length === 0) return;
    const started = performance.now();
    const { counters, host } = this.core;
    const m = new ModuleBuilder();
    const imports = declareImports(m);
    const regionType = m.type(['i32', 'i32'], ['i32']);
    // Function 0 would be given to the optimising compiler at once.
    m.function([], []);
    planned.forEach(({ plan }, n) => {
      const f = m.function(['i32', 'i32'], ['i32'], `r${n}`);
      new RegionBuilder(plan, f, { imports, regionType, table: imports.table }).emit();
      counters.blocksCompiled += plan.blocks.length;
      counters.instructionsCompiled += plan.nrInstructions;
    });
    const bytes = m.build();
    const module = new WebAssembly.Module(bytes);
    const instance = this.instanceOf(module);
    const each = Math.ceil(bytes.length / planned.length);
    const images = planned.map(({ plan }, n) => imageOf(plan, `r${n}`, each));
    images.forEach((image, n) => {
      const one = planned[n];
      if (one) this.install(one.region, image, instance);
    });
    host.shareRegions?.({ module, regions: images });
    counters.regionsCompiled += planned.length;
    counters.regionsLive = this.live.size;
    counters.codeBytes = this.codeBytes;
    counters.compileNs += (performance.now() - started) * 1e6;
  }
  private instanceOf(module: WebAssembly.Module): WebAssembly.Instance {
    let instance = this.instances.get(module);
    if (!instance) this.instances.set(module, (instance = new WebAssembly.Instance(module, this.imports)));
    return instance;
  }
  private install(region: Region, image: RegionImage, instance: WebAssembly.Instance): void {
    while (this.freeSlots.length === 0 || this.codeBytes + image.size > MAX_CODE_BYTES) this.evict();
    const { cache, words } = this.core;
    region.slot = this.freeSlots.pop() ?? 0;
    region.bytes = image.size;
    this.codeBytes += image.size;
    this.live.add(region);
    this.table.set(region.slot, instance.exports[image.name]);
    region.pages.forEach((page, number) => {
      words[(REGION_PAGES.base + (region.slot << REGION_PAGES.log2)) / 4 + number] = page.map;
    });
    for (const { at, block } of image.entries) {
      const number = image.pages.findIndex(({ distance }) => distance === Math.floor(at / PAGE));
      const page = region.pages[number];
      if (!page) continue;
      const word = (region.slot << ENTRY.blockBits) | block;
      const record = cache.addEntry(page, at & (PAGE - 1), word);
      if (record !== 0) region.entries.push([record, word]);
    }
  }
  private evict(): void {
    const [oldest] = this.live;
    if (!oldest) throw new Error('no region to evict');
    oldest.isDropped = true;
    for (const page of oldest.pages) page.compiled?.delete(oldest);
    this.removed(oldest, 'evicted');
  }
}
