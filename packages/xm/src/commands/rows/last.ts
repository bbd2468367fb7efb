/** What stands last in the long help: the shell, and the commands that are ours. */
import type { Command } from '../command.ts';

export const lastCommands: readonly Command[] = [
  {
    name: 'shell',
    args: '',
    doc: 'Start an interactive shell.',
    api: 'both',
    load: async () => (await import('../shell.ts')).shell,
  },
  {
    name: 'event-monitor',
    args: '[class ...]',
    doc: 'Show events as they come.',
    hidden: true,
    api: 'both',
    load: async () => (await import('../vnet.ts')).eventMonitor,
  },
];

export const ownCommands: readonly Command[] = [
  {
    name: 'bash-completion',
    args: '',
    doc: 'Print the completion script for bash.',
    count: [0, 0],
    own: true,
    load: async () => (await import('../completion.ts')).bashCompletion,
  },
];
