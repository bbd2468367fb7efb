/** Plays the backends of Domain-0: a device that appears is connected, one that is closing is closed. */
import type { XenstoreClient } from '@xenhost/xenstore-client';

export interface PlayedBackends {
  stop(): Promise<void>;
}

export function playBackends(store: XenstoreClient): PlayedBackends {
  const abort = new AbortController();
  const changes = store.watch('/local/domain/0/backend', { signal: abort.signal });
  const run = async (): Promise<void> => {
    for await (const { path } of changes) {
      if (!/\/\d+\/\d+\/(state|online)$/.test(path)) continue;
      const device = path.slice(0, path.lastIndexOf('/'));
      await store.transaction(async (t) => {
        // What was removed meanwhile is not made again.
        const state = await t.tryRead(`${device}/state`);
        if (state === '1' && !(await t.exists(`${device}/hotplug-status`))) await t.write(`${device}/hotplug-status`, 'connected'); // prettier-ignore
        if (state === '5') await t.write(`${device}/state`, '6');
      });
    }
  };
  const running = run();
  return {
    async stop() {
      abort.abort();
      await running;
    },
  };
}
