export * from './packet.ts';
export * from './perms.ts';
export * from './protocol.ts';
