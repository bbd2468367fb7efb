export * from './elf.ts';
export * from './guest-image.ts';
export * from './notes.ts';
export * from './xen-notes.ts';
export { kallsyms } from './symbols/kallsyms.ts';
export { elfSymbols } from './symbols/symtab.ts';
export { parseSystemMap, SystemMapError } from './symbols/system-map.ts';
export { MAX_SYMBOL_NAME, MAX_SYMBOLS, SymbolTable } from './symbols/table.ts';
export type { CodeSymbol } from './symbols/table.ts';
