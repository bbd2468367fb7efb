/** The cases of system instructions as rows of the report, a row a table. */
import { SystemSuite, type SystemCase } from './system.ts';
import { controlCases } from './system-cases-control.ts';
import { memoryCases } from './system-cases-memory.ts';
import { transferCases } from './system-cases-transfers.ts';

const TABLES: Readonly<Record<string, readonly SystemCase[]>> = {
  'registers, flags, ports': controlCases,
  'segments, transfers, interrupts': transferCases,
  'paging, alignment, double faults': memoryCases,
};

/** Runs every case, writes rows, and says how many passed and failed. */
export function runSystemCases(): { passed: number; failed: number } {
  const suite = new SystemSuite();
  const total = { passed: 0, failed: 0 };
  for (const [name, cases] of Object.entries(TABLES)) {
    const { passed, failed, both, messages } = suite.run(cases);
    for (const message of messages) process.stdout.write(`${message}\n`);
    process.stdout.write(
      `${failed === 0 ? 'ok  ' : 'FAIL'} system: ${name}: ${cases.length} cases (${both} on the oracle too), ${passed} passed, ${failed} failed\n`,
    );
    total.passed += passed;
    total.failed += failed;
  }
  return total;
}
