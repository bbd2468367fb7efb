/** End-to-end runs over whole hosts: real processes, real sockets, real guests. Ends with `N passed, N failed`. */
import { Report } from '@xenhost/testkit';
import { badInput } from './bad-input.ts';
import { journeys } from './journeys.ts';
import { lifeCycle } from './life-cycle.ts';
import { startCommand } from './start-command.ts';
import { supervision } from './supervision.ts';

const suites: Readonly<Record<string, (report: Report) => Promise<void>>> = {
  start: startCommand,
  journeys,
  'life-cycle': lifeCycle,
  'bad-input': badInput,
  supervision,
};

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
