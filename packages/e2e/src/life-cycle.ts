/** A domain's life by xm: create, pause, rename, shutdown, reboot, crash, destroy, and what each leaves behind. */
import { consoleShellPrompt } from '@xenhost/guest-kernels';
import { assert, type Report, TestHost, until } from '@xenhost/testkit';
import { PROMPT_TIMEOUT_MS, startShell, type } from './shell-guest.ts';

const freeMemory = async (host: TestHost): Promise<number> =>
  Number(/^free_memory\s*: (\d+)$/m.exec(await host.mustXm('info'))?.[1] ?? NaN);

export async function lifeCycle(report: Report): Promise<void> {
  const host = await TestHost.start({ memoryMiB: 256 });
  try {
    const before = await freeMemory(host);
    await report.case('create -q, domid, domname, domstate', async () => {
      await startShell(host, 'one');
      const id = (await host.mustXm('domid', 'one')).trim();
      assert((await host.mustXm('domname', id)).trim() === 'one', 'domname');
      assert((await host.mustXm('domstate', 'one')).trim() === 'idle', await host.mustXm('domstate', 'one'));
    });
    await report.case('pause and unpause', async () => {
      await host.mustXm('pause', 'one');
      assert(/ -[b-]p--- /.test(await host.mustXm('list', 'one')), await host.mustXm('list', 'one'));
      await host.mustXm('unpause', 'one');
      assert(!/ -[b-]p--- /.test(await host.mustXm('list', 'one')), 'still paused');
    });
    await report.case('rename', async () => {
      await host.mustXm('rename', 'one', 'two');
      assert((await host.xm('list', 'one')).code === 3, 'the old name is still known');
      await host.mustXm('rename', 'two', 'one');
    });
    await report.case('vcpu-list, uptime, list --long, dmesg, info', async () => {
      assert(
        /^one +\d+ +0 +\d+ +[r-]b?-+ +\d+\.\d any cpu/m.test(await host.mustXm('vcpu-list', 'one')),
        await host.mustXm('vcpu-list', 'one'),
      );
      assert(/^one +\d+ +\d+:\d\d:\d\d/m.test(await host.mustXm('uptime', 'one')), await host.mustXm('uptime', 'one'));
      assert((await host.mustXm('list', '--long', 'one')).includes('(name one)'), 'list --long');
      assert((await host.mustXm('dmesg')).length > 0, 'dmesg is empty');
      assert(/^xen_major\s+: 4$/m.test(await host.mustXm('info')), 'info');
    });
    await report.case('xm reboot restarts it under a new id', async () => {
      const old = (await host.mustXm('domid', 'one')).trim();
      await host.mustXm('reboot', 'one');
      // A domain that lives less than a minute is not restarted twice: the guard of xend.
      await until('restart or the guard against restarting too fast', async () => {
        const now = await host.xm('domid', 'one');
        return now.code === 3 || now.stdout.trim() !== old;
      });
    });
    await report.case('xm shutdown -w ends it', async () => {
      if ((await host.xm('list', 'one')).code === 3) await startShell(host, 'one');
      else await host.console('one').expect(consoleShellPrompt, PROMPT_TIMEOUT_MS);
      await host.mustXm('shutdown', '-w', 'one');
      await until('domain gone', async () => (await host.xm('list', 'one')).code === 3);
    });
    await report.case('a crash ends the guest alone, with its registers in xm dmesg', async () => {
      await startShell(host, 'bystander');
      const console = await startShell(host, 'crasher', { on_crash: 'destroy' });
      console.write('crash\r');
      await until('crashed domain gone', async () => (await host.xm('list', 'crasher')).code === 3);
      const log = await host.mustXm('dmesg');
      assert(/RIP:/i.test(log) && /rax/i.test(log), `no registers in:\n${log.slice(-2000)}`);
      assert((await host.xm('list', 'bystander')).code === 0, 'another guest went down too');
      await type(host.console('bystander'), 'echo alive', /alive/);
    });
    await report.case('on_poweroff = preserve keeps the domain', async () => {
      const console = await startShell(host, 'keeper', { on_poweroff: 'preserve' });
      console.write('poweroff\r');
      await until('shutdown state', async () => / ---s-- /.test((await host.xm('list', 'keeper')).stdout));
      await host.mustXm('destroy', 'keeper');
    });
    await report.case('destroyed domains leave no memory and no xenstore nodes', async () => {
      await host.mustXm('destroy', 'bystander');
      await until('memory back', async () => (await freeMemory(host)) === before);
      const { stdout } = await host.run('xenstore-list', '/local/domain').catch(() => ({ stdout: '0\n' }));
      assert(stdout.trim() === '0', `left in xenstore: ${stdout}`);
    });
  } finally {
    await host.stop();
  }
}
