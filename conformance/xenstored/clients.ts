/**
 * xenstore-control, test-xenstore and pyxs as Debian has them. Where the C daemon is there it is asked the same, and must
 * have said the same.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert } from '@xenhost/testkit';
import type { Report } from '@xenhost/testkit';
import { startDaemon } from '../lib/xen/daemons.ts';
import type { Daemon } from '../lib/xen/daemons.ts';
import type { DebianXen } from '../lib/xen/debian.ts';
import { tool } from './tool.ts';
import type { Answer } from './tool.ts';

const CONTROL: readonly (readonly string[])[] = [
  ['check'],
  ['check', 'x'],
  ['help'],
  ['quota'],
  ['quota', '77'],
  ['quota', 'set', 'nodes', '1001'],
  ['quota', 'set', 'nodes', '0'],
  ['quota', 'set', 'no-such-quota', '1'],
  ['quota'],
  ['quota-soft'],
  ['quota-soft', 'set', 'memory', '100000'],
  ['log', 'on'],
  ['log', 'off'],
  ['log'],
  ['print', 'hello'],
  ['print'],
  ['memreport', 'DIR/memory'],
  ['memreport', '/no/such/folder/file'],
  // Without one the C daemon has nowhere to report to, ours has its usual file.
  ['logfile', 'DIR/log'],
  ['memreport'],
  ['no-such-command'],
  [],
];

/** The operations that `test-xenstore -i` times. */
const TIMED = 12;
const TIMED_ROUNDS = 200;
const RANDOM_SECONDS = 3;
const PYXS_SCRIPT = fileURLToPath(new URL('pyxs_client.py', import.meta.url));

export async function runClients(report: Report, debian: DebianXen): Promise<void> {
  const ours = await startDaemon('ours', {});
  const c = await startDaemon('c', { debian });
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const { env } = debian;
  /** Runs it with both; the answer of ours, and what the C daemon's was instead. */
  const both = async (command: string, args: readonly string[], timeoutMs = 60_000): Promise<[Answer, Answer]> => {
    const answers = [ours, c].map(async ({ socket, kind }: Daemon) => {
      const own = args.map((arg) => arg.replace('DIR/', `${directory}/${kind}-`));
      return tool(command, own, socket, { timeoutMs, env });
    });
    return (await Promise.all(answers)) as [Answer, Answer];
  };
  const same = async (command: string, args: readonly string[]): Promise<Answer> => {
    const [answer, expected] = await both(command, args);
    assert(show(answer) === show(expected), `${show(answer)} instead of ${show(expected)}`);
    return answer;
  };
  try {
    for (const args of CONTROL) {
      await report.case(`xenstore-control ${args.join(' ')}`, async () => {
        await same(join(debian.bin, 'xenstore-control'), args);
      });
    }
    await report.case(`test-xenstore -i ${TIMED_ROUNDS}`, async () => {
      const { code, out, err } = await tool(
        join(debian.bin, 'test-xenstore'),
        ['-i', String(TIMED_ROUNDS)],
        ours.socket,
        {
          timeoutMs: 60_000,
          env,
        },
      );
      assert(code === 0 && out.trim().split('\n').length === TIMED, `status ${code}: ${out}${err}`);
    });
    await report.case(`test-xenstore -r ${RANDOM_SECONDS}`, async () => {
      const args = ['-r', String(RANDOM_SECONDS)];
      const { code, err } = await tool(join(debian.bin, 'test-xenstore'), args, ours.socket, {
        timeoutMs: 60_000,
        env,
      });
      assert(code === 0, `status ${code}: ${err}`);
    });
    const python = await tool('python3', ['--version'], ours.socket).catch(() => undefined);
    const pyxs = async (): Promise<string> => {
      const { code, out, err } = await same('python3', [PYXS_SCRIPT]);
      assert(code === 0, `status ${code}: ${err}`);
      return `${out.trim().split('\n').length} answers`;
    };
    if (python) await report.case('pyxs', pyxs);
    else report.note('there is no python3: pyxs is left out');
    await report.case('xenstore-control check, after all that', async () => {
      await same(join(debian.bin, 'xenstore-control'), ['check']);
    });
  } finally {
    await ours.stop();
    await c.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

const show = ({ code, out, err }: Answer): string => JSON.stringify({ code, out, err });
