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
import { ForeignRegions, imageOf } from './image.ts';
import type { RegionImage } from './image.ts';
import { SLOW_NAMES } from './imports.ts';
import { buildModule, orderOf, regionName } from './order.ts';
import { planRegion } from './plan.ts';
import type { CodeSource, RegionPlan } from './plan.ts';

/** Branches to a place before it is compiled: soon enough for loops, late enough that the ways that code takes have been seen. */
const HOT_AFTER = 32_000;
/** A place belongs to the region of a hot one when branches went there this often for one to that (a shift). */
const WARM_SHIFT = 5;
const NEVER = 0xffff_ffff;
/** Plans that are compiled in one module. */
const BATCH = 8;
/** Runs that a plan waits for others at most. */
const MAX_WAIT = 4;
/** Modules that another thread may be asked for before one of them is there. */
const MAX_ORDERS = 8;
/** Plans that wait for that; what gets hot meanwhile is planned later. */
const MAX_PLANS = 4 * BATCH;
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
  /** Its places in `planned`. */
  readonly places: readonly number[];
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
  /** What another thread compiles, by the order's number. */
  private readonly ordered = new Map<number, readonly Planned[]>();
  private nrOrders = 0;
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
    const plan = this.waiting.length < MAX_PLANS ? planRegion(source, offset) : undefined;
    if (!plan) return record;
    const region = new Region([...plan.pages.values()], this);
    if (this.mode !== 'force') {
      const places = plan.blocks.flatMap((block) => {
        const map = plan.pages.get(Math.floor(block.at / PAGE))?.map;
        return map === undefined ? [] : [map + 4 * (block.at & (PAGE - 1))];
      });
      for (const place of places) this.planned.add(place);
      this.waiting.push({ region, plan, places });
      return record;
    }
    this.compile([{ region, plan, places: [] }]);
    return cache.recordAt(page, offset) || record;
  }

  /** Between two runs: takes what others have compiled; compiles what waits, when it is worth a module. */
  betweenRuns(): void {
    const { waiting, core } = this;
    const { host } = core;
    if (this.ordered.size > 0) this.takeCompiled();
    if (this.mode !== 'off')
      for (let shared = host.takeRegions?.(); shared; shared = host.takeRegions?.()) this.foreign.add(shared);
    if (waiting.length === 0 || (waiting.length < BATCH && ++this.waited < MAX_WAIT)) return;
    if (host.orderCompilation && this.ordered.size >= MAX_ORDERS) return;
    this.waited = 0;
    this.waiting = [];
    this.forget(waiting.filter(({ region }) => region.isDropped));
    const live = waiting.filter(({ region }) => !region.isDropped);
    if (live.length === 0) return;
    if (!host.orderCompilation) {
      this.compile(live);
      this.forget(live);
      return;
    }
    const id = this.nrOrders++;
    this.ordered.set(id, live);
    host.orderCompilation({ id, regions: live.map(({ plan }) => orderOf(plan)) });
  }
  /** Their places may be planned again. */
  private forget(planned: readonly Planned[]): void {
    for (const { places } of planned) for (const place of places) this.planned.delete(place);
  }
  private takeCompiled(): void {
    const { host, counters } = this.core;
    for (let done = host.takeCompiled?.(); done; done = host.takeCompiled?.()) {
      const planned = this.ordered.get(done.id);
      if (!planned) continue;
      this.ordered.delete(done.id);
      counters.compileNs += done.compileNs;
      // What cannot be compiled is not tried again.
      if (!done.module) continue;
      this.use(done.module, done.bytes, planned);
      this.forget(planned);
    }
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
    const started = performance.now();
    const bytes = buildModule(planned.map(({ plan }) => plan));
    this.use(new WebAssembly.Module(bytes), bytes.length, planned);
    this.core.counters.compileNs += (performance.now() - started) * 1e6;
  }
  /** Installs the regions of a module but for those whose code is not what it was. */
  private use(module: WebAssembly.Module, bytes: number, planned: readonly Planned[]): void {
    const { counters, host } = this.core;
    const each = Math.ceil(bytes / planned.length);
    const images = planned.map(({ plan }, n) => imageOf(plan, regionName(n), each));
    const instance = this.instanceOf(module);
    planned.forEach(({ region, plan }, n) => {
      const image = images[n];
      if (image && !region.isDropped) this.install(region, image, instance);
      counters.blocksCompiled += plan.blocks.length;
      counters.instructionsCompiled += plan.nrInstructions;
    });
    host.shareRegions?.({ module, regions: images });
    counters.regionsCompiled += planned.length;
    counters.regionsLive = this.live.size;
    counters.codeBytes = this.codeBytes;
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
