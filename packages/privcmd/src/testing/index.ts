export * from './compliance.ts';
export * from './fake.ts';
