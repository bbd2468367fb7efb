/**
 * What the Xen-API alone knows (labels, other_config, networks, VDIs...): tables of records, one JSON file for each record,
 * `state/TABLE/UUID.json`. A file is replaced whole, so that a crash leaves the old one or the new one; a change is on the
 * disk before its call is answered.
 */
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Mutex } from '../domain/mutex.ts';
import { messageOf } from '../errors.ts';
import type { XendLog } from '../node/log.ts';
import { TEMPORARY_SUFFIX, writeFileAtomically } from '../store/atomic-file.ts';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonRecord = Readonly<Record<string, Json>>;

const FILE = /^([0-9a-f-]{36})\.json$/;

export class StateStore {
  readonly #directory: string;
  readonly #log: XendLog;
  readonly #tables = new Map<string, Map<string, JsonRecord>>();
  /** Files that are being written: the next change of one waits. */
  readonly #writing = new Map<string, { readonly mutex: Mutex; waiting: number }>();

  constructor(directory: string, log: XendLog) {
    this.#directory = directory;
    this.#log = log;
  }

  /** Reads every record; a damaged one is logged and put aside under another name. */
  async load(): Promise<void> {
    for (const name of await readdir(this.#directory).catch(() => [])) {
      for (const file of await readdir(join(this.#directory, name)).catch(() => [])) {
        const ref = FILE.exec(file)?.[1];
        if (ref !== undefined) await this.#loadRecord(name, ref);
        // A crash came before it had its name.
        else if (file.endsWith(TEMPORARY_SUFFIX)) await rm(join(this.#directory, name, file), { force: true });
      }
    }
  }

  async #loadRecord(name: string, ref: string): Promise<void> {
    const path = this.#path(name, ref);
    try {
      const record: unknown = JSON.parse(await readFile(path, 'utf8'));
      if (!isObject(record)) throw new Error('not a record');
      this.#table(name).set(ref, record as JsonRecord);
    } catch (error) {
      this.#log.error('XendAPIStore', `Cannot read ${path}, putting it aside: ${messageOf(error)}`);
      await rename(path, `${path}.damaged`);
    }
  }

  #path(name: string, ref: string): string {
    return join(this.#directory, name, `${ref}.json`);
  }

  table(name: string): ReadonlyMap<string, JsonRecord> {
    return this.#table(name);
  }

  #table(name: string): Map<string, JsonRecord> {
    const table = this.#tables.get(name) ?? new Map<string, JsonRecord>();
    this.#tables.set(name, table);
    return table;
  }

  /** `ref` is a UUID. */
  async put(name: string, ref: string, record: JsonRecord): Promise<void> {
    this.#table(name).set(ref, record);
    await this.#write(name, ref);
  }

  async remove(name: string, ref: string): Promise<void> {
    if (this.#table(name).delete(ref)) await this.#write(name, ref);
  }

  /** Resolves when the file is as the record is now. */
  async #write(name: string, ref: string): Promise<void> {
    const path = this.#path(name, ref);
    const writing = this.#writing.get(path) ?? { mutex: new Mutex(), waiting: 0 };
    this.#writing.set(path, writing);
    writing.waiting += 1;
    try {
      await writing.mutex.run(async () => {
        const record = this.#table(name).get(ref);
        if (record === undefined) await rm(path, { force: true });
        else await writeFileAtomically(path, `${JSON.stringify(record, undefined, 1)}\n`);
      });
    } finally {
      writing.waiting -= 1;
      if (writing.waiting === 0) this.#writing.delete(path);
    }
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

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
