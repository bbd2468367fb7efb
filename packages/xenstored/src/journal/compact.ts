/** Compaction: a journal's beginning replayed and written anew as a snapshot. Long for a large store, so a thread does it. */
import { openSync, closeSync, readSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { XenstoreCore } from '../core/core.ts';
import type { JournalChange } from './record.ts';
import { Sessions, measureJournal, storeChanges } from './replay.ts';
import { writeSnapshot } from './snapshot-file.ts';

export interface CompactRequest {
  readonly path: string;
  /** The journal's first so many bytes. */
  readonly uptoBytes: number;
  /** File to write. */
  readonly out: string;
}

/** In this thread. Bytes of the snapshot. */
export function compact({ path, uptoBytes, out }: CompactRequest): number {
  const bytes = Buffer.allocUnsafe(uptoBytes);
  const source = openSync(path, 'r');
  try {
    for (let at = 0; at < uptoBytes;) {
      const length = readSync(source, bytes, at, uptoBytes - at, at);
      if (length === 0) throw new Error(`${path} is shorter than ${uptoBytes} bytes`);
      at += length;
    }
  } finally {
    closeSync(source);
  }
  const { incarnation, validBytes } = measureJournal(bytes);
  if (incarnation === undefined || validBytes !== uptoBytes)
    throw new Error(`${path} is damaged at byte ${validBytes}`);
  const core = new XenstoreCore(
    {},
    { gate: { introduce: () => Promise.resolve(), release: () => undefined }, log: () => undefined },
  );
  const sessions = new Sessions();
  core.restore(storeChanges(bytes, validBytes, sessions));
  const target = openSync(out, 'w', 0o600);
  try {
    return writeSnapshot(target, incarnation, everything(core, sessions));
  } finally {
    closeSync(target);
  }
}

function* everything(core: XenstoreCore, sessions: Sessions): Generator<JournalChange> {
  yield* core.snapshot();
  yield* sessions.changes();
}

export function compactInThread(request: CompactRequest): Promise<number> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(compactEntry(import.meta.url), { workerData: request });
    worker.once('message', (bytes: number) => {
      resolve(bytes);
    });
    worker.once('error', reject);
    worker.once('exit', (code) => {
      reject(new Error(`the compacting thread ended with ${code}`));
    });
  });
}

/** In sources beside this file; in a bundle (`tools/build.mjs`) an entry of its own, above the folder of shared chunks. */
export function compactEntry(here: string): URL {
  if (here.endsWith('.ts')) return new URL('./compact-thread.ts', here);
  return new URL(/\/chunks\/[^/]*$/.test(here) ? '../xenstored-compact.mjs' : './xenstored-compact.mjs', here);
}
