/**
 * `npm run bench -- NAME [options]`: prints one JSON line a figure. Ratios are against a peer measured in the same run;
 * nothing here decides a test.
 */
import { runNamed } from '@xenhost/testkit';

process.exitCode = await runNamed(new URL('.', import.meta.url), 'npm run bench --', process.argv.slice(2));
