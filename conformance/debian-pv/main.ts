/**
 * Debian's own kernels as 64-bit PV guests: fetched from Debian's packages, booted by `xm create`, used on their console.
 *   --dir DIR        where fetched guests are kept (default .cache/guests)
 *   --kernel NAMES   cloud,amd64 (default both)
 *   --ramdisk FILE   another initramfs for all
 *   --tools DIR      sources of the bench guest (default ../shared/tools/guest); with them and gcc the bench check runs
 *   --vcpus LIST     default 1,2,4
 *   --jit LIST       off,on,force: a host for each (default: XENHOST_JIT, else on)
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { fetchGuest, type FetchedGuest } from '@xenhost/xenhost';
import {
  assert,
  benchFiles,
  type ConsoleSession,
  defaultBenchTools,
  jitRuns,
  Report,
  TestHost,
  until,
} from '@xenhost/testkit';
import { benchChecks } from './bench-checks.ts';

const MEMORY_MIB = 256;
const BOOT_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 60_000;
const BENCH_TIMEOUT_MS = 600_000;
/** Lines that a healthy boot never prints. */
const TROUBLE = /\b(Oops|BUG:|WARNING:|Kernel panic|Call Trace|general protection|unable to handle)\b.*/;
/** The banner of Linux's PV entry; its words changed over the versions. */
const BANNER = /Booting (paravirtualized )?kernel on Xen/;
/** xend restarts no domain that lived shorter (MINIMUM_RESTART_TIME). */
const RESTART_GUARD_MS = 61_000;
const READY = /GUEST-READY.*/;
/** The processor's features as the kernel names them, each between spaces. */
const CPU_FLAGS = 'echo "flags: $(grep -m1 ^flags /proc/cpuinfo) ."';

interface Options {
  readonly host: TestHost;
  readonly guest: FetchedGuest;
  readonly ramdisk: string;
  readonly vcpus: number;
  readonly name: string;
}

/** Creates the guest and waits for its shell; the result has the milliseconds from `xm create` to ready. */
async function boot(
  options: Options,
  extra: string,
  settings: Record<string, readonly string[]> = {},
): Promise<{ console: ConsoleSession; readyMs: number }> {
  const { host, guest, ramdisk, vcpus, name } = options;
  const config = host.config(name, {
    kernel: guest.kernel,
    ramdisk,
    memory: MEMORY_MIB,
    vcpus,
    extra,
    ...settings,
    on_poweroff: 'destroy',
    on_reboot: 'restart',
    on_crash: 'preserve',
  });
  const start = Date.now();
  await host.mustXm('create', '-q', config);
  const console = host.console(name);
  await console.expect(READY, BOOT_TIMEOUT_MS);
  return { console, readyMs: Date.now() - start };
}

const gone = (host: TestHost, name: string): Promise<void> =>
  until(`domain ${name} is gone`, async () => (await host.xm('list', name)).code === 3, COMMAND_TIMEOUT_MS);

