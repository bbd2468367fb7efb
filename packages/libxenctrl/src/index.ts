export * from './api.ts';
export type * from './dombuild/types.ts';
