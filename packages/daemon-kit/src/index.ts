export * from './args.ts';
export * from './healthcheck.ts';
export * from './logger.ts';
export * from './metrics.ts';
export * from './paths.ts';
export * from './run.ts';
export * from './sysfs.ts';
export * from './unix.ts';
