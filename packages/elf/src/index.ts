export * from './elf.ts';
export * from './guest-image.ts';
export * from './notes.ts';
export * from './xen-notes.ts';
