/** One request of a ring on its way from being taken to being answered, and how requests become accesses of the image. */
import { BLKIF_RSP, BLKIF_SECTOR_BYTES } from '@xenhost/xen-abi';
import { MERGED_BYTES } from '../limits.ts';
import type { Disk } from './disk.ts';
import type { BlkRequest, TransferRequest } from './requests.ts';

/** Data read for several requests at once; its buffer is free when all of them were answered. */
export interface ReadRun {
  readonly buffer: Buffer;
  users: number;
}

export interface Work {
  /** An indirect one becomes what it stands for once its pages were read. */
  request: BlkRequest;
  /** Memory taken for it. */
  readonly budgetBytes: number;
  /** `held`: an earlier request has to be done first; `fetch`: pages of the guest are to be read; `running`: in the image's hands. */
  stage: 'held' | 'fetch' | 'running' | 'done';
  /** The answer, once done. */
  status: number;
  /** A read's data for the guest, and the run it is part of. */
  data: { readonly bytes: Uint8Array; readonly run: ReadRun } | undefined;
  /** A write's data from the guest, segment by segment. */
  pieces: readonly Uint8Array[];
}

export const newWork = (request: BlkRequest, budgetBytes: number): Work => ({
  request,
  budgetBytes,
  stage: 'held',
  status: BLKIF_RSP.OKAY,
  data: undefined,
  pieces: [],
});

/** Work whose request is a transfer. */
export type TransferWork = Work & { request: TransferRequest };
export const isTransfer = (work: Work): work is TransferWork => work.request.kind === 'transfer';

/** Bytes of memory that a request will hold while in work. */
export function bytesOfRequest(request: BlkRequest): number {
  if (request.kind === 'transfer') return request.bytes;
  return request.kind === 'indirect' ? request.count * 4096 : 0;
}

/** Whether a flush behind it has to wait for it. */
export function changesDisk({ request }: Work): boolean {
  if (request.kind === 'discard') return true;
  if (request.kind === 'indirect') return request.does === 'write';
  return request.kind === 'transfer' && request.does !== 'read' && (request.does !== 'flush' || request.bytes > 0);
}

/** Whether it waits for earlier changes of the disk. */
export const isOrdering = ({ request }: Work): boolean =>
  request.kind === 'transfer' && (request.does === 'barrier' || request.does === 'flush');

export const isBarrier = ({ request }: Work): boolean => request.kind === 'transfer' && request.does === 'barrier';

/** Held work of a ring's queue that nothing before it holds back: writes wait for barriers, flushes and barriers for writes. */
export function startable(queue: readonly Work[]): Work[] {
  const found: Work[] = [];
  let changes = false;
  let barrier = false;
  for (const work of queue) {
    if (work.stage === 'done') continue;
    const changing = changesDisk(work);
    const waits = (isOrdering(work) && changes) || (changing && barrier);
    if (work.stage === 'held' && !waits) found.push(work);
    changes ||= changing;
    barrier ||= isBarrier(work);
  }
  return found;
}

/** Why the disk does not take a request; undefined when it does. */
export function refusal(request: BlkRequest, disk: Disk): string | undefined {
  if (request.kind === 'bad') return request.reason;
  if (request.kind === 'indirect') return undefined;
  const bytes = request.kind === 'discard' ? request.sectors * BLKIF_SECTOR_BYTES : request.bytes;
  const changes = request.kind === 'discard' || (request.does !== 'read' && bytes > 0);
  if (changes && disk.readOnly) return 'a write to a read-only disk';
  if (bytes > 0 && request.sector * BLKIF_SECTOR_BYTES + bytes > disk.sizeBytes) {
    return `sectors from ${request.sector} on, past the end of the disk`;
  }
  return undefined;
}

/** Transfers that follow each other on the disk, put together. */
export function mergeRuns<T extends TransferWork>(works: readonly T[]): T[][] {
  const runs: T[][] = [];
  let end = -1;
  let bytes = 0;
  for (const work of works) {
    const { sector, bytes: more } = work.request;
    const run = runs.at(-1);
    if (run && sector === end && bytes + more <= MERGED_BYTES) {
      run.push(work);
      bytes += more;
    } else {
      runs.push([work]);
      bytes = more;
    }
    end = sector + more / BLKIF_SECTOR_BYTES;
  }
  return runs;
}

export const runBytes = (run: readonly TransferWork[]): number =>
  run.reduce((sum, { request }) => sum + request.bytes, 0);
