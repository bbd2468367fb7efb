export * from './engine/api.ts';
