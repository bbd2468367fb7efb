/**
 * What the Xen-API alone knows (labels, other_config, networks, VDIs...): tables of records, one JSON file each under
 * `state/`. A file is replaced whole, so that a crash leaves the old one or the new one; a change is on the disk before
 * its call is answered.
 */
import { readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Mutex } from '../domain/mutex.ts';
import { messageOf } from '../errors.ts';
import type { XendLog } from '../node/log.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonRecord = Readonly<Record<string, Json>>;

const SUFFIX = '.json';

export class StateStore {
  readonly #directory: string;
  readonly #log: XendLog;
  readonly #tables = new Map<string, Map<string, JsonRecord>>();
  readonly #writing = new Map<string, Mutex>();
  /** Counts changes of a table, so that one writing serves all changes before it. */
  readonly #changes = new Map<string, number>();
  readonly #written = new Map<string, number>();

  constructor(directory: string, log: XendLog) {
    this.#directory = directory;
    this.#log = log;
  }

  /** Reads every table; a damaged one is logged and put aside under another name. */
  async load(): Promise<void> {
    const names = await readdir(this.#directory).catch(() => []);
    for (const name of names.filter((file) => file.endsWith(SUFFIX))) {
      const path = join(this.#directory, name);
      try {
        const entries: unknown = JSON.parse(await readFile(path, 'utf8'));
        if (!isRecords(entries)) throw new Error('not a table of records');
        this.#tables.set(name.slice(0, -SUFFIX.length), new Map(Object.entries(entries)));
      } catch (error) {
        this.#log.error('XendAPIStore', `Cannot read ${path}, putting it aside: ${messageOf(error)}`);
        await rename(path, `${path}.damaged`);
      }
    }
  }

  table(name: string): ReadonlyMap<string, JsonRecord> {
    return this.#table(name);
  }

  #table(name: string): Map<string, JsonRecord> {
    const table = this.#tables.get(name) ?? new Map<string, JsonRecord>();
    this.#tables.set(name, table);
    return table;
  }

  async put(name: string, ref: string, record: JsonRecord): Promise<void> {
    this.#table(name).set(ref, record);
    await this.#write(name);
  }

  async remove(name: string, ref: string): Promise<void> {
    if (this.#table(name).delete(ref)) await this.#write(name);
  }

  /** Resolves when what was changed before is on the disk. */
  async #write(name: string): Promise<void> {
    const change = (this.#changes.get(name) ?? 0) + 1;
    this.#changes.set(name, change);
    const mutex = this.#writing.get(name) ?? new Mutex();
    this.#writing.set(name, mutex);
    await mutex.run(async () => {
      if ((this.#written.get(name) ?? 0) >= change) return;
      const covers = this.#changes.get(name) ?? 0;
      const text = JSON.stringify(Object.fromEntries(this.#table(name)), undefined, 1);
      await writeFileAtomically(join(this.#directory, `${name}${SUFFIX}`), text);
      this.#written.set(name, covers);
    });
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isRecords = (value: unknown): value is Record<string, JsonRecord> =>
  isObject(value) && Object.values(value).every(isObject);

// What a record holds, read with care: the file may have been edited.

export const textIn = (record: JsonRecord | undefined, key: string, otherwise = ''): string => {
  const value = record?.[key];
  return typeof value === 'string' ? value : otherwise;
};
export const numberIn = (record: JsonRecord | undefined, key: string, otherwise = 0): number => {
  const value = record?.[key];
  return typeof value === 'number' ? value : otherwise;
};
export const flagIn = (record: JsonRecord | undefined, key: string, otherwise = false): boolean => {
  const value = record?.[key];
  return typeof value === 'boolean' ? value : otherwise;
};
export const mapIn = (record: JsonRecord | undefined, key: string): Record<string, string> => {
  const value = record?.[key];
  if (!isObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
};
