/**
 * One blkif ring of a frontend: takes requests, has the disk do them and answers.
 *
 * Answers go out in the order of the requests. So everything from rsp_prod to req_prod of the shared ring is unanswered and
 * still whole there (responses overwrite requests), and a successor of a process that was killed begins at rsp_prod
 * and knows exactly what to do again (docs/RATIONALE.md).
 *
 * One batch to the hypervisor is under way at a time: data of reads, their answers, rsp_prod, the notification, data of writes to be
 * fetched, req_event, the ring again. What gets done meanwhile goes with the next.
 */
import type { Domid, EvtchnPort } from '@xenhost/base';
import { Errno, XenError, grantRef } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { BackRing, SRING, responseWrites, ringIndex, ringShape, slotOffset } from '@xenhost/pv-ring';
import type { RingPush, RingShape, RingWrite } from '@xenhost/pv-ring';
import { BLKIF_ABI, BLKIF_RSP, BLKIF_SECTOR_BYTES } from '@xenhost/xen-abi';
import { BATCH_BYTES, BATCH_STEPS, EVENT_COPY_PAGES, SLOW_WORK_MS } from '../limits.ts';
import { Batch, allDone, resultsOf } from './batch.ts';
import type { Part } from './batch.ts';
import type { DeviceShare } from './budget.ts';
import { DiskWorker } from './disk-worker.ts';
import type { DiskWorkerModules } from './disk-worker.ts';
import { encodeResponse, parseRequest } from './requests.ts';
import type { AbiWidth } from './requests.ts';
import { bytesOfRequest, isTransfer, newWork, startable } from './work.ts';
import type { Work } from './work.ts';

const PAGE_BYTES = 4096;
/** The indices of the shared ring. */
const HEADER_BYTES = 16;

export interface BlkRingOptions {
  readonly domid: Domid;
  /** Grants of the ring's pages, a power of two of them. */
  readonly ringRefs: readonly number[];
  /** Domain-0's end of the event channel. */
  readonly port: EvtchnPort;
  readonly width: AbiWidth;
}

export interface BlkRingModules extends DiskWorkerModules {
  readonly privcmd: PrivcmdPort;
  readonly share: DeviceShare;
  /** The frontend broke the protocol: this ring is served no more. */
  readonly onFault: (reason: string) => void;
}

/** The parts of a batch whose results matter. */
interface Parts {
  readonly fetch: readonly Part[];
  readonly slots: Part;
  readonly news: Part;
}

export class BlkRing {
  readonly port: EvtchnPort;
  readonly #options: BlkRingOptions;
  readonly #modules: BlkRingModules;
  readonly #shape: RingShape;
  readonly #pages: readonly RemotePage[];
  /** Whether a copy of all pages comes with each event; of larger rings only the slots that are needed are read. */
  readonly #small: boolean;
  readonly #worker: DiskWorker;
  /** Unanswered requests in the order of the ring. */
  readonly #queue: Work[] = [];
  /** A copy of the pages, good for slots from what was taken to `#copied`. */
  readonly #ring: Uint8Array;
  #back: BackRing;
  #copied = 0;
  /** The frontend's producer index as last seen. */
  #reqProd = 0;
  #state: 'new' | 'open' | 'paused' | 'gone' = 'new';
  #batch: Promise<void> | undefined;
  #scheduled = false;
  /** The ring is to be read. */
  #look = false;
  /** Whether the frontend sends an event at its next request. */
  #asked = false;
  #slowTimer: NodeJS.Timeout | undefined;
  #whenIdle: (() => void)[] = [];
  /** Round trips to the hypervisor so far. */
  batches = 0;

