/**
 * The Network Backend Driver put together: vifs of `/local/domain/0/backend/vif` between their guests' rings and the switches,
 * their statistics as files, and metrics.
 */
import { offerMetrics } from '@xenhost/daemon-kit';
import type { Logger, MetricFamily } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import { vifMetrics } from './metrics.ts';
import { StatisticsFiles } from './statistics.ts';
import type { Switches } from './switch/frame.ts';
import { STATISTICS_INTERVAL_MS } from './vif/limits.ts';
import { DEVICE_CLASS, Vifs } from './vifs.ts';

export interface NetbackOptions {
  /** Where vifs' statistics go: /sys/class/net of a Linux Domain-0. */
  readonly statisticsRoot: string;
  readonly metricsPath: string;
}

export interface NetbackModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly switches: Switches;
  readonly log: Logger;
  /** The switch's part of the metrics. */
  readonly switchMetrics?: () => readonly MetricFamily[];
}

export interface Netback {
  readonly vifs: Vifs;
  /** Rejects when xenstored is gone; resolves after `stop`. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

/** Begins to serve. From here on the connection to the hypervisor is good for grants and event channels only. */
export async function startNetback(options: NetbackOptions, modules: NetbackModules): Promise<Netback> {
  const { privcmd, xenstore, log, switchMetrics } = modules;
  await privcmd.restrict({ kind: 'backend' });
  const files = new StatisticsFiles(options.statisticsRoot);
  await files.keepOnly(await knownVifs(xenstore));
  const vifs = new Vifs({ ...modules, files });
  const stopping = new AbortController();
  const ended = vifs.run(stopping.signal).catch((error: unknown) => {
    if (!stopping.signal.aborted) throw error;
  });
  const cannotWrite = (error: unknown): void => {
    log.warn({ err: error, root: options.statisticsRoot }, 'statistics cannot be written');
  };
  const interval = setInterval(() => {
    files.update(vifs.devices).catch(cannotWrite);
  }, STATISTICS_INTERVAL_MS);
  interval.unref();
  const metrics = await offerMetrics(
    options.metricsPath,
    () => [...vifMetrics(vifs.devices, vifs.queuedBytes), ...(switchMetrics?.() ?? [])],
    log,
  );
  return {
    vifs,
    ended,
    stop: async () => {
      clearInterval(interval);
      stopping.abort();
      await vifs.stop();
      await files.update(vifs.devices).catch(cannotWrite);
      await metrics?.close();
    },
  };
}

/** The vifs in xenstore, whatever their state. */
async function knownVifs(xenstore: XenstoreClient): Promise<ReadonlySet<string>> {
  const base = `/local/domain/0/backend/${DEVICE_CLASS}`;
  const ids = new Set<string>();
  for (const domid of await xenstore.tryDirectory(base)) {
    for (const device of await xenstore.tryDirectory(`${base}/${domid}`)) ids.add(`vif${domid}.${device}`);
  }
  return ids;
}
