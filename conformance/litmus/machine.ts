/** The machine of a litmus run as its main thread sees it: memory, CPUs on worker threads, programs to run on them. */
import { Worker } from 'node:worker_threads';
import { assemble, compileEngine } from '@xenhost/cpu';
import { identityTables } from '../lib/bare-engine.ts';
import { BATCH, codeAt, COUNTERS, GATE, MACHINE_BYTES, MAX_THREADS, NR_WORDS, OUT_SIZE, outAt, PAGE, SLOT_SIZE, SLOTS, TABLES, WORD } from './layout.ts'; // prettier-ignore
import type { WorkerStart } from './layout.ts';

const WASM_PAGE = 65536;
/**
 * Looks at the gate before a thread goes on without the others, at the start of a batch and later: one that the operating
 * system has stopped is not waited for.
 */
const START_LOOKS = 1_000_000;
const GATE_LOOKS = 1000;
const ROUND_TIMEOUT_MS = 60_000;

export class LitmusMachine {
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #workers: Worker[];
  #failure: Error | undefined;

  constructor(jit: WorkerStart['jit']) {
    const pages = MACHINE_BYTES / WASM_PAGE;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.view = new DataView(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#words = new Int32Array(new SharedArrayBuffer(NR_WORDS * 4));
    identityTables(this.view, TABLES, MACHINE_BYTES);
    const code = compileEngine();
    const words = this.#words;
    this.#workers = Array.from({ length: MAX_THREADS }, (_, thread) => {
      const start: WorkerStart = { thread, jit, memory, words, code };
      const worker = new Worker(new URL('worker.ts', import.meta.url), { workerData: start });
      worker.on('error', (error) => {
        this.#failure = error instanceof Error ? error : new Error(String(error));
      });
      return worker;
    });
  }

  /** Runs one program a thread, once all have been loaded. Each ends with SYSCALL. */
  async run(programs: readonly string[]): Promise<void> {
    programs.forEach((source, thread) => {
      const { bytes } = assemble(`${source}\nsyscall`, { origin: BigInt(codeAt(thread)) });
      if (bytes.length > PAGE) throw new RangeError('a program has a page');
      this.#bytes.set(bytes, codeAt(thread));
    });
    await this.again(programs.length);
  }

  /** Runs what is loaded once more. */
  async again(nrThreads: number): Promise<void> {
    const words = this.#words;
    Atomics.store(words, WORD.nrThreads, nrThreads);
    Atomics.store(words, WORD.done, 0);
    Atomics.add(words, WORD.round, 1);
    Atomics.notify(words, WORD.round);
    const deadline = performance.now() + ROUND_TIMEOUT_MS;
    for (let done = 0; done < nrThreads; done = Atomics.load(words, WORD.done)) {
      const waiting = Atomics.waitAsync(words, WORD.done, done, 1000);
      await (waiting.async ? waiting.value : Promise.resolve());
      if (this.#failure) throw this.#failure;
      if (performance.now() > deadline) throw new Error('a CPU does not come to its end');
    }
  }

  clearSlots(): void {
    this.#bytes.fill(0, SLOTS, SLOTS + BATCH * SLOT_SIZE);
  }

  clearCounters(): void {
    this.#bytes.fill(0, COUNTERS, COUNTERS + 4 * PAGE);
  }

  async end(): Promise<void> {
    Atomics.store(this.#words, WORD.ending, 1);
    Atomics.add(this.#words, WORD.round, 1);
    Atomics.notify(this.#words, WORD.round);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

/** Starts a thread together with the others, at a gate of its own. */
export const together = (gate: number, nrThreads: number): string => `
    lock inc dword [${gate}]
    mov edx, ${START_LOOKS}
start:
    cmp dword [${gate}], ${nrThreads}
    jae started
    dec edx
    jnz start
started:
`;

/**
 * A batch of a thread: each iteration has its own slot at RDI, starts when all threads have come to it, and leaves EAX
 * and EBX behind.
 */
export function batch(thread: number, nrThreads: number, body: string): string {
  return `
    cld
    mov edi, ${SLOTS}
    mov esi, ${outAt(thread)}
    mov ecx, ${BATCH}
    mov edx, ${START_LOOKS}
iteration:
    lock inc dword [rdi + ${GATE}]
gate:
    cmp dword [rdi + ${GATE}], ${nrThreads}
    jae open
    dec edx
    jnz gate
open:
    ${body}
    mov [rsi], eax
    mov [rsi + 8], ebx
    mov edx, ${GATE_LOOKS}
    add edi, ${SLOT_SIZE}
    add esi, ${OUT_SIZE}
    dec ecx
    jnz iteration`;
}
