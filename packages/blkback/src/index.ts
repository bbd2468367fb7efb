export { startBlkback } from './daemon.ts';
export type { Blkback, BlkbackModules, BlkbackOptions } from './daemon.ts';
