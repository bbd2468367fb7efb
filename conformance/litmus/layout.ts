/** Where things lie in the machine memory that all engines of a litmus run share, and the words their threads meet at. */

export const PAGE = 4096;
export const MACHINE_BYTES = 8 << 20;
/** Page tables: identity, 4 KiB pages, all rights. */
export const TABLES = 0x1000;
/** Code of thread n: a page of its own. */
export const codeAt = (thread: number): number => 0x10_0000 + thread * PAGE;
export const stackAt = (thread: number): number => 0x20_0000 + (thread + 1) * PAGE;
/** What thread n found: 16 bytes an iteration. */
export const OUT_SIZE = 16;
export const outAt = (thread: number): number => 0x30_0000 + thread * 0x4_0000;
/** Variables of iteration i: x, y and the count of threads that have come to it, each in a cache line of its own. */
export const SLOTS = 0x40_0000;
export const SLOT_SIZE = 256;
export const X = 0;
export const Y = 64;
export const GATE = 128;
/** Iterations between two meetings of all threads. */
export const BATCH = 1000;
/** Data of the tests of atomicity; its first page ends where the second begins. */
export const COUNTERS = 0x60_0000;

export const MAX_THREADS = 4;

/** Words of the shared array that threads are steered by. */
export const WORD = {
  /** Raised by the main thread: run your program, or end when `ending` is set. */
  round: 0,
  /** Threads that have run theirs. */
  done: 1,
  ending: 2,
  nrThreads: 3,
  /** 1 while a thread holds all others out of their engines. */
  exclusive: 4,
  /** For each thread: 1 while its engine runs. */
  running: 8,
} as const;
export const NR_WORDS = 16;

export interface WorkerStart {
  readonly thread: number;
  readonly jit: 'off' | 'on' | 'force';
  readonly memory: WebAssembly.Memory;
  readonly words: Int32Array;
  readonly code: import('@xenhost/cpu').EngineModules;
}
