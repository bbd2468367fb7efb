export * from './value.ts';
export * from './print.ts';
export * from './parse.ts';
export * from './dict-order.ts';
