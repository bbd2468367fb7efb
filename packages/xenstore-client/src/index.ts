export type { XenstoreAccess, XenstoreRequestOptions } from './access.ts';
export * from './client.ts';
export * from './errors.ts';
export type { ReconnectPolicy } from './link.ts';
export type { XenstoreWatch, XenstoreWatchEvent, XenstoreWatchOptions } from './watch.ts';
export * from './wait.ts';
export type { XsAccess, XsPerm } from '@xenhost/xs-wire';
export * from './backend.ts';
