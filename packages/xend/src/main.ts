import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '@xenhost/base';
import { hostPaths, parseDaemonArgs, runDaemon } from '@xenhost/daemon-kit';
import { buildPvDomain, openXenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { openXendLog } from './node/log.ts';
import { parseTcpAddress } from './server.ts';
import { Xend } from './xend.ts';

/** How long the other daemons may take to come up when all start together. */
const START_WAIT_MS = 30_000;
const RETRY_MS = 10;

async function connectXenstore(path: string): Promise<XenstoreClient> {
  const deadline = Date.now() + START_WAIT_MS;
  for (;;) {
    try {
      return await XenstoreClient.connect({ path });
    } catch (error) {
      if (Date.now() >= deadline) throw error;
      await sleep(RETRY_MS);
    }
  }
}

runDaemon('xend', async ({ shutdown }) => {
  const paths = hostPaths();
  const tcp = process.env['XEND_TCP'];
  const args = parseDaemonArgs('xend', {
    socket: { type: 'string', help: 'Unix socket of XML-RPC', default: paths.xendXmlrpc },
    tcp: { type: 'string', help: 'HOST:PORT to serve XML-RPC on too (XEND_TCP)', default: tcp ?? '' },
    state: { type: 'string', help: 'folder of managed domains', default: paths.xendState },
    log: { type: 'string', help: 'log file that xm log shows', default: paths.xendLog },
    privcmd: { type: 'string', help: "the hypervisor's socket", default: paths.privcmd },
    xenstore: { type: 'string', help: "xenstored's socket", default: paths.xenstored },
  });
  const privcmd = await connectPrivcmd(args.privcmd, { waitMs: START_WAIT_MS });
  const store = await connectXenstore(args.xenstore);
  // Everything that xend knows is in them: a new process finds it again.
  privcmd.onClose((error) => {
    if (error) shutdown('the hypervisor is gone', 1);
  });
  store.onClose((error) => {
    if (error) shutdown('xenstored is gone', 1);
  });
  const xc = openXenctrl(privcmd);
  const xend = new Xend(
    {
      socketPath: args.socket,
      stateDirectory: args.state,
      ...(args.tcp === '' ? {} : { tcp: parseTcpAddress(args.tcp) }),
    },
    {
      xc,
      build: (options) => buildPvDomain(xc, options),
      store,
      clock: systemClock,
      log: openXendLog(args.log),
      host: {
        system: os.type(),
        host: os.hostname(),
        release: os.release(),
        version: os.version(),
        machine: os.machine(),
      },
      readFile: (path) => readFile(path),
      sleep: (ms) => sleep(ms),
    },
  );
  await xend.start();
  return {
    ready: { socket: args.socket, ...(xend.tcpPort === undefined ? {} : { tcpPort: xend.tcpPort }) },
    stop: async () => {
      await xend.stop();
      await store.close();
      await xc.close();
    },
  };
});