  constructor(options: BlkRingOptions, modules: BlkRingModules) {
    const { domid, ringRefs, width } = options;
    this.port = options.port;
    this.#options = options;
    this.#modules = modules;
    this.#shape = ringShape(BLKIF_ABI[width].request.size, ringRefs.length);
    const page = (gref: number): RemotePage => ({ space: 'grant', domid, gref: grantRef(gref) });
    this.#pages = ringRefs.map(page);
    this.#small = ringRefs.length <= EVENT_COPY_PAGES;
    this.#ring = new Uint8Array(ringRefs.length * PAGE_BYTES);
    this.#back = new BackRing(this.#shape);
    this.#worker = new DiskWorker(modules, page, (works) => {
      this.#done(works);
    });
  }

  /** Requests taken and not answered. */
  get inWork(): number {
    return this.#queue.length;
  }

  /**
   * Begins where the ring stands: at rsp_prod. The port must be bound by then, so that no other process serves the ring. False when
   * the ring cannot be read.
   */
  async start(): Promise<boolean> {
    const { privcmd } = this.#modules;
    const [header, ...pages] = await privcmd.memory([
      this.#headerStep(),
      ...this.#pages.map((page): MemoryOp => ({ kind: 'read', page, offset: 0, length: PAGE_BYTES })),
    ]);
    if (header?.data?.length !== HEADER_BYTES || !allDone(pages) || this.#state !== 'new') return false;
    const position = ringIndex(header.data, 'rsp_prod');
    this.#back = new BackRing(this.#shape, position);
    this.#copied = this.#reqProd = position;
    await privcmd.readOnEvent(this.port, [...this.#newsSteps()]);
    this.#state = 'open';
    // A predecessor may have died between an answer and its notification.
    await privcmd.notify(this.port);
    this.#look = true;
    this.#kick();
    return true;
  }

  /** An event of the ring's port, with what was read for it. */
  event(reads: readonly MemoryResult[] | undefined): void {
    if (this.#state !== 'open') return;
    this.#asked = false;
    if (reads && reads.length > 0) this.#news(reads);
    else this.#look = true;
    this.#kick();
  }

  /** There may be memory again for requests that wait in the ring. */
  roomAgain(): void {
    if (this.#state === 'open') this.#take();
  }

  /** Takes no more requests; resolves when all that were taken have been answered. */
  async pause(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'paused';
    if (this.#queue.length === 0 && !this.#batch) return;
    await new Promise<void>((resolve) => {
      this.#whenIdle.push(resolve);
      this.#kick();
    });
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'open';
    this.#look = true;
    this.#kick();
  }

  /** Ends service at once. Resolves when neither the disk nor the hypervisor does anything more for it. */
  async stop(): Promise<void> {
    this.#state = 'gone';
    clearTimeout(this.#slowTimer);
    await this.#worker.idle();
    await this.#batch;
    for (const work of this.#queue.splice(0)) this.#release(work);
    this.#tellIdle();
  }

  /* what comes in */

  #headerStep(): Extract<MemoryOp, { kind: 'read' }> {
    const [page] = this.#pages;
    if (!page) throw new Error('a ring without a page');
    return { kind: 'read', page, offset: 0, length: HEADER_BYTES };
  }

  /** The header first: slots below its req_prod were written before it was. */
  #newsSteps(): Extract<MemoryOp, { kind: 'read' }>[] {
    const pages = this.#small ? this.#pages : [];
    return [
      this.#headerStep(),
      ...pages.map((page) => ({ ...{ kind: 'read' as const, page, offset: 0, length: PAGE_BYTES } })),
    ];
  }

  /** Numbers of pages with slots that were announced and are not here yet; none of small rings. */
  #missingPages(): number[] {
    const wanted = new Set<number>();
    for (let index = this.#copied; index !== this.#reqProd; index = (index + 1) >>> 0) {
      const at = slotOffset(this.#shape, index);
      wanted.add(Math.floor(at / PAGE_BYTES));
      wanted.add(Math.floor((at + this.#shape.entryBytes - 1) / PAGE_BYTES));
    }
    return [...wanted];
  }

  /** The results of `newsSteps`, as the pages were at one moment. */
  #news([header, ...pages]: readonly MemoryResult[]): void {
    if (header?.data?.length !== HEADER_BYTES || !allDone(pages)) {
      const missing = header?.status === -Errno.ESRCH;
      // A domain that is gone: xenstore will tell.
      if (missing) this.#state = 'gone';
      else this.#fault('its ring is no longer granted');
      return;
    }
    const reqProd = ringIndex(header.data, 'req_prod');
    const waiting = this.#back.unconsumed(reqProd);
    // Answers and events come in one order: a copy is never older than the last one.
    if (waiting === undefined || ((reqProd - this.#reqProd) | 0) < 0) {
      this.#fault(`its producer index went from ${this.#reqProd} to ${reqProd}`);
      return;
    }
    if (reqProd === this.#reqProd) return;
    this.#reqProd = reqProd;
    if (this.#small) {
      for (const [i, { data }] of pages.entries()) if (data) this.#ring.set(data, i * PAGE_BYTES);
      this.#copied = reqProd;
      this.#take();
    } else {
      this.#look = true;
    }
  }

  /** Takes requests whose slots are here, while there is memory for them. */
  #take(): void {
    const { share, statistics } = this.#modules;
    const back = this.#back;
    let taken = 0;
    while (back.reqCons !== this.#copied) {
      const request = parseRequest(this.#options.width, back.peek(this.#ring));
      const bytes = bytesOfRequest(request);
      if (!share.take(bytes)) {
        statistics.oo_req++;
        break;
      }
      back.take(1);
      taken++;
      this.#queue.push(newWork(request, bytes));
    }
    if (taken === 0) return;
    this.#worker.begin(startable(this.#queue));
    this.#kick();
  }

  #done(works: readonly Work[]): void {
    if (this.#state === 'gone') return;
    for (const work of works) work.stage = 'done';
    const begin = startable(this.#queue);
    if (begin.length > 0) this.#worker.begin(begin);
    this.#kick();
  }

  #fault(reason: string): void {
    this.#state = 'gone';
    this.#modules.onFault(reason);
  }

  /* what goes out */

  /** Sends soon: what else gets ready in this turn of the event loop goes along. */
  #kick(): void {
    if (this.#scheduled || this.#batch || this.#state === 'gone' || this.#state === 'new') return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#batch || this.#state === 'gone') return;
      if (this.#queue[0]?.stage === 'done' || this.#worker.wantsPages || (this.#look && this.#state === 'open')) {
        this.#send();
      } else if (this.#queue.length === 0) {
        this.#tellIdle();
      } else {
        this.#watchSlowWork();
      }
    });
  }

  /** Requests in work take their time: others are to be noticed meanwhile. */
  #watchSlowWork(): void {
    if (this.#asked || this.#slowTimer) return;
    this.#slowTimer = setTimeout(() => {
      this.#slowTimer = undefined;
      if (this.#asked || this.#batch || this.#state !== 'open') return;
      this.#look = true;
      this.#kick();
    }, SLOW_WORK_MS);
  }

  #send(): void {
    this.#batch = this.#exchange()
      .catch((error: unknown) => {
        this.#state = 'gone';
        this.#modules.onRefused(error);
        // Without its link to the hypervisor the process ends, and its successor goes on.
        const lost = error instanceof XenError && error.code === 'ENOTCONN';
        if (!lost) this.#modules.onFault('the backend failed to serve it');
      })
      .finally(() => {
        this.#batch = undefined;
        this.#kick();
      });
  }

  async #exchange(): Promise<void> {
    const { privcmd } = this.#modules;
    this.batches++;
    const answered = this.#answerable();
    for (const work of answered) this.#back.respond(this.#response(work));
    const push = this.#back.push();
    const batch = new Batch();
    const data = answered.map((work) => batch.add(this.#dataSteps(work)));
    const dataSteps = batch.steps.length;
    const fetch = this.#worker.takeFetch(BATCH_STEPS - dataSteps, BATCH_BYTES);
    const missing = this.#missingPages();
    const announced = this.#reqProd;
    this.#look = false;
    // Answers go only if all data went: the rest of the batch is not done otherwise.
    if (dataSteps > 0) batch.add([{ kind: 'check' }]);
    let parts = this.#rest(batch, push, fetch, missing);
    let results = await privcmd.memory(batch.steps);
    if (dataSteps > 0 && results[dataSteps]?.status !== 0) {
      for (const [i, work] of answered.entries()) {
        if (allDone(resultsOf(results, data[i] ?? { from: 0, to: 0 }))) continue;
        work.status = BLKIF_RSP.ERROR;
        this.#modules.onRefused('a page that is not granted');
      }
      const again = new Batch();
      parts = this.#rest(again, push && this.#corrected(push, answered), fetch, missing);
      results = await privcmd.memory(again.steps);
    }
    this.#asked = this.#state === 'open';
    this.#queue.splice(0, answered.length);
    if (missing.length > 0) this.#slots(missing, announced, resultsOf(results, parts.slots));
    this.#worker.fetched(
      fetch,
      parts.fetch.map((part) => resultsOf(results, part)),
    );
    if (this.#state === 'open') this.#news(resultsOf(results, parts.news));
    for (const work of answered) this.#release(work);
  }

  /** The part of a batch that is the same whether or not data could be written. */
  #rest(batch: Batch, push: RingPush | undefined, fetch: readonly Work[], missing: readonly number[]): Parts {
    if (push) {
      batch.add(push.writes.map((write) => this.#writeStep(write)));
      batch.add([this.#notifyStep(push)]);
    }
    const fetched = fetch.map((work) => batch.add(this.#worker.fetchOps(work)));
    const slots = batch.add(
      missing.flatMap((number): MemoryOp[] => {
        const page = this.#pages[number];
        return page ? [{ kind: 'read', page, offset: 0, length: PAGE_BYTES }] : [];
      }),
    );
    if (this.#state === 'open') batch.add([this.#writeStep(this.#back.askEvent())]);
    return { fetch: fetched, slots, news: batch.add(this.#newsSteps()) };
  }

  /** Slots of a large ring that were announced up to `upTo`. */
  #slots(numbers: readonly number[], upTo: number, results: readonly MemoryResult[]): void {
    for (const [i, number] of numbers.entries()) {
      const data = results[i]?.data;
      if (data) this.#ring.set(data, number * PAGE_BYTES);
    }
    if (!allDone(results)) return;
    this.#copied = upTo;
    if (this.#state === 'open') this.#take();
  }

  /** What can be answered now and fits into one batch. */
  #answerable(): Work[] {
    let steps = 0;
    let bytes = 0;
    let count = 0;
    for (const { stage, request, data } of this.#queue) {
      if (stage !== 'done') break;
      if (data && request.kind === 'transfer') {
        steps += request.segments.length;
        bytes += request.bytes;
      }
      if (count > 0 && (steps > BATCH_STEPS || bytes > BATCH_BYTES)) break;
      count++;
    }
    return this.#queue.slice(0, count);
  }

  /** The writes of a read's data into the guest's pages. */
  #dataSteps(work: Work): MemoryOp[] {
    const { data } = work;
    if (!data || !isTransfer(work)) return [];
    let at = 0;
    return work.request.segments.map(({ gref, offset, length }): MemoryOp => {
      at += length;
      const page: RemotePage = { space: 'grant', domid: this.#options.domid, gref: grantRef(gref) };
      return { kind: 'write', page, offset, data: data.bytes.subarray(at - length, at) };
    });
  }

  #response({ request, status }: Work): Uint8Array {
    return encodeResponse(this.#options.width, request, status);
  }

  /** The same answers with the statuses as they are now. */
  #corrected(push: RingPush, answered: readonly Work[]): RingPush {
    const responses = answered.map((work) => this.#response(work));
    const index = push.writes.slice(-1);
    return { ...push, writes: [...responseWrites(this.#shape, push.from, responses), ...index] };
  }

  #writeStep({ page: number, offset, data }: RingWrite): MemoryOp {
    return { kind: 'write', page: this.#pages[number] ?? this.#headerStep().page, offset, data };
  }

  #notifyStep({ from, to }: RingPush): MemoryOp {
    return {
      kind: 'notify',
      port: this.port,
      push: { page: this.#headerStep().page, offset: SRING.rsp_event, from, to },
    };
  }

  /** Gives back what an answered request held, and counts what it moved. */
  #release(work: Work): void {
    const { share, pool, statistics } = this.#modules;
    const { data, request, status } = work;
    work.data = undefined;
    if (data && --data.run.users === 0) pool.give(data.run.buffer);
    if (request.kind === 'transfer' && status === BLKIF_RSP.OKAY) {
      if (request.does === 'read') statistics.rd_sect += request.bytes / BLKIF_SECTOR_BYTES;
      else statistics.wr_sect += request.bytes / BLKIF_SECTOR_BYTES;
    }
    share.give(work.budgetBytes);
  }

  #tellIdle(): void {
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}
