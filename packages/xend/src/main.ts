import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@xenhost/base';
import { hostPaths, parseDaemonArgs, runDaemon, type HostPaths } from '@xenhost/daemon-kit';
import { buildPvDomain, openXenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { processLauncher } from './device-model/launcher.ts';
import { pamAuthenticator } from './http/pam.ts';
import { messageOf } from './errors.ts';
import { openXendLog } from './node/log.ts';
import { readConfig, type XendConfig } from './options/config.ts';
import { idleKeys, settingsOf } from './options/settings.ts';
import { serversOf, type ServerSpec } from './options/servers.ts';
import { parsePort } from './options/xen-api-servers.ts';
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

/** The file that an option or XEND_CONFIG names, the usual one where there is one, or none. */
function configFile(given: string, usual: string): string | undefined {
  if (given !== '') return given;
  return existsSync(usual) ? usual : undefined;
}

/** What the configuration asks for; a socket or a port that was given as an option comes in its place. */
function servers(config: XendConfig, paths: HostPaths, given: { socket: string; tcp: string }): ServerSpec[] {
  const { xenApi, xendState: state } = paths;
  const specs = serversOf(config, { xmlrpc: given.socket, xenApi, state });
  if (given.tcp === '') return specs;
  const key = 'xend-tcp-xmlrpc-server';
  const { host = 'localhost', port } = parsePort(given.tcp);
  return [...specs.filter((spec) => spec.key !== key), { service: 'xmlrpc', key, address: { host, port } }];
}

/** qemu-dm lies beside this program: as a bundle beside a bundle, as a source in its own package. */
const deviceModelEntry = (): string =>
  fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? '../../qemu-dm/src/main.ts' : './qemu-dm.mjs', import.meta.url),
  );

/** Ours, without what is told about this process alone. */
function deviceModelEnv(own: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, ...own };
  delete env['XENHOST_READY_FILE'];
  return env;
}

runDaemon('xend', async ({ shutdown }) => {
  const paths = hostPaths();
  const args = parseDaemonArgs('xend', {
    config: {
      type: 'string',
      help: `configuration (XEND_CONFIG); without it ${paths.xendConfig}, if there`,
      default: process.env['XEND_CONFIG'] ?? '',
    },
    socket: { type: 'string', help: 'Unix socket of XML-RPC', default: paths.xendXmlrpc },
    tcp: {
      type: 'string',
      help: 'HOST:PORT to serve XML-RPC on too (XEND_TCP)',
      default: process.env['XEND_TCP'] ?? '',
    },
    state: { type: 'string', help: 'folder of managed domains', default: paths.xendState },
    log: { type: 'string', help: 'log file that xm log shows; without it what the configuration says', default: '' },
    privcmd: { type: 'string', help: "the hypervisor's socket", default: paths.privcmd },
    xenstore: { type: 'string', help: "xenstored's socket", default: paths.xenstored },
  });
  const places = { state: args.state, logFile: paths.xendLog };
  const { config: defaults } = readConfig(undefined, places);
  /** The configuration as it stands now; throws ConfigError. */
  const read = (): XendConfig => {
    const { config, warnings } = readConfig(configFile(args.config, paths.xendConfig), places);
    const file = args.log === '' ? config.logfile : args.log;
    log.reopen(file, config.loglevel);
    for (const warning of [...warnings, ...idleKeys(config, defaults)]) log.warn('XendOptions', warning);
    return config;
  };
  const log = openXendLog(args.log === '' ? paths.xendLog : args.log);
  const config = read();
  let settings = settingsOf(config);
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
      servers: servers(config, paths, args),
      stateDirectory: args.state,
      folders: {
        domains: config['xend-domains-path'],
        state: config['xend-state-path'],
        storage: config['xend-storage-path'],
      },
    },
    {
      xc,
      build: (options) => buildPvDomain(xc, options),
      store,
      clock: systemClock,
      log,
      host: {
        system: os.type(),
        host: os.hostname(),
        release: os.release(),
        version: os.version(),
        machine: os.machine(),
      },
      dumpDirectory: paths.dumps,
      sysfs: paths.sysfs,
      get settings() {
        return settings;
      },
      deviceModels: processLauncher({
        command: [process.execPath, deviceModelEntry()],
        logDirectory: dirname(paths.xendLog),
        nrOldLogs: config['qemu-dm-logrotate-count'],
        env: deviceModelEnv({ XENHOST_PRIVCMD: args.privcmd, XENSTORED_PATH: args.xenstore }),
      }),
      readFile: (path) => readFile(path),
      sleep: (ms) => sleep(ms),
    },
    pamAuthenticator(log),
  );
  await xend.start();
  const reload = async (): Promise<void> => {
    try {
      const fresh = read();
      settings = settingsOf(fresh);
      await xend.reload(servers(fresh, paths, args));
    } catch (error) {
      log.error('SrvServer', `Cannot take over the configuration: ${messageOf(error)}`);
    }
  };
  let reloaded = Promise.resolve();
  process.on('SIGHUP', () => {
    reloaded = reloaded.then(reload);
  });
  const tcpPort = xend.portOf('xmlrpc');
  const xenApiPort = xend.portOf('xen-api');
  const httpPort = xend.portOf('sxp');
  return {
    ready: {
      socket: args.socket,
      ...(tcpPort !== undefined && { tcpPort }),
      ...(xenApiPort !== undefined && { xenApiPort }),
      ...(httpPort !== undefined && { httpPort }),
    },
    stop: async () => {
      await xend.stop();
      await store.close();
      await xc.close();
    },
  };
});
