/**
 * The picture between its two sides: the framebuffer's backend stores rows into it, watchers (VNC clients) are told which tiles
 * have changed. Holds one pixel a word, 0x00RRGGBB.
 */

/** Changes are told in tiles of this many pixels. */
export const TILE_WIDTH = 64;
export const TILE_HEIGHT = 16;

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Which tiles of a screen have changed. */
export class DirtyTiles {
  readonly columns: number;
  readonly rows: number;
  readonly #width: number;
  readonly #height: number;
  readonly #dirty: Uint8Array;
  #any = false;

  constructor({ width, height }: { readonly width: number; readonly height: number }) {
    this.#width = width;
    this.#height = height;
    this.columns = Math.ceil(width / TILE_WIDTH);
    this.rows = Math.ceil(height / TILE_HEIGHT);
    this.#dirty = new Uint8Array(this.columns * this.rows);
  }

  mark(column: number, row: number): void {
    this.#dirty[row * this.columns + column] = 1;
    this.#any = true;
  }

  /** Marks the tiles that a rectangle touches, as far as it lies on the screen. */
  markRect({ x, y, width, height }: Rect): void {
    const right = Math.min(x + width, this.#width);
    const bottom = Math.min(y + height, this.#height);
    for (let row = Math.floor(y / TILE_HEIGHT); row * TILE_HEIGHT < bottom; row++) {
      for (let column = Math.floor(x / TILE_WIDTH); column * TILE_WIDTH < right; column++) this.mark(column, row);
    }
  }

  markAll(): void {
    this.#dirty.fill(1);
    this.#any = this.#dirty.length > 0;
  }

  /** Marks what is marked in `other`, of a screen of the same size. */
  add(other: DirtyTiles): void {
    if (!other.#any) return;
    for (let i = 0; i < this.#dirty.length; i++) this.#dirty[i] = (this.#dirty[i] ?? 0) | (other.#dirty[i] ?? 0);
    this.#any = true;
  }

  clear(): void {
    if (this.#any) this.#dirty.fill(0);
    this.#any = false;
  }

  get any(): boolean {
    return this.#any;
  }

  /** Takes the marks off the tiles that `within` touches; resolves them into few rectangles. */
  take(within: Rect): Rect[] {
    if (!this.#any || within.width === 0 || within.height === 0) return [];
    const [left, top] = [Math.floor(within.x / TILE_WIDTH), Math.floor(within.y / TILE_HEIGHT)];
    const right = Math.min(Math.ceil((within.x + within.width) / TILE_WIDTH), this.columns);
    const bottom = Math.min(Math.ceil((within.y + within.height) / TILE_HEIGHT), this.rows);
    const rects: Rect[] = [];
    for (let row = top; row < bottom; row++) {
      for (let column = left; column < right; column++) {
        if (!this.#isSet(column, row)) continue;
        const end = this.#runEnd(column, row, right);
        let below = row + 1;
        while (below < bottom && this.#isRun(column, end, below)) below++;
        for (let each = row; each < below; each++) {
          this.#dirty.fill(0, each * this.columns + column, each * this.columns + end);
        }
        rects.push(this.#rect(column, row, end, below));
      }
    }
    this.#any = this.#dirty.includes(1);
    return rects;
  }

  #isSet(column: number, row: number): boolean {
    return this.#dirty[row * this.columns + column] === 1;
  }

  #runEnd(column: number, row: number, limit: number): number {
    let end = column + 1;
    while (end < limit && this.#isSet(end, row)) end++;
    return end;
  }

  #isRun(column: number, end: number, row: number): boolean {
    return this.#runEnd(column, row, end) === end && this.#isSet(column, row);
  }

  #rect(column: number, row: number, end: number, below: number): Rect {
    const [x, y] = [column * TILE_WIDTH, row * TILE_HEIGHT];
    return {
      x,
      y,
      width: Math.min(end * TILE_WIDTH, this.#width) - x,
      height: Math.min(below * TILE_HEIGHT, this.#height) - y,
    };
  }
}

/** Who draws: told when somebody waits for news, and answers each with `screen.ready()` once the picture is fresh. */
export interface ScreenSource {
  wanted(): void;
  /** Whether anybody watches. */
  watched(watched: boolean): void;
}

export interface ScreenWatcher {
  /** Whether it wants to be told when there is news. */
  readonly waiting: boolean;
  /** Tiles of the screen that have changed; valid during the call. */
  damaged(tiles: DirtyTiles): void;
  resized(): void;
  /** The picture is as fresh as it gets: time to send. */
  ready(): void;
}

export class Screen {
  #width: number;
  #height: number;
  #pixels: Uint32Array;
  #changed: DirtyTiles;
  #source: ScreenSource | undefined;
  readonly #watchers = new Set<ScreenWatcher>();

  constructor({ width, height }: { readonly width: number; readonly height: number }) {
    this.#width = width;
    this.#height = height;
    this.#pixels = new Uint32Array(width * height);
    this.#changed = new DirtyTiles({ width, height });
  }

  get width(): number {
    return this.#width;
  }

  get height(): number {
    return this.#height;
  }

  /** For the drawing side. The picture of the last source stays until there is another. */
  setSource(source: ScreenSource | undefined): void {
    this.#source = source;
    source?.watched(this.#watchers.size > 0);
    this.ready();
  }

  /** Clears the screen when its size is another. */
  resize(width: number, height: number): void {
    if (width === this.#width && height === this.#height) return;
    this.#width = width;
    this.#height = height;
    this.#pixels = new Uint32Array(width * height);
    this.#changed = new DirtyTiles({ width, height });
    for (const watcher of this.#watchers) watcher.resized();
  }

  /** Stores one row; tiles whose pixels it changes are told with the next `publish`. */
  storeRow(y: number, source: Uint32Array): void {
    const pixels = this.#pixels;
    const width = this.#width;
    const base = y * width;
    const tileRow = Math.floor(y / TILE_HEIGHT);
    for (let column = 0, x = 0; x < width; column++) {
      const end = Math.min(x + TILE_WIDTH, width);
      let i = x;
      while (i < end && pixels[base + i] === source[i]) i++;
      if (i < end) {
        pixels.set(source.subarray(i, end), base + i);
        this.#changed.mark(column, tileRow);
      }
      x = end;
    }
  }

  /** Tells the watchers what has changed; whether anything has. */
  publish(): boolean {
    if (!this.#changed.any) return false;
    for (const watcher of this.#watchers) watcher.damaged(this.#changed);
    this.#changed.clear();
    return true;
  }

  ready(): void {
    for (const watcher of [...this.#watchers]) watcher.ready();
  }

  /** A copy of a part of the picture, black where there is none. */
  region({ x, y, width, height }: Rect): Uint32Array {
    const copy = new Uint32Array(width * height);
    const columns = Math.min(width, this.#width - x);
    if (columns <= 0) return copy;
    for (let row = 0; row < height && y + row < this.#height; row++) {
      const from = (y + row) * this.#width + x;
      copy.set(this.#pixels.subarray(from, from + columns), row * width);
    }
    return copy;
  }

  addWatcher(watcher: ScreenWatcher): void {
    this.#watchers.add(watcher);
    if (this.#watchers.size === 1) this.#source?.watched(true);
  }

  removeWatcher(watcher: ScreenWatcher): void {
    if (this.#watchers.delete(watcher) && this.#watchers.size === 0) this.#source?.watched(false);
  }

  /** Whether anybody waits for news. */
  get waiting(): boolean {
    for (const watcher of this.#watchers) if (watcher.waiting) return true;
    return false;
  }

  /** For watchers: `ready()` is wanted, once the picture is fresh. */
  want(): void {
    if (this.#source) this.#source.wanted();
    else this.ready();
  }
}
