/** One console and everybody who listens to it: log file, recent output, attached readers. */
import type { Logger } from '@xenhost/daemon-kit';
import { History } from './history.ts';
import { HISTORY_BYTES, READERS_PER_CONSOLE, READER_QUEUE_BYTES } from './limits.ts';
import type { LogFile } from './log-file.ts';

/** Somebody attached. Implemented over sockets and WebSockets. */
export interface Reader {
  /** Output accepted but not yet taken by the other end. */
  readonly queuedBytes: number;
  send(bytes: Uint8Array): void;
  /** No more output will come; ends after what is queued. */
  end(message?: string): void;
  /** Stops and resumes taking input. */
  setPaused(paused: boolean): void;
}

export interface HubOptions {
  /** Recent output that is kept for new readers; not more than HISTORY_BYTES. */
  readonly historyBytes: number;
}

export interface HubModules {
  readonly logFile: LogFile | undefined;
  readonly log: Logger;
  /** Brings input to the guest; false when readers should pause. */
  readonly input: (bytes: Uint8Array) => boolean;
}

const DROPPED = '\r\n[xenconsoled: this reader was too slow and has been detached]\r\n';
const FULL = '[xenconsoled: too many readers of this console]\r\n';

export class ConsoleHub {
  readonly #modules: HubModules;
  readonly #history: History;
  readonly #readers = new Set<Reader>();
  #paused = false;

  constructor({ historyBytes }: HubOptions, modules: HubModules) {
    this.#modules = modules;
    this.#history = new History(Math.min(historyBytes, HISTORY_BYTES));
  }

  get nrReaders(): number {
    return this.#readers.size;
  }

  /** Output of the guest. */
  output(bytes: Uint8Array): void {
    this.#history.push(bytes);
    try {
      this.#modules.logFile?.write(bytes);
    } catch (error) {
      this.#modules.log.error({ err: error }, 'cannot write the console log');
    }
    for (const reader of this.#readers) {
      if (reader.queuedBytes + bytes.length > READER_QUEUE_BYTES) {
        this.#readers.delete(reader);
        reader.end(DROPPED);
      } else {
        reader.send(bytes);
      }
    }
  }

  /** A new reader: it gets the recent output, then everything. False when there are too many. */
  attach(reader: Reader): boolean {
    if (this.#readers.size >= READERS_PER_CONSOLE) {
      reader.end(FULL);
      return false;
    }
    const recent = this.#history.contents();
    if (recent.length > 0) reader.send(recent);
    this.#readers.add(reader);
    if (this.#paused) reader.setPaused(true);
    return true;
  }

  detach(reader: Reader): void {
    this.#readers.delete(reader);
  }

  input(bytes: Uint8Array): void {
    if (!this.#modules.input(bytes)) this.#setPaused(true);
  }

  inputRoom(): void {
    this.#setPaused(false);
  }

  /** The console is gone. */
  close(): void {
    for (const reader of this.#readers) reader.end();
    this.#readers.clear();
    this.#modules.logFile?.close();
  }

  #setPaused(paused: boolean): void {
    if (this.#paused === paused) return;
    this.#paused = paused;
    for (const reader of this.#readers) reader.setPaused(paused);
  }
}
