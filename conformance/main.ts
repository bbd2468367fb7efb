/**
 * `npm run conformance -- NAME [options]`: runs what nobody here wrote (processors, kernels, frameworks, tools) against
 * this project. Each prints a row a case and ends with `N passed, N failed`; the exit code says the same.
 */
import { runNamed } from '@xenhost/testkit';

process.exitCode = await runNamed(new URL('.', import.meta.url), 'npm run conformance --', process.argv.slice(2));
