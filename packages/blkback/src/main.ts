import { hostPaths, parseDaemonArgs, runDaemon } from '@xenhost/daemon-kit';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { runBlkback } from './daemon.ts';

runDaemon('blkback', async ({ log, signal, shutdown }) => {
  const args = parseDaemonArgs('blkback', {
    xenstore: { type: 'string', help: "xenstored's socket", default: hostPaths().xenstored },
  });
  const xenstore = await XenstoreClient.connect({ path: args.xenstore });
  runBlkback({ xenstore, log }, signal).catch((error: unknown) => {
    log.error({ err: error }, 'xenstored is gone');
    shutdown('xenstored is gone', 1);
  });
  return { stop: () => xenstore.close() };
});
