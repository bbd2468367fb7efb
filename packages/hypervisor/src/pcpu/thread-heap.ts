/** The garbage collector of this thread, where Node was told to show it (`--expose-gc`). */
import { getHeapStatistics } from 'node:v8';
import { IdleCollector } from './idle-collector.ts';
import type { ThreadHeap } from './idle-collector.ts';

/** How often a thread with an event loop looks whether it rests. */
const LOOK_MS = 1000;

export function threadHeap(): ThreadHeap | undefined {
  const { gc } = globalThis;
  if (!gc) return undefined;
  return {
    usedBytes: () => {
      const { used_heap_size: used, external_memory: outside } = getHeapStatistics();
      return used + outside;
    },
    collect: () => {
      gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    },
  };
}

/** For a thread with an event loop: collects whenever it has been quiet. Keeps no thread alive. */
export function collectWhenQuiet(): void {
  const heap = threadHeap();
  if (!heap) return;
  const collector = new IdleCollector(heap);
  setInterval(() => {
    collector.look();
  }, LOOK_MS).unref();
}
