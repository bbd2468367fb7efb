/**
 * What a ring's requests do with the disk: reads and writes next to each other become one access, writes first have their data (and
 * indirect requests their segments) fetched from the guest by the ring's next batch. Nothing here orders requests: who
 * begins one has made sure that it may run.
 */
import type { MemoryOp, MemoryResult, RemotePage } from '@xenhost/privcmd';
import { BLKIF_RSP, BLKIF_SECTOR_BYTES } from '@xenhost/xen-abi';
import type { BufferPool } from './buffers.ts';
import type { Disk, Statistics } from './disk.ts';
import { indirectBytes, resolveIndirect } from './requests.ts';
import type { DiscardRequest } from './requests.ts';
import { isTransfer, mergeRuns, refusal, runBytes } from './work.ts';
import type { ReadRun, TransferWork, Work } from './work.ts';

export interface DiskWorkerModules {
  readonly disk: Disk;
  readonly pool: BufferPool;
  readonly statistics: Statistics;
  /** A request gets an error for an answer. */
  readonly onRefused: (reason: unknown) => void;
}

export class DiskWorker {
  readonly #modules: DiskWorkerModules;
  readonly #page: (gref: number) => RemotePage;
  /** Told of works whose status stands. */
  readonly #done: (works: readonly Work[]) => void;
  #fetch: Work[] = [];
  /** Accesses of the image under way. */
  readonly #running = new Set<Promise<void>>();

  constructor(modules: DiskWorkerModules, page: (gref: number) => RemotePage, done: (works: readonly Work[]) => void) {
    this.#modules = modules;
    this.#page = page;
    this.#done = done;
  }

