/** Files of the journal, written from their beginning. */
import { writeSync } from 'node:fs';
import { CHUNK_BYTES } from './limits.ts';
import { MAGIC, RecordWriter } from './record.ts';
import type { JournalChange } from './record.ts';

/** A journal of these changes from the file's first byte on; its size. */
export function writeSnapshot(fd: number, incarnation: string, changes: Iterable<JournalChange>): number {
  const writer = new RecordWriter();
  let at = writeAll(fd, MAGIC, 0);
  writer.append([{ op: 'incarnation', id: incarnation }]);
  for (const change of changes) {
    writer.append([change]);
    if (writer.length < CHUNK_BYTES) continue;
    at = writeAll(fd, writer.bytes, at);
    writer.clear();
  }
  return writeAll(fd, writer.bytes, at);
}

/** As `writeSnapshot`, in memory; undefined when it is longer than one write of it may be. */
export function smallSnapshot(incarnation: string, changes: Iterable<JournalChange>): Buffer | undefined {
  const writer = new RecordWriter();
  writer.append([{ op: 'incarnation', id: incarnation }]);
  for (const change of changes) {
    writer.append([change]);
    if (writer.length > CHUNK_BYTES) return undefined;
  }
  return Buffer.concat([MAGIC, writer.bytes]);
}

/** Where the bytes end. */
export function writeAll(fd: number, bytes: Buffer, position: number): number {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at, position + at);
  return position + bytes.length;
}
