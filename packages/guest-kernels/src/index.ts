export { consoleShell, consoleShellPrompt } from './console-shell.ts';
