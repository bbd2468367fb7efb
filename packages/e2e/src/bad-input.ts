/** What a user gets wrong: a clear message, exit code 1, nothing half made. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, type Report, TestHost } from '@xenhost/testkit';
import { shellKernel, startShell } from './shell-guest.ts';

export async function badInput(report: Report): Promise<void> {
  const host = await TestHost.start({ memoryMiB: 256 });
  try {
    const kernel = shellKernel(host);
    const file = (name: string, bytes: string | Uint8Array): string => {
      const path = join(host.directory, name);
      writeFileSync(path, bytes);
      return path;
    };
    /** Name, arguments of xm, what its standard error must say. */
    const cases: readonly (readonly [string, readonly string[], RegExp])[] = [
      ['a config file that is not there', ['create', 'nowhere.cfg'], /Unable to open config file: nowhere\.cfg/],
      ['a config file with a syntax error', ['create', file('syntax.cfg', 'memory = [1,\nname = "x"\n')], /line \d+/],
      [
        'a config file beyond the subset',
        ['create', file('evil.cfg', 'import subprocess\nsubprocess.run("true")\n')],
        /line \d/,
      ],
      [
        'a kernel that is not there',
        ['create', host.config('nokernel', { kernel: '/nowhere/vmlinuz' })],
        /Cannot find kernel "\/nowhere\/vmlinuz"/,
      ],
      ['a kernel that is no kernel', ['create', host.config('text', { kernel: file('text', 'hello\n') })], /./],
      [
        'a kernel cut short',
        ['create', host.config('short', { kernel: file('short', new Uint8Array(100).fill(0x7f)) })],
        /./,
      ],
      [
        'an ELF file without Xen notes',
        ['create', host.config('nonotes', { kernel: process.execPath, memory: 200 })],
        /./,
      ],
      ['more memory than the host has', ['create', host.config('huge', { kernel, memory: 100_000 })], /memory/i],
      ['no memory', ['create', host.config('zero', { kernel, memory: 0 })], /memory/i],
      ['too many vcpus', ['create', host.config('vcpus', { kernel, memory: 16, vcpus: 1000 })], /vcpu/i],
      [
        'a disk whose image is not there',
        ['create', host.config('disk', { kernel, memory: 16, disk: ['file:/nowhere/disk.img,xvda,w'] })],
        /\/nowhere\/disk\.img does not exist/,
      ],
      [
        'an interface of a bridge that is not there',
        ['create', host.config('vif', { kernel, memory: 16, vif: ['bridge=nowhere'] })],
        /nowhere/,
      ],
    ];
    const count = async (): Promise<number> => (await host.mustXm('list')).trim().split('\n').length;
    for (const [name, args, message] of cases) {
      await report.case(name, async () => {
        const { code, stdout, stderr } = await host.xm(...args);
        assert(code === 1, `exit code ${String(code)}: ${stdout}${stderr}`);
        assert(message.test(stderr) && stderr.startsWith('Error: '), `says: ${stderr}`);
        assert((await count()) === 2, `a domain is left:\n${await host.mustXm('list')}`);
        return stderr.trim().split('\n')[0];
      });
    }
    await report.case('a name in use', async () => {
      await startShell(host, 'taken');
      const { code, stderr } = await host.xm('create', host.config('taken', { kernel, memory: 16 }));
      assert(code === 1 && /already exists/.test(stderr), `${String(code)}: ${stderr}`);
      assert((await count()) === 3, await host.mustXm('list'));
    });
  } finally {
    await host.stop();
  }
}
