export { runXm } from './cli.ts';
export type { World } from './world.ts';
export { commands } from './commands/table.ts';
export type { Command } from './commands/command.ts';
