/** Hosts side by side, and daemons that end: those that may come back do, and find their guests again. */
import { readState } from '@xenhost/xenhost';
import { assert, type Report, TestHost, until } from '@xenhost/testkit';
import { startShell, type } from './shell-guest.ts';

function pidOf(host: TestHost, name: string): number {
  const pid = readState(host.host.paths.run)?.daemons.find((daemon) => daemon.name === name)?.pid;
  if (pid === undefined) throw new Error(`no pid of ${name}`);
  return pid;
}

export async function supervision(report: Report): Promise<void> {
  const host = await TestHost.start({ memoryMiB: 256 });
  const other = await TestHost.start({ memoryMiB: 128 });
  try {
    await report.case('two hosts side by side see only their own domains', async () => {
      await startShell(host, 'mine');
      assert(!(await other.mustXm('list')).includes('mine'), 'the other host lists it');
    });
    await report.case('xend after kill -9 is restarted and finds the running domain', async () => {
      const pid = pidOf(host, 'xend');
      process.kill(pid, 'SIGKILL');
      await until('xend restarted', () =>
        Promise.resolve(
          readState(host.host.paths.run)?.daemons.some((d) => d.name === 'xend' && d.state === 'up' && d.pid !== pid) ??
            false,
        ),
      );
      assert(/^mine +1 +16 /m.test(await host.mustXm('list')), await host.mustXm('list'));
    });
    await report.case('xenconsoled after kill -9 is restarted and the console answers', async () => {
      const pid = pidOf(host, 'xenconsoled');
      process.kill(pid, 'SIGKILL');
      await until('xenconsoled restarted', () =>
        Promise.resolve(
          readState(host.host.paths.run)?.daemons.some(
            (d) => d.name === 'xenconsoled' && d.state === 'up' && d.pid !== pid,
          ) ?? false,
        ),
      );
      await type(host.console('mine'), 'echo back again', /back again/);
    });
    await report.case(
      'xenstored after kill -9 is restarted, the others find it, and the guest has not noticed',
      async () => {
        const guest = host.console('mine');
        await type(guest, 'xs-write data/before kept', /OK/);
        const pids = new Map(['xenstored', 'xend', 'xenconsoled'].map((name) => [name, pidOf(host, name)]));
        process.kill(pids.get('xenstored') ?? 0, 'SIGKILL');
        await until('all restarted', () => {
          const daemons = readState(host.host.paths.run)?.daemons ?? [];
          return Promise.resolve(
            [...pids].every(([name, pid]) => daemons.some((d) => d.name === name && d.state === 'up' && d.pid !== pid)),
          );
        });
        assert(/^mine +1 +16 /m.test(await host.mustXm('list')), await host.mustXm('list'));
        const again = host.console('mine');
        await type(again, 'xs-read data/before', /kept/);
        await type(again, 'xs-write data/after new', /OK/);
        await type(again, 'xs-read data/after', /new/);
        await host.mustXm('shutdown', '-w', 'mine');
      },
    );
  } finally {
    await other.stop();
    await host.stop();
  }
}
