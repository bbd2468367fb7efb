export { Xend, type XendOptions } from './xend.ts';
export type { BuildPvDomain, HostIdentity, Hypervisor, Store, XendPorts, XendSettings } from './ports.ts';
export { memoryLog, openXendLog, type XendLog } from './node/log.ts';
export type { ServerSpec, Service, TcpAddress, UnixAddress } from './options/servers.ts';
export { readConfig, ConfigError, type XendConfig } from './options/config.ts';
export { methods } from './rpc/dispatch.ts';
export type { Method, MethodContext } from './rpc/method.ts';
