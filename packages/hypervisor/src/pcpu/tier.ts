/**
 * Has V8 compile the interpreter's loop with its optimising compiler at once: function 0 of each Wasm module. Left to
 * itself it would run the first second of every guest in baseline code. To be called before the first engine is made.
 */
import { setFlagsFromString } from 'node:v8';

export function optimiseEngineAtOnce(): void {
  setFlagsFromString('--wasm-tier-mask-for-testing=1');
}
