/**
 * The journeys of docs/ARCHITECTURE.md that this version has: an instruction and a hypercall of a guest (its clock and its
 * event channels need both), and a command from xm to the hypervisor and back.
 */
import { assert, type Report, TestHost } from '@xenhost/testkit';
import { startShell, type } from './shell-guest.ts';

const CLOCK_TOLERANCE_S = 5;

export async function journeys(report: Report): Promise<void> {
  const host = await TestHost.start({ memoryMiB: 256 });
  try {
    const console = await startShell(host, 'shell');
    await report.case('instructions: the guest computes its clock', async () => {
      const match = await type(console, 'time', /wall clock (\d+-\d+-\d+) (\d+:\d+:\d+) UTC/);
      const guest = Date.parse(`${match[1] ?? ''}T${match[2] ?? ''}Z`) / 1000;
      const off = Math.abs(guest - Date.now() / 1000);
      assert(off < CLOCK_TOLERANCE_S, `the guest's clock is ${off} s off`);
    });
    await report.case('hypercalls: the guest asks for its event channels', async () => {
      await type(console, 'events', /interdomain [1-9]\d*\r?\n/);
    });
    await report.case('a command: xm list shows both domains in its columns', async () => {
      const lines = (await host.mustXm('list')).split('\n');
      assert(/^Name {36,} *ID +Mem VCPUs +State +Time\(s\)$/.test(lines[0] ?? ''), lines[0] ?? '');
      assert(/^Domain-0 +0 +\d+ +\d+ +r----- +\d+\.\d$/.test(lines[1] ?? ''), lines[1] ?? '');
      assert(/^shell +1 +16 +1 +[r-][b-]---- +\d+\.\d$/.test(lines[2] ?? ''), lines[2] ?? '');
    });
    await report.case('an errno becomes a fault becomes an exit code', async () => {
      const { code, stderr } = await host.xm('pause', 'nobody');
      assert(code === 3, `exit code ${String(code)}`);
      assert(stderr.includes("Domain 'nobody' does not exist."), stderr);
    });
    await report.case('xenstore: the guest reads what xend wrote, the tools see what the guest writes', async () => {
      await type(console, 'xs-read name', /\r?\nshell\r?\n/);
      await type(console, 'xs-write data/hello world', /OK/);
      const { stdout } = await host
        .run('xenstore-read', '/local/domain/1/data/hello')
        .catch(() => ({ stdout: 'none' }));
      if (stdout === 'none') return 'xenstore-read is not on this machine: guest side only';
      assert(stdout.trim() === 'world', stdout);
      return undefined;
    });
  } finally {
    await host.stop();
  }
}
