export { createXenApi } from './dispatcher.ts';
export type { XenApi, XenApiAuth, XenApiOptions, XenApiPeer, XenApiPorts } from './api.ts';
