/** `npm start -- --once` and `xenhost up|status|down`, as a user runs them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { consoleShellPrompt } from '@xenhost/guest-kernels';
import { program } from '@xenhost/xenhost';
import { assert, type Report, run } from '@xenhost/testkit';

const xenhost = (...args: readonly string[]): ReturnType<typeof run> => {
  const { command, args: own } = program('xenhost');
  return run(command, [...own, ...args], process.env);
};

export async function startCommand(report: Report): Promise<void> {
  await report.case('start --once boots the embedded guest and ends with 0', async () => {
    const { code, stdout, stderr } = await xenhost('start', '--once');
    assert(code === 0, `exit code ${String(code)}\n${stdout}${stderr}`);
    assert(stdout.includes(consoleShellPrompt), `no prompt:\n${stdout}`);
  });
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  try {
    await report.case('up, status, a second up, down', async () => {
      const up = await xenhost('up', '--run-dir', directory, '--memory', '256');
      assert(up.code === 0, `${up.stdout}${up.stderr}`);
      const status = await xenhost('status', '--run-dir', directory);
      assert(status.code === 0 && /hypervisor\s+\d+ up/.test(status.stdout), status.stdout);
      const second = await xenhost('up', '--run-dir', directory);
      assert(second.code === 1 && second.stderr.includes('already running'), second.stderr);
      const down = await xenhost('down', '--run-dir', directory);
      assert(down.code === 0, down.stderr);
      const none = await xenhost('status', '--run-dir', directory);
      assert(none.code === 3, none.stdout);
    });
  } finally {
    await xenhost('down', '--run-dir', directory);
    rmSync(directory, { recursive: true, force: true });
  }
  await report.case('wrong options are named', async () => {
    const { code, stderr } = await xenhost('up', '--memory', 'lots');
    assert(code === 1 && stderr.includes('--memory lots: a whole number from'), stderr);
  });
}
