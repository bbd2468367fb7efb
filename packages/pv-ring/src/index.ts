export * from './byte-ring.ts';
export * from './page.ts';
export * from './shared-ring.ts';
