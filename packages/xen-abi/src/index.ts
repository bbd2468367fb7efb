export * from './hypercalls.ts';
export * from './domctl.ts';
export * from './sysctl.ts';
