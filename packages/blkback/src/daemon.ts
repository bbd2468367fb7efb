/** The Block Backend Driver put together: block devices of `/local/domain/0/backend/{vbd,tap,tap2}`, their statistics and metrics. */
import { offerMetrics } from '@xenhost/daemon-kit';
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import { BlockBackend } from './backend.ts';
import type { BlockBackendOptions } from './backend.ts';
import { STATISTICS_MS } from './limits.ts';
import { blkbackMetrics } from './metrics.ts';
import { StatisticsFiles } from './statistics-files.ts';

export interface BlkbackOptions extends BlockBackendOptions {
  /** Where devices' statistics go: /sys/bus/xen-backend/devices of a Linux Domain-0. */
  readonly statisticsRoot: string;
  readonly metricsPath: string;
}

export interface BlkbackModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly log: Logger;
}

export interface Blkback {
  readonly backend: BlockBackend;
  /** Rejects when xenstored is gone for good; resolves after `stop`. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

/** Begins to serve. From here on the connection to the hypervisor is good for grants and event channels only. */
export async function startBlkback(options: BlkbackOptions, modules: BlkbackModules): Promise<Blkback> {
  const { privcmd, log } = modules;
  await privcmd.restrict({ kind: 'backend' });
  const backend = new BlockBackend(options, modules);
  const files = new StatisticsFiles(options.statisticsRoot);
  const ended = backend.run();
  let writing: Promise<void> | undefined;
  let swept = false;
  const update = (): Promise<void> => {
    writing ??= files
      .update(backend.devices)
      .then(() => (swept ? undefined : files.sweep(backend.devices)))
      .catch((error: unknown) => {
        log.warn({ err: error, root: options.statisticsRoot }, 'statistics cannot be written');
      })
      .finally(() => {
        writing = undefined;
        swept = true;
      });
    return writing;
  };
  const timer = setInterval(() => void update(), STATISTICS_MS).unref();
  const metrics = await offerMetrics(options.metricsPath, () => blkbackMetrics(backend), log);
  return {
    backend,
    ended,
    stop: async () => {
      clearInterval(timer);
      await backend.stop();
      await writing;
      await update();
      await metrics?.close();
    },
  };
}
