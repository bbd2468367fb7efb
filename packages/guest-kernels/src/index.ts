export { guestKernel, hypercall } from './runtime.ts';
export { timeSource } from './time.ts';
export { consoleShell, consoleShellPrompt } from './console-shell.ts';
export { CONSOLE_SHELL_NAME, writeConsoleShell } from './write.ts';
export { PUPPET_PAGES, puppet, puppetPrompt } from './puppet.ts';
