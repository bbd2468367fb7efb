/**
 * Tables of one cluster each (L2 tables, blocks of counts) that are held in memory; a bounded number of them, save those that are pinned by
 * changes under way. What a table holds is what the file holds: changes are written when they are made.
 */
import type { ImageFile } from '../file/image-file.ts';

export interface Table {
  readonly offset: number;
  readonly bytes: Buffer;
  readonly view: DataView;
  /** A pinned table stays: its changes and the file's must not part ways. */
  pins: number;
  used: boolean;
}

const MIN_TABLES = 4;

export class TableCache {
  readonly #file: ImageFile;
  readonly #tableBytes: number;
  readonly #most: number;
  readonly #tables = new Map<number, Table>();
  readonly #loading = new Map<number, Promise<Table>>();

  constructor(file: ImageFile, tableBytes: number, cacheBytes: number) {
    this.#file = file;
    this.#tableBytes = tableBytes;
    this.#most = Math.max(MIN_TABLES, Math.floor(cacheBytes / tableBytes));
  }

  /** The table when it is in memory. */
  peek(offset: number): Table | undefined {
    const table = this.#tables.get(offset);
    if (table) table.used = true;
    return table;
  }

  async load(offset: number): Promise<Table> {
    return this.peek(offset) ?? (await (this.#loading.get(offset) ?? this.#read(offset)));
  }

  #read(offset: number): Promise<Table> {
    const bytes = Buffer.alloc(this.#tableBytes);
    const loading = this.#file.read(offset, bytes).then(() => this.#tables.get(offset) ?? this.#add(offset, bytes));
    this.#loading.set(offset, loading);
    const done = (): void => {
      this.#loading.delete(offset);
    };
    loading.then(done, done);
    return loading;
  }

  /** Takes a table that has just been made. */
  put(offset: number, bytes: Buffer): Table {
    return this.#add(offset, bytes);
  }

  #add(offset: number, bytes: Buffer): Table {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const table: Table = { offset, bytes, view, pins: 0, used: true };
    this.#tables.set(offset, table);
    if (this.#tables.size > this.#most) this.#evict(table);
    return table;
  }

  clear(): void {
    this.#tables.clear();
  }

  /** Second chance: the first that was not used since it was last passed over goes. */
  #evict(newest: Table): void {
    // Those passed over go to the end of the row and come up once more.
    let left = 2 * this.#tables.size;
    for (const [offset, table] of this.#tables) {
      left -= 1;
      if (left < 0) return;
      const stays = table === newest || table.pins > 0;
      this.#tables.delete(offset);
      if (!stays && !table.used) return;
      if (!stays) table.used = false;
      this.#tables.set(offset, table);
    }
  }
}
