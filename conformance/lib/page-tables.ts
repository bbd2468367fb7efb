/** 4-level page tables in machine memory, made as pages are mapped. */

const PAGE = 4096;
const LEVEL_SHIFTS = [39n, 30n, 21n] as const;
/** Bits of entries. */
export const PTE = { presentUser: 5n, writable: 2n, noExecute: 1n << 63n } as const;

export class PageTables {
  readonly #view: DataView;
  readonly #root: number;
  #nextTable: number;

  /** In the frames of machine memory from `root` on; they are empty. */
  constructor(view: DataView, root: number) {
    this.#view = view;
    this.#root = root;
    this.#nextTable = root + 1;
  }

  /** Maps the page at `address` to `frame`, for user code, with `rights` besides (bits of `PTE`). */
  map(address: number, frame: number, rights: bigint): void {
    let table = this.#root;
    for (const shift of LEVEL_SHIFTS) {
      const at = table * PAGE + Number((BigInt(address) >> shift) & 511n) * 8;
      let entry = this.#view.getBigUint64(at, true);
      if (entry === 0n) {
        entry = (BigInt(this.#nextTable++) << 12n) | PTE.presentUser | PTE.writable;
        this.#view.setBigUint64(at, entry, true);
      }
      table = Number(entry >> 12n);
    }
    const at = table * PAGE + ((address >> 12) & 511) * 8;
    this.#view.setBigUint64(at, (BigInt(frame) << 12n) | PTE.presentUser | rights, true);
  }
}
