export type * from './port.ts';
export type * from './server.ts';
