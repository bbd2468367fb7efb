/**
 * The journal: what has been committed is in a file before anybody is told, so that a daemon that was killed is followed by one
 * that knows all it has acknowledged. One append-only file of checksummed records (docs/xenstore-journal.md); when the log has grown to several
 * times the store it is compacted: at once when the store is small, else in a thread. A kill of the process needs no fsync: what was
 * written is the kernel's.
 */
import {
  closeSync,
  fdatasyncSync,
  ftruncateSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '@xenhost/daemon-kit';
import type { StoreConnection } from '../core/connection.ts';
import type { JournalPort, StoreChange } from '../core/journal.ts';
import type { RingRecords } from '../server/ring-server.ts';
import type { RingState } from '../server/ring.ts';
import { compactInThread } from './compact.ts';
import { CHUNK_BYTES, COMPACT_MIN_BYTES, COMPACT_RATIO, RETRY_MS } from './limits.ts';
import { RecordWriter, ringChange, watchRecords } from './record.ts';
import type { JournalChange, SessionChange } from './record.ts';
import { Sessions, measureJournal, storeChanges } from './replay.ts';
import { smallSnapshot, writeAll, writeSnapshot } from './snapshot-file.ts';

export interface JournalOptions {
  readonly directory: string;
  /** Whose domains the store tells of: another hypervisor's are worth nothing. */
  readonly incarnation: string;
  /** Each write waits for the disk: survives the machine's end, too. */
  readonly sync: boolean;
  /** Length from which the log is compacted, default COMPACT_MIN_BYTES. */
  readonly compactMinBytes?: number;
}

export interface JournalModules {
  readonly log: Logger;
  /** The store as it is now, as changes. */
  readonly snapshot: () => Iterable<StoreChange>;
  /** Guests' sessions as they are while no batch is under way; the journal follows them from then on. Default: none. */
  readonly sessions?: () => Iterable<SessionChange>;
}

export interface Recovered {
  readonly sessions: Sessions;
  /** Once only; `sessions` is whole when it is at its end. */
  readonly changes: Iterable<StoreChange>;
  /** Bytes of a record that was cut off. */
  readonly tornBytes: number;
}

const FILE = 'journal';
const NEW_FILE = 'journal.new';
const COMPACTED_FILE = 'journal.compacted';
const MODE = 0o600;
const DIRECTORY_MODE = 0o700;

export class Journal implements JournalPort, RingRecords {
  readonly #options: JournalOptions;
  readonly #modules: JournalModules;
  readonly #path: string;
  readonly #compactMinBytes: number;
  readonly #writer = new RecordWriter();
  /** As the notes leave them: with what a kill in front of the next batch has to find. Undefined: not begun. */
  #sessions: Sessions | undefined;
  /** Undefined: not begun, closed, or not writable at present. */
  #fd: number | undefined;
  #sizeBytes = 0;
  /** Size at which the log is compacted. */
  #compactAtBytes: number;
  #compacting = false;
  #beginnings = 0;
  #closed = false;
  #failedAtMs: number | undefined;
  #writes = 0;
  #failures = 0;
  #compactions = 0;

  constructor(options: JournalOptions, modules: JournalModules) {
    this.#options = options;
    this.#modules = modules;
    this.#path = join(options.directory, FILE);
    this.#compactMinBytes = options.compactMinBytes ?? COMPACT_MIN_BYTES;
    this.#compactAtBytes = this.#compactMinBytes;
    mkdirSync(options.directory, { recursive: true, mode: DIRECTORY_MODE });
  }

  get stats(): {
    readonly sizeBytes: number;
    readonly writes: number;
    readonly failures: number;
    readonly compactions: number;
  } {
    return {
      sizeBytes: this.#sizeBytes,
      writes: this.#writes,
      failures: this.#failures,
      compactions: this.#compactions,
    };
  }

  /**
   * What an earlier daemon has left, undefined when there is nothing of use. The journal goes on behind it until `begin()`, which comes in
   * either case.
   */
  recover(): Recovered | undefined {
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.#path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return undefined;
    }
    const { incarnation, validBytes } = measureJournal(bytes);
    if (incarnation !== this.#options.incarnation) {
      this.#modules.log.info({ path: this.#path }, 'the journal is of another hypervisor, not used');
      return undefined;
    }
    this.#fd = openSync(this.#path, 'r+');
    ftruncateSync(this.#fd, validBytes);
    this.#sizeBytes = validBytes;
    this.#compactAtBytes = Math.max(this.#compactMinBytes, validBytes);
    const sessions = new Sessions();
    const changes = storeChanges(bytes, validBytes, sessions);
    return { sessions, changes, tornBytes: bytes.length - validBytes };
  }

  /** Goes on behind what is there, all of which is known; false when that is not what the daemon before this one has left. */
  resume(sizeBytes: number): boolean {
    if (statSync(this.#path, { throwIfNoEntry: false })?.size !== sizeBytes) return false;
    this.#fd = openSync(this.#path, 'r+');
    this.#followSessions();
    this.#sizeBytes = sizeBytes;
    this.#compactAtBytes = Math.max(this.#compactMinBytes, sizeBytes);
    return true;
  }

  /** A new journal that begins with everything as it is now. */
  begin(): void {
    this.#writer.clear();
    this.#shut();
    this.#followSessions();
    this.#replace((fd) => writeSnapshot(fd, this.#options.incarnation, this.#everything()));
  }

  committed(changes: readonly StoreChange[]): void {
    this.#note(changes);
  }

  watchesChanged(connection: StoreConnection): void {
    this.#note([{ op: 'watches', domid: connection.domid, watches: watchRecords(connection) }]);
  }

  get notedBytes(): number {
    return this.#writer.length;
  }

  requestDone(domid: number, reqCons: number): void {
    this.#note([{ op: 'done', domid, reqCons }]);
  }

  ringState(domid: number, state: RingState): void {
    this.#note([ringChange(domid, state)]);
  }

  /** Writes what has been noted since the last time. Called before anything leaves that may tell of it; cheap when there is nothing. */
  flush(): void {
    if (this.#writer.length === 0 || this.#closed) return;
    if (this.#fd === undefined) {
      this.#retry();
      return;
    }
    const { bytes } = this.#writer;
    try {
      writeAll(this.#fd, bytes, this.#sizeBytes);
      if (this.#options.sync) fdatasyncSync(this.#fd);
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#writes++;
    this.#sizeBytes += bytes.length;
    this.#writer.clear();
    if (this.#sizeBytes < this.#compactAtBytes || this.#compacting) return;
    if (!this.#compactHere()) void this.#compact(this.#sizeBytes);
  }

  /** Writes the rest and leaves the file to whoever comes next. Its size. */
  close(): number {
    this.flush();
    this.#closed = true;
    this.#shut();
    return this.#sizeBytes;
  }

  #note(changes: readonly JournalChange[]): void {
    this.#writer.append(changes);
    if (this.#sessions) for (const change of changes) this.#sessions.note(change);
  }

  #followSessions(): void {
    if (this.#sessions) return;
    this.#sessions = new Sessions();
    for (const change of this.#modules.sessions?.() ?? []) this.#sessions.note(change);
  }

  *#everything(): Generator<JournalChange> {
    yield* this.#modules.snapshot();
    if (this.#sessions) yield* this.#sessions.changes();
  }

  /** Another file takes the journal's place; `write` tells its size. */
  #replace(write: (fd: number) => number): void {
    const path = join(this.#options.directory, NEW_FILE);
    const fd = openSync(path, 'w+', MODE);
    let sizeBytes: number;
    try {
      sizeBytes = write(fd);
      if (this.#options.sync) fsyncSync(fd);
      renameSync(path, this.#path);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.#shut();
    this.#fd = fd;
    this.#sizeBytes = sizeBytes;
    this.#beginnings++;
    this.#compactAtBytes = Math.max(this.#compactMinBytes, COMPACT_RATIO * this.#sizeBytes);
  }

  #shut(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** What is in the file is old from now on: a daemon that found it would bring back what has changed since. */
  #failed(error: unknown): void {
    this.#failures++;
    this.#modules.log.error(
      { err: error, path: this.#path },
      'cannot write the journal: a kill of the daemon would lose the store',
    );
    this.#failedAtMs = performance.now();
    this.#shut();
    this.#sizeBytes = 0;
    this.#writer.clear();
    rmSync(this.#path, { force: true });
  }

  #retry(): void {
    this.#writer.clear();
    if (this.#failedAtMs === undefined || performance.now() - this.#failedAtMs < RETRY_MS) return;
    try {
      this.begin();
      this.#failedAtMs = undefined;
      this.#modules.log.info({ path: this.#path }, 'the journal is written again');
    } catch (error) {
      this.#failed(error);
    }
  }

  /** False when the store is too large for that. All that was noted has been written. */
  #compactHere(): boolean {
    const bytes = smallSnapshot(this.#options.incarnation, this.#everything());
    if (!bytes) return false;
    const fromBytes = this.#sizeBytes;
    try {
      this.#replace((fd) => writeAll(fd, bytes, 0));
      this.#compactions++;
      this.#modules.log.debug({ fromBytes, toBytes: bytes.length }, 'journal compacted');
    } catch (error) {
      this.#notCompacted(error);
    }
    return true;
  }

  /** The journal goes on as it is. */
  #notCompacted(error: unknown): void {
    this.#modules.log.warn({ err: error, path: this.#path }, 'the journal could not be compacted');
    this.#compactAtBytes = 2 * this.#sizeBytes;
  }

  /** A thread makes a snapshot of the first `uptoBytes`; what has come since is put behind it. */
  async #compact(uptoBytes: number): Promise<void> {
    this.#compacting = true;
    const out = join(this.#options.directory, COMPACTED_FILE);
    const beginning = this.#beginnings;
    try {
      const snapshotBytes = await compactInThread({ path: this.#path, uptoBytes, out });
      // Unless it has begun anew meanwhile, or ended.
      if (this.#fd !== undefined && this.#beginnings === beginning) this.#switch(out, uptoBytes, snapshotBytes);
    } catch (error) {
      this.#notCompacted(error);
    } finally {
      this.#compacting = false;
    }
  }

  #switch(path: string, from: number, snapshotBytes: number): void {
    this.flush();
    const old = this.#fd;
    if (old === undefined) return;
    const fd = openSync(path, 'r+');
    const piece = Buffer.allocUnsafe(CHUNK_BYTES);
    let at = snapshotBytes;
    for (let read = from; read < this.#sizeBytes;) {
      const length = readSync(old, piece, 0, Math.min(piece.length, this.#sizeBytes - read), read);
      if (length === 0) throw new Error('the journal is shorter than was written');
      writeAll(fd, piece.subarray(0, length), at);
      read += length;
      at += length;
    }
    if (this.#options.sync) fsyncSync(fd);
    renameSync(path, this.#path);
    closeSync(old);
    this.#fd = fd;
    this.#modules.log.debug({ fromBytes: this.#sizeBytes, toBytes: at }, 'journal compacted');
    this.#sizeBytes = at;
    this.#compactAtBytes = Math.max(this.#compactMinBytes, COMPACT_RATIO * snapshotBytes);
    this.#compactions++;
  }
}
