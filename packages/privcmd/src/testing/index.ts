export * from './compliance.ts';
export * from './fake.ts';
export * from './fake-pages.ts';
export * from './domain-list.ts';
