/** Writes the embedded guests' kernels and configs into a folder: `embed-guests.ts DIR`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { consoleShell } from '@xenhost/guest-kernels';

const directory = resolve(process.argv[2] ?? 'dist/guests');
mkdirSync(directory, { recursive: true });
const kernel = join(directory, 'console-shell.elf');
writeFileSync(kernel, consoleShell());
writeFileSync(
  join(directory, 'shell.cfg'),
  ['name = "shell"', `kernel = "${kernel}"`, 'memory = 16', 'on_crash = "destroy"', ''].join('\n'),
);
