import { UsageError, hostPaths, parseDaemonArgs, runDaemon } from '@xenhost/daemon-kit';
import { openXenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startXenconsoled } from './daemon.ts';

/** How long the hypervisor may take to come up when both start together. */
const HYPERVISOR_WAIT_MS = 30_000;
const LOG_CHOICES = ['none', 'guest', 'hv', 'all'];

runDaemon('xenconsoled', async ({ log, shutdown }) => {
  const paths = hostPaths();
  const args = parseDaemonArgs('xenconsoled', {
    log: { type: 'string', help: `what to log: ${LOG_CHOICES.join(', ')}`, default: 'all' },
    'log-dir': { type: 'string', help: 'folder of the logs', default: paths.consoleLogs },
    'ws-port': { type: 'number', help: 'attach by WebSocket on this port (ws://HOST:PORT/console/DOMID)' },
    'ws-address': { type: 'string', help: 'address of that port', default: '127.0.0.1' },
  });
  if (!LOG_CHOICES.includes(args.log))
    throw new UsageError(`xenconsoled: --log wants one of ${LOG_CHOICES.join(', ')}`);
  const privcmd = await connectPrivcmd(paths.privcmd, { waitMs: HYPERVISOR_WAIT_MS });
  privcmd.onClose((error) => {
    if (error) shutdown('the hypervisor is gone', 1);
  });
  const xenstore = await XenstoreClient.connect({ path: paths.xenstored });
  xenstore.onClose((error) => {
    if (error) shutdown('xenstored is gone', 1);
  });
  const daemon = await startXenconsoled(
    {
      socketDirectory: paths.consoles,
      logDirectory: args['log-dir'],
      logs: { guests: args.log === 'guest' || args.log === 'all', hypervisor: args.log === 'hv' || args.log === 'all' },
      ...(args['ws-port'] === undefined ? {} : { webSocket: { host: args['ws-address'], port: args['ws-port'] } }),
    },
    { xenctrl: openXenctrl(privcmd), xenstore, log },
  );
  const port = daemon.webSocketPort;
  return { stop: () => daemon.stop(), ...(port === undefined ? {} : { ready: { webSocketPort: port } }) };
});
