/** Which function an address belongs to: symbols of any source in one table. Does no I/O. */

export interface CodeSymbol {
  readonly address: bigint;
  readonly name: string;
  /** False for data, and for marks such as `_end`: they end the function before them. */
  readonly isCode: boolean;
}

/** Symbols of one source at most: a kernel with all debugging has about 200,000. */
export const MAX_SYMBOLS = 1 << 20;
/** Bytes of a name at most. */
export const MAX_SYMBOL_NAME = 512;

export class SymbolTable {
  readonly #symbols: readonly CodeSymbol[];

  constructor(symbols: Iterable<CodeSymbol>) {
    // Of several at one address the first given counts, code before data.
    this.#symbols = [...symbols].sort((a, b) =>
      a.address < b.address ? -1 : a.address > b.address ? 1 : Number(b.isCode) - Number(a.isCode),
    );
  }

  get size(): number {
    return this.#symbols.length;
  }

  /** The function that holds the address; undefined before the first symbol, in data and behind the last symbol. */
  lookup(address: bigint): { readonly name: string; readonly offset: bigint } | undefined {
    const symbols = this.#symbols;
    let low = 0;
    let high = symbols.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (symbols[middle]!.address <= address) low = middle + 1;
      else high = middle;
    }
    if (low === 0 || low === symbols.length) return undefined;
    let at = low - 1;
    while (at > 0 && symbols[at - 1]!.address === symbols[at]!.address) at--;
    const found = symbols[at]!;
    return found.isCode ? { name: found.name, offset: address - found.address } : undefined;
  }
}
