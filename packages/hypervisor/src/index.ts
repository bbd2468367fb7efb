export { MAX_MEMORY_MIB, MIN_MEMORY_MIB, startHost } from './control/host.ts';
export type { HostModules, HostOptions, RunningHost } from './control/host.ts';
