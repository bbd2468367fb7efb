export { runCommand } from './cli.ts';
export { daemons, type DaemonRow } from './daemons.ts';
export { Host, hostDefaults, hostEnv, type HostOptions } from './host.ts';
export { installationRoot, program } from './entry.ts';
export { AptCache } from './fetch/apt.ts';
export { cpio, S_IFREG } from './fetch/cpio.ts';
export { fetchGuest, type FetchedGuest } from './commands/fetch.ts';
export { readState } from './state-file.ts';
