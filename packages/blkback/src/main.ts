import { join } from 'node:path';
import { hostPaths, parseDaemonArgs, runDaemon } from '@xenhost/daemon-kit';
import { connectPrivcmd } from '@xenhost/privcmd';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startBlkback } from './daemon.ts';

/** How long the hypervisor may take to come up when both start together. */
const HYPERVISOR_WAIT_MS = 30_000;

runDaemon('blkback', async ({ log, shutdown }) => {
  const paths = hostPaths();
  const args = parseDaemonArgs('blkback', {
    xenstore: { type: 'string', help: "xenstored's socket", default: paths.xenstored },
    privcmd: { type: 'string', help: "the hypervisor's socket", default: paths.privcmd },
    sysfs: { type: 'string', help: 'folder of the statistics, as /sys', default: paths.sysfs },
    metrics: { type: 'string', help: 'socket of the metrics', default: paths.blkbackMetrics },
    'persistent-grants': { type: 'boolean', help: 'offer feature-persistent to frontends' },
  });
  const privcmd = await connectPrivcmd(args.privcmd, { waitMs: HYPERVISOR_WAIT_MS });
  privcmd.onClose((error) => {
    if (error) shutdown('the hypervisor is gone', 1);
  });
  // Disks are served while xenstored restarts.
  const xenstore = await XenstoreClient.connect({ path: args.xenstore, reconnect: {} });
  const blkback = await startBlkback(
    {
      statisticsRoot: join(args.sysfs, 'bus', 'xen-backend', 'devices'),
      metricsPath: args.metrics,
      persistentGrants: args['persistent-grants'],
    },
    { privcmd, xenstore, log },
  );
  blkback.ended.catch((error: unknown) => {
    log.error({ err: error }, 'xenstored is gone');
    shutdown('xenstored is gone', 1);
  });
  return {
    stop: async () => {
      await blkback.stop();
      await xenstore.close();
      await privcmd.close();
    },
  };
});
