/**
 * Mini-OS's own test application (CONFIG_TEST=y, built outside this repository) as a PV guest.
 *   --kernel FILE    mini-os or mini-os.gz
 *   --jit LIST       off,on,force: a host for each (default: XENHOST_JIT, else on)
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { assert, jitRuns, Report, TestHost } from '@xenhost/testkit';

const MEMORY_MIB = 32;
const TIMEOUT_MS = 30_000;

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: { kernel: { type: 'string' }, jit: { type: 'string' } } });
  if (values.kernel === undefined) {
    process.stderr.write('mini-os: --kernel FILE names a Mini-OS built with CONFIG_TEST=y\n');
    return 1;
  }
  const report = new Report();
  for (const { jit, prefix } of jitRuns(values.jit)) {
    const host = await TestHost.start({ jit });
    try {
      await cases(report, host, resolve(values.kernel), prefix);
    } finally {
      await host.stop();
    }
  }
  return report.close();
}

async function cases(report: Report, host: TestHost, kernel: string, prefix: string): Promise<void> {
  const failedBefore = report.failed;
  const config = host.config('mini-os', {
    kernel,
    memory: MEMORY_MIB,
    on_poweroff: 'destroy',
    on_crash: 'preserve',
  });
  await report.case(`${prefix}xm create`, () => host.mustXm('create', config).then(() => undefined));
  const console = host.console('mini-os');
  await report.case(`${prefix}start-of-day messages`, async () => {
    await console.expect(/start_info/, TIMEOUT_MS);
  });
  await report.case(`${prefix}the xenbus thread talks to xenstored`, async () => {
    await console.expect(/Doing xenbus test\./i, TIMEOUT_MS);
  });
  await report.case(`${prefix}the periodic thread ticks once a second`, async () => {
    const first = await console.expect(/T\(s=(\d+) us=\d+\)/, TIMEOUT_MS);
    const second = await console.expect(/T\(s=(\d+) us=\d+\)/, TIMEOUT_MS);
    const seconds = Number(second[1]) - Number(first[1]);
    assert(seconds >= 1 && seconds <= 2, `ticks ${seconds} s apart`);
  });
  await report.case(`${prefix}it has not crashed`, async () => {
    const state = (await host.mustXm('list', 'mini-os')).split('\n')[1] ?? '';
    assert(/ [r-][b-]---- /.test(state), state);
  });
  await report.case(`${prefix}xm shutdown ends it`, async () => {
    await host.mustXm('shutdown', '-w', 'mini-os');
  });
  if (report.failed > failedBefore) report.note(`console:\n${console.output.slice(-3000)}\n${host.logs()}`);
}
