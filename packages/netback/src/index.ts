export { startNetback } from './daemon.ts';
export type { Netback, NetbackModules, NetbackOptions } from './daemon.ts';
export { DEVICE_CLASS } from './vifs.ts';
