export * from './brand.ts';
export * from './clock.ts';
export * from './errno.ts';
export * from './layout.ts';
