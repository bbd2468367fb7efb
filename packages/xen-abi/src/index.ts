export * from './hypercalls.ts';
