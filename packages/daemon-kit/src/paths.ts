/**
 * Where a host's files are. Defaults are Xen's own paths for root, and a folder of the user's own for anybody else (nothing
 * needs root); a run directory of one's own (`XENHOST_RUN`, `XENHOST_LOG`,
 * `XENHOST_LIB`) makes several hosts live side by side. Unix socket paths stay under 108 bytes: keep run directories short.
 */
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';

/** Not node:path's, whose normalising takes a cold process a millisecond for all these. */
const join = (folder: string, ...names: readonly string[]): string => [folder.replace(/\/+$/, ''), ...names].join('/');

export interface HostPaths {
  readonly run: string;
  readonly log: string;
  readonly lib: string;
  /** Socket of the hypervisor. */
  readonly privcmd: string;
  /** Socket of the hypervisor's metrics, HTTP. */
  readonly hypervisorMetrics: string;
  readonly xenstored: string;
  /** Folder of console sockets: `<domid>.sock` for the first PV console of each domain. */
  readonly consoles: string;
  readonly xendXmlrpc: string;
  readonly xenApi: string;
  /** Console logs: `guest-<name>.log`. */
  readonly consoleLogs: string;
  readonly xendLog: string;
  /** xend's own configuration, which need not be there: /etc/xen/xend-config.sxp, or in a run directory of one's own. */
  readonly xendConfig: string;
  /** netback's bridges and uplinks, which need not be there. */
  readonly networkConfig: string;
  /** Cores of domains. */
  readonly dumps: string;
  /** Managed domains' configs. */
  readonly xendState: string;
  /** What a Domain-0 kernel has at /sys: the backends' statistics, `class/net/vif1.0/statistics/rx_bytes`. */
  readonly sysfs: string;
  /** Socket of netback's own commands, HTTP. */
  readonly netbackControl: string;
  /** Socket of netback's metrics, HTTP. */
  readonly netbackMetrics: string;
  /** Socket of blkback's metrics, HTTP. */
  readonly blkbackMetrics: string;
}

export function hostPaths(env: NodeJS.ProcessEnv = process.env): HostPaths {
  const own = ownDirectory(env);
  const run = env['XENHOST_RUN'] ?? (own === undefined ? '/var/run' : own);
  const log = env['XENHOST_LOG'] ?? (own === undefined ? '/var/log/xen' : join(own, 'log'));
  const lib = env['XENHOST_LIB'] ?? (own === undefined ? '/var/lib' : join(own, 'lib'));
  const privcmd = env['XENHOST_PRIVCMD'] ?? join(run, 'xen', 'privcmd.sock');
  return {
    run,
    log,
    lib,
    privcmd,
    hypervisorMetrics: metricsBeside(privcmd),
    xenstored: env['XENSTORED_PATH'] ?? join(env['XENSTORED_RUNDIR'] ?? join(run, 'xenstored'), 'socket'),
    consoles: join(run, 'xenconsoled'),
    xendXmlrpc: join(run, 'xend', 'xmlrpc.sock'),
    xenApi: join(run, 'xend', 'xen-api.sock'),
    consoleLogs: join(log, 'console'),
    xendLog: join(log, 'xend.log'),
    xendConfig:
      own === undefined && env['XENHOST_RUN'] === undefined ? '/etc/xen/xend-config.sxp' : join(run, 'xend-config.sxp'),
    networkConfig:
      own === undefined && env['XENHOST_RUN'] === undefined ? '/etc/xen/network.sxp' : join(run, 'network.sxp'),
    dumps: lib === '/var/lib' ? '/var/xen/dump' : join(lib, 'xen', 'dump'),
    xendState: join(lib, 'xend'),
    sysfs: join(run, 'sys'),
    netbackControl: join(run, 'netback', 'control.sock'),
    netbackMetrics: join(run, 'netback', 'metrics.sock'),
    blkbackMetrics: join(run, 'blkback', 'metrics.sock'),
  };
}

/** The metrics socket of the hypervisor whose privcmd socket is `privcmd`. */
export const metricsBeside = (privcmd: string): string => join(dirname(privcmd), 'metrics.sock');

/** Undefined for root, who has Xen's own folders. */
function ownDirectory(env: NodeJS.ProcessEnv): string | undefined {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) return undefined;
  const runtime = env['XDG_RUNTIME_DIR'];
  return runtime ? join(runtime, 'xenhost') : join(tmpdir(), `xenhost-${uid}`);
}

/** The environment that puts a whole host under one directory, for children and for a user's shell. */
export function runDirectoryEnv(directory: string): Record<'XENHOST_RUN' | 'XENHOST_LOG' | 'XENHOST_LIB', string> {
  return { XENHOST_RUN: directory, XENHOST_LOG: join(directory, 'log'), XENHOST_LIB: join(directory, 'lib') };
}
