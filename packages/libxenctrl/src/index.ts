export * from './api.ts';
export type * from './dombuild/types.ts';
export { uuidBytes, uuidText } from './uuid.ts';
export { openXenctrl } from './xenctrl.ts';
