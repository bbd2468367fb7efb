export { Xend, type XendOptions } from './xend.ts';
export type { BuildPvDomain, HostIdentity, Hypervisor, Store, XendPorts } from './ports.ts';
export { memoryLog, openXendLog, type XendLog } from './node/log.ts';
export { buildServer } from './server.ts';
export { methods } from './rpc/dispatch.ts';
export type { Method, MethodContext } from './rpc/method.ts';
