export type { XenstoreAccess } from './access.ts';
export * from './client.ts';
export * from './errors.ts';
export type { XenstoreWatch, XenstoreWatchEvent } from './watch.ts';
export type { XsAccess, XsPerm } from '@xenhost/xs-wire';
export * from './backend.ts';
