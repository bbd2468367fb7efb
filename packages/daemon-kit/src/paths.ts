/**
 * Where a host's files are. Defaults are Xen's own paths; a run directory of one's own (`XENHOST_RUN`, `XENHOST_LOG`,
 * `XENHOST_LIB`) makes several hosts live side by side. Unix socket paths stay under 108 bytes: keep run directories short.
 */
import { join } from 'node:path';

export interface HostPaths {
  readonly run: string;
  readonly log: string;
  readonly lib: string;
  /** Socket of the hypervisor. */
  readonly privcmd: string;
  readonly xenstored: string;
  /** Folder of console sockets: `<domid>.sock` for the first PV console of each domain. */
  readonly consoles: string;
  readonly xendXmlrpc: string;
  readonly xenApi: string;
  /** Console logs: `guest-<name>.log`. */
  readonly consoleLogs: string;
  readonly xendLog: string;
  /** Managed domains' configs. */
  readonly xendState: string;
}

export function hostPaths(env: NodeJS.ProcessEnv = process.env): HostPaths {
  const run = env['XENHOST_RUN'] ?? '/var/run';
  const log = env['XENHOST_LOG'] ?? '/var/log/xen';
  const lib = env['XENHOST_LIB'] ?? '/var/lib';
  return {
    run,
    log,
    lib,
    privcmd: env['XENHOST_PRIVCMD'] ?? join(run, 'xen', 'privcmd.sock'),
    xenstored: env['XENSTORED_PATH'] ?? join(env['XENSTORED_RUNDIR'] ?? join(run, 'xenstored'), 'socket'),
    consoles: join(run, 'xenconsoled'),
    xendXmlrpc: join(run, 'xend', 'xmlrpc.sock'),
    xenApi: join(run, 'xend', 'xen-api.sock'),
    consoleLogs: join(log, 'console'),
    xendLog: join(log, 'xend.log'),
    xendState: join(lib, 'xend'),
  };
}
