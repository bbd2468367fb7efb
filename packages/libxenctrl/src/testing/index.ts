export * from './fake-xen.ts';
