/** Writes the embedded guest's kernel and config into a folder: `embed-guests.ts DIR`. */
import { resolve } from 'node:path';
import { writeConsoleShell } from '@xenhost/guest-kernels';

writeConsoleShell(resolve(process.argv[2] ?? 'dist/guests'));
