/** Entry of the thread that compiles hot code for the pCPUs, which run on meanwhile: Wasm from plans, and V8's work on it. */
import { parentPort, workerData } from 'node:worker_threads';
import { compileOrder } from '@xenhost/cpu';
import type { CompileOrder, CompiledOrder } from '@xenhost/cpu';
import type { CompilerMessage, CompilerStart } from './messages.ts';
import { collectWhenQuiet } from './thread-heap.ts';

const { ports, done } = workerData as CompilerStart;
const words = new Int32Array(done);
collectWhenQuiet();
ports.forEach((port, pcpu) => {
  port.on('message', (order: CompileOrder) => {
    try {
      port.postMessage(compileOrder(order));
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      parentPort?.postMessage({ kind: 'bug', text } satisfies CompilerMessage);
      port.postMessage({ id: order.id, module: undefined, bytes: 0, compileNs: 0 } satisfies CompiledOrder);
    }
    Atomics.add(words, pcpu, 1);
  });
});
