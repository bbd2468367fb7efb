export { DEVICE_CLASS, REFUSAL, runNetback } from './daemon.ts';
export type { BackendModules } from './daemon.ts';