  begin(works: readonly Work[]): void {
    const reads: TransferWork[] = [];
    const finished: Work[] = [];
    for (const work of works) {
      this.#count(work);
      const reason = refusal(work.request, this.#modules.disk);
      if (reason !== undefined) finished.push(this.#refuse(work, reason));
      else if (work.request.kind === 'indirect') this.#wantPages(work);
      else if (work.request.kind === 'discard') this.#run([work], this.#discard(work.request));
      else if (isTransfer(work)) {
        if (work.request.does === 'read') reads.push(work);
        else if (work.request.segments.length > 0) this.#wantPages(work);
        else this.#run([work], this.#flush());
      }
    }
    for (const run of mergeRuns(reads)) this.#read(run);
    if (finished.length > 0) this.#done(finished);
  }

  /** Whether pages of the guest are to be read. */
  get wantsPages(): boolean {
    return this.#fetch.length > 0;
  }

  /** Works whose pages are to be read by one batch of at most so many steps and bytes; one at least. */
  takeFetch(maxSteps: number, maxBytes: number): Work[] {
    let steps = 0;
    let bytes = 0;
    let count = 0;
    for (const work of this.#fetch) {
      steps += fetchSteps(work);
      bytes += work.budgetBytes;
      if (count > 0 && (steps > maxSteps || bytes > maxBytes)) break;
      count++;
    }
    return this.#fetch.splice(0, count);
  }

  /** The steps that fetch one work's pages. */
  fetchOps({ request }: Work): MemoryOp[] {
    if (request.kind === 'indirect') {
      return request.pages.map((gref, i) => ({
        ...{ kind: 'read', page: this.#page(gref), offset: 0, length: indirectBytes(request, i) },
      }));
    }
    if (request.kind !== 'transfer') return [];
    return request.segments.map(({ gref, offset, length }) => ({
      ...{ kind: 'read', page: this.#page(gref), offset, length },
    }));
  }

  /** What was fetched for works, one list of results each, in the order of `fetchOps`. */
  fetched(works: readonly Work[], results: readonly (readonly MemoryResult[])[]): void {
    const writes: TransferWork[] = [];
    const resolved: Work[] = [];
    const finished: Work[] = [];
    for (const [i, work] of works.entries()) {
      const pieces = (results[i] ?? []).flatMap(({ status, data }) => (status === 0 && data ? [data] : []));
      if (pieces.length < fetchSteps(work)) {
        finished.push(this.#refuse(work, 'a page that is not granted'));
      } else if (work.request.kind === 'indirect') {
        work.request = resolveIndirect(work.request, pieces);
        resolved.push(work);
      } else if (isTransfer(work)) {
        work.pieces = pieces;
        writes.push(work);
      }
    }
    const plain = writes.filter(({ request }) => request.does === 'write');
    for (const run of mergeRuns(plain)) this.#write(run);
    for (const work of writes) if (work.request.does !== 'write') this.#run([work], this.#flushAndWrite(work));
    this.#beginResolved(resolved);
    if (finished.length > 0) this.#done(finished);
  }

  /** Resolves when no access of the image is under way. */
  async idle(): Promise<void> {
    this.#fetch = [];
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** As `begin`, but they were counted. */
  #beginResolved(works: readonly Work[]): void {
    const reads: TransferWork[] = [];
    const finished: Work[] = [];
    for (const work of works) {
      const reason = refusal(work.request, this.#modules.disk);
      if (reason !== undefined) finished.push(this.#refuse(work, reason));
      else if (isTransfer(work) && work.request.does === 'read') reads.push(work);
      else this.#wantPages(work);
    }
    for (const run of mergeRuns(reads)) this.#read(run);
    if (finished.length > 0) this.#done(finished);
  }

  #wantPages(work: Work): void {
    work.stage = 'fetch';
    this.#fetch.push(work);
  }

  #refuse(work: Work, reason: unknown): Work {
    work.status = work.request.kind === 'bad' ? work.request.status : BLKIF_RSP.ERROR;
    work.data = undefined;
    this.#modules.onRefused(reason);
    return work;
  }

  #read(run: readonly TransferWork[]): void {
    const { disk, pool } = this.#modules;
    const bytes = runBytes(run);
    const buffer = pool.take(bytes);
    const offset = offsetOf(run);
    const access = disk.read(offset, buffer.subarray(0, bytes)).then(() => {
      const shared: ReadRun = { buffer, users: run.length };
      let at = 0;
      for (const work of run) {
        work.data = { bytes: buffer.subarray(at, at + work.request.bytes), run: shared };
        at += work.request.bytes;
      }
    });
    this.#run(run, access, (work) => {
      this.#read([work]);
    });
  }

  #write(run: readonly TransferWork[]): void {
    const pieces = run.flatMap((work) => work.pieces);
    this.#run(run, this.#modules.disk.writev(offsetOf(run), pieces), (work) => {
      this.#write([work]);
    });
  }

  async #flushAndWrite(work: TransferWork): Promise<void> {
    const { disk } = this.#modules;
    await disk.flush();
    await disk.writev(work.request.sector * BLKIF_SECTOR_BYTES, work.pieces);
    if (work.request.does === 'barrier') await disk.flush();
  }

  #flush(): Promise<void> {
    const { disk } = this.#modules;
    return disk.readOnly ? Promise.resolve() : disk.flush();
  }

  #discard({ sector, sectors }: DiscardRequest): Promise<void> {
    const { disk } = this.#modules;
    return disk.discard(sector * BLKIF_SECTOR_BYTES, sectors * BLKIF_SECTOR_BYTES);
  }

  /** Follows one access for some works. When it fails for several together, each tries by itself: one may be at fault alone. */
  #run<T extends Work>(works: readonly T[], access: Promise<void>, alone?: (work: T) => void): void {
    for (const work of works) work.stage = 'running';
    const settled = access
      .then(
        () => works,
        (error: unknown) => {
          if (works.length > 1 && alone) {
            for (const work of works) alone(work);
            return [];
          }
          return works.map((work) => this.#refuse(work, error));
        },
      )
      .then((finished) => {
        this.#running.delete(settled);
        for (const work of finished) work.pieces = [];
        if (finished.length > 0) this.#done(finished);
      });
    this.#running.add(settled);
  }

  #count({ request }: Work): void {
    const { statistics } = this.#modules;
    if (request.kind === 'bad') return;
    if (request.kind === 'discard') statistics.ds_req++;
    else if (request.does === 'read') statistics.rd_req++;
    else if (request.does === 'write') statistics.wr_req++;
    else statistics.f_req++;
  }
}

const offsetOf = ([first]: readonly TransferWork[]): number => (first?.request.sector ?? 0) * BLKIF_SECTOR_BYTES;

function fetchSteps({ request }: Work): number {
  if (request.kind === 'indirect') return request.pages.length;
  return request.kind === 'transfer' ? request.segments.length : 0;
}
