export * from './front-ring.ts';
