/**
 * A pCPU's end of the thread that compiles hot code (`compiler.ts`). The pCPU never waits for it: it posts orders, and a word in
 * shared memory says when there is something to take.
 */
import { receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import type { CompileOrder, CompiledOrder, EngineHost } from '@xenhost/cpu';

export class CompilerClient implements Required<Pick<EngineHost, 'orderCompilation' | 'takeCompiled'>> {
  readonly #port: MessagePort;
  readonly #done: Int32Array;
  readonly #pcpu: number;
  #taken = 0;

  /** `done`: a word for each pCPU. */
  constructor(options: { pcpu: number; port: MessagePort; done: SharedArrayBuffer }) {
    this.#port = options.port;
    this.#done = new Int32Array(options.done);
    this.#pcpu = options.pcpu;
  }

  orderCompilation(order: CompileOrder): void {
    this.#port.postMessage(order);
  }

  takeCompiled(): CompiledOrder | undefined {
    if (Atomics.load(this.#done, this.#pcpu) === this.#taken) return undefined;
    const received = receiveMessageOnPort(this.#port);
    if (!received) return undefined;
    this.#taken = (this.#taken + 1) | 0;
    const message: unknown = received.message;
    return message as CompiledOrder;
  }
}
