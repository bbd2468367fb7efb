/** End-to-end runs over whole hosts: real processes, real sockets, real guests. Ends with `N passed, N failed`. */
import { Report } from '@xenhost/testkit';
import { suites } from './index.ts';

const wanted = process.argv.slice(2);
const report = new Report();
for (const [name, suite] of Object.entries(suites)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  report.note(`--- ${name}`);
  try {
    await suite(report);
  } catch (error) {
    report.row(name, false, error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
}
process.exitCode = report.close();
