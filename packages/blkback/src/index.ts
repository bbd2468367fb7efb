export { DEVICE_CLASS, REFUSAL, runBlkback } from './daemon.ts';
export type { BackendModules } from './daemon.ts';
