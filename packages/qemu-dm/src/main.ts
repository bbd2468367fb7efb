import { hostPaths, runDaemon, UsageError } from '@xenhost/daemon-kit';
import { domid as domidOf } from '@xenhost/base';
import { connectPrivcmd } from '@xenhost/privcmd';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { parseCommandLine } from './command-line.ts';
import { startDeviceModel } from './device-model.ts';
import { refusal } from './refusal.ts';

/** How long the hypervisor may take to come up when both start together. */
const HYPERVISOR_WAIT_MS = 30_000;

const argv = process.argv.slice(2);
const commandLine = parseCommandLine(argv);

if (commandLine.kind === 'otherMachine') {
  process.stderr.write(`${refusal(argv)}\n`);
  process.exit(1);
}

runDaemon('qemu-dm', async ({ log, shutdown }) => {
  if (commandLine.kind === 'wrong') throw new UsageError(`qemu-dm: ${commandLine.reason}`);
  const { options, warnings } = commandLine;
  for (const warning of warnings) log.warn(warning);
  // What xend of Xen 4.4 ends its device models with.
  process.on('SIGHUP', () => {
    shutdown('SIGHUP');
  });
  const paths = hostPaths();
  const privcmd = await connectPrivcmd(paths.privcmd, { waitMs: HYPERVISOR_WAIT_MS });
  await privcmd.restrict({ kind: 'domain', domid: domidOf(options.domid) });
  privcmd.onClose((error) => {
    if (error) shutdown('the hypervisor is gone', 1);
  });
  // xenstored may be restarted under running guests.
  const xenstore = await XenstoreClient.connect({ path: paths.xenstored, reconnect: {} });
  xenstore.onClose((error) => {
    if (error) shutdown('xenstored is gone', 1);
  });
  const model = await startDeviceModel(options, {
    privcmd,
    xenstore,
    log: log.child({ domid: options.domid }),
    onDomainGone: () => {
      shutdown('the domain is gone');
    },
  });
  return {
    stop: async () => {
      await model.stop();
      await xenstore.close();
      await privcmd.close();
    },
    ready: {
      domid: options.domid,
      ...(model.listener?.port !== undefined && { vncPort: model.listener.port }),
      ...(model.listener?.webSocketPort !== undefined && { webSocketPort: model.listener.webSocketPort }),
    },
  };
});
