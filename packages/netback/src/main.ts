import { join } from 'node:path';
import { UsageError, hostPaths, parseDaemonArgs, runDaemon } from '@xenhost/daemon-kit';
import { connectPrivcmd } from '@xenhost/privcmd';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { serveControl } from './capture/control.ts';
import { startNetback } from './daemon.ts';
import { NetworkConfigError, readNetworkConfig } from './switch/config.ts';
import { followMadeNetworks } from './switch/made-networks.ts';
import { bridgeMetrics } from './switch/metrics.ts';
import { Network } from './switch/network.ts';

/** How long the hypervisor may take to come up when both start together. */
const HYPERVISOR_WAIT_MS = 30_000;

runDaemon('netback', async ({ log, shutdown, signal }) => {
  const paths = hostPaths();
  const args = parseDaemonArgs('netback', {
    xenstore: { type: 'string', help: "xenstored's socket", default: paths.xenstored },
    privcmd: { type: 'string', help: "the hypervisor's socket", default: paths.privcmd },
    network: { type: 'string', help: 'bridges and uplinks', default: paths.networkConfig },
    sysfs: { type: 'string', help: 'folder of the statistics, as /sys', default: paths.sysfs },
    control: { type: 'string', help: 'socket of captures and listings', default: paths.netbackControl },
    metrics: { type: 'string', help: 'socket of the metrics', default: paths.netbackMetrics },
  });
  const config = readConfig(args.network);
  const privcmd = await connectPrivcmd(args.privcmd, { waitMs: HYPERVISOR_WAIT_MS });
  privcmd.onClose((error) => {
    if (error) shutdown('the hypervisor is gone', 1);
  });
  const xenstore = await XenstoreClient.connect({ path: args.xenstore });
  const switches = new Network(config, { log });
  await followMadeNetworks(
    config.bridges.map(({ name }) => name),
    { xenstore, networks: switches, log },
    signal,
  );
  const netback = await startNetback(
    { statisticsRoot: join(args.sysfs, 'class', 'net'), metricsPath: args.metrics },
    { privcmd, xenstore, switches, log, switchMetrics: () => bridgeMetrics(switches.bridges) },
  );
  const control = await serveControl(args.control, { networks: switches });
  netback.ended.catch((error: unknown) => {
    log.error({ err: error }, 'xenstored is gone');
    shutdown('xenstored is gone', 1);
  });
  return {
    stop: async () => {
      await netback.stop();
      await control.close();
      await switches.close();
      await xenstore.close();
      await privcmd.close();
    },
  };
});

function readConfig(file: string): ReturnType<typeof readNetworkConfig> {
  try {
    return readNetworkConfig(file);
  } catch (error) {
    if (error instanceof NetworkConfigError) throw new UsageError(`netback: ${error.message}`, { cause: error });
    throw error;
  }
}
