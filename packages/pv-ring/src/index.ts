export * from './byte-ring.ts';
export * from './page.ts';
