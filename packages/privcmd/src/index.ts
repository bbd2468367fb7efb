export type * from './port.ts';
export type * from './server.ts';
export { DEFAULT_LIMITS } from './limits.ts';
export { LocalPrivcmd, localPrivcmd } from './local.ts';
export type { LocalPrivcmdOptions } from './local.ts';
export { connectPrivcmd } from './remote.ts';
export type { ConnectPrivcmdOptions } from './remote.ts';
export { servePrivcmd } from './serve.ts';
