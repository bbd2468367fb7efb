/** The embedded guest as files that `xm create` takes: `npm start` and the container image both make them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { consoleShell } from './console-shell.ts';

/** Domain name of the embedded guest. */
export const CONSOLE_SHELL_NAME = 'shell';
const MEMORY_MIB = 16;

/** Writes kernel and config into a folder, which is made when it is not there; the result is the path of the config. */
export function writeConsoleShell(directory: string): string {
  mkdirSync(directory, { recursive: true });
  const kernel = join(directory, 'console-shell.elf');
  const config = join(directory, `${CONSOLE_SHELL_NAME}.cfg`);
  writeFileSync(kernel, consoleShell());
  writeFileSync(
    config,
    [
      `name = "${CONSOLE_SHELL_NAME}"`,
      `kernel = "${kernel}"`,
      `memory = ${MEMORY_MIB}`,
      'on_poweroff = "destroy"',
      'on_reboot = "restart"',
      'on_crash = "destroy"',
      '',
    ].join('\n'),
  );
  return config;
}
