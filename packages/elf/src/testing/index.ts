export * from './build-elf.ts';