/** `withReboot`: also the case that has to wait for xend's restart guard. */
async function cases(report: Report, options: Options, label: string, withReboot: boolean): Promise<void> {
  const { host, name, vcpus } = options;
  let console: ConsoleSession | undefined;
  let createdAt = 0;
  const booted = await report.case(`${label}: boots to a shell on hvc0`, async () => {
    const result = await boot(options, 'console=hvc0 cryptomgr.notests nomods quiet');
    console = result.console;
    createdAt = Date.now() - result.readyMs;
    return `ready ${result.readyMs} ms after xm create`;
  });
  if (!booted || !console) {
    report.note(`log:\n${host.logs()}`);
    await host.xm('destroy', name);
    return;
  }
  const shell = console;
  await report.case(`${label}: the shell runs commands`, async () => {
    await shell.expect('#', COMMAND_TIMEOUT_MS);
    const cpus = await shell.command('echo cpus=$(grep -c ^processor /proc/cpuinfo)', COMMAND_TIMEOUT_MS);
    assert(cpus.includes(`cpus=${vcpus}`), `wrong number of CPUs: ${cpus}`);
    const flags = await shell.command(CPU_FLAGS, COMMAND_TIMEOUT_MS);
    for (const flag of ['avx2', 'fma', 'bmi2', 'xsave']) assert(flags.includes(` ${flag} `), `no ${flag}: ${flags}`);
    const sum = await shell.command('echo sum=$((6*7))', COMMAND_TIMEOUT_MS);
    assert(sum.includes('sum=42'), sum);
  });
  await report.case(`${label}: dmesg says Xen PV and no trouble`, async () => {
    const log = await shell.command('dmesg', COMMAND_TIMEOUT_MS);
    assert(log.includes('Hypervisor detected: Xen PV'), 'no line about Xen PV');
    assert(BANNER.test(log), 'no banner of a kernel on Xen');
    const trouble = TROUBLE.exec(log);
    assert(!trouble, trouble?.[0] ?? '');
  });
  const bench = await shell.command('test -x /bench && echo has-bench', COMMAND_TIMEOUT_MS);
  if (/^has-bench/m.test(bench)) {
    await report.case(`${label}: /bench 10 gives the right check values`, async () => {
      const output = await shell.command('/bench 10', BENCH_TIMEOUT_MS);
      return benchChecks(output);
    });
  }
  const reboot = async (): Promise<void> => {
    await new Promise((done) => setTimeout(done, createdAt + RESTART_GUARD_MS - Date.now()));
    const before = (await host.mustXm('domid', name)).trim();
    await host.mustXm('reboot', name);
    await restarted(host, name, before);
  };
  if (withReboot) await report.case(`${label}: xm reboot restarts it`, reboot);
  await report.case(`${label}: xm shutdown ends it`, async () => {
    await host.mustXm('shutdown', '-w', name);
    await gone(host, name);
  });
  await report.case(`${label}: cpuid= takes AVX away; poweroff in the guest ends it`, async () => {
    const cmdline = 'console=hvc0 cryptomgr.notests nomods quiet';
    const { console: second } = await boot(options, cmdline, { cpuid: ['host,avx=0'] });
    await second.expect('#', COMMAND_TIMEOUT_MS);
    const flags = await second.command(CPU_FLAGS, COMMAND_TIMEOUT_MS);
    assert(flags.includes(' bmi2 ') && flags.includes(' xsave '), `too little is left: ${flags}`);
    assert(!/ (avx2?|fma|f16c) /.test(flags), `AVX or what needs it is there: ${flags}`);
    second.write('poweroff -f\n');
    await gone(host, name);
  });
}

/** After a restart the domain has a new id and boots again: a new console sees it get ready. */
async function restarted(host: TestHost, name: string, before: string): Promise<void> {
  const isNew = async (): Promise<boolean> => {
    const now = await host.xm('domid', name);
    return now.code === 0 && now.stdout.trim() !== before;
  };
  await until('the domain is restarted', isNew, COMMAND_TIMEOUT_MS);
  await host.console(name).expect(READY, BOOT_TIMEOUT_MS);
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      dir: { type: 'string', default: '.cache/guests' },
      kernel: { type: 'string', default: 'cloud,amd64' },
      ramdisk: { type: 'string' },
      tools: { type: 'string', default: defaultBenchTools },
      vcpus: { type: 'string', default: '1,2,4' },
      jit: { type: 'string' },
    },
  });
  const report = new Report();
  const extra = await benchFiles(values.tools);
  if (extra.length === 0) report.note(`no bench guest in ${values.tools}, or no gcc: its check values are not tested`);
  const guests: (readonly [string, FetchedGuest])[] = [];
  for (const flavour of values.kernel.split(','))
    guests.push([flavour, await fetchGuest(resolve(values.dir), flavour, true, (line) => report.note(line), extra)]);
  let rebooted = false;
  for (const { jit, prefix } of jitRuns(values.jit)) {
    const host = await TestHost.start({ jit });
    try {
      for (const [flavour, guest] of guests) {
        for (const vcpus of values.vcpus.split(',').map(Number)) {
          const ramdisk = values.ramdisk === undefined ? guest.ramdisk : resolve(values.ramdisk);
          const options = { host, guest, ramdisk, vcpus, name: `debian-${flavour}-${vcpus}` };
          await cases(report, options, `${prefix}${guest.version}, ${vcpus} vCPU`, !rebooted);
          rebooted = true;
        }
      }
    } finally {
      await host.stop();
    }
  }
  return report.close();
}
