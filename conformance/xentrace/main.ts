/**
 * What Xen's own reader of traces says to ours: Debian's xenalyze (package xen-utils-common, fetched by apt) reads files of
 * our xentrace while a guest boots, and counts what our decoder counts. xenperf, xenprofile and the metrics are looked at on the
 * same host.
 *   --dir DIR        where the package is kept (default .cache/xentrace)
 *   --kernel FILE    boots this Linux kernel instead of the embedded guest; with it xenprofile must name its functions
 *   --ramdisk FILE   for that kernel
 *   --seconds N      of each capture (default 8)
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { consoleShell } from '@xenhost/guest-kernels';
import { assert, Report, TestHost } from '@xenhost/testkit';
import { TraceEvent } from '@xenhost/xen-abi';
import { AptCache, program } from '@xenhost/xenhost';
import { recordsOfFile } from '@xenhost/xentrace';
import type { TraceRecord } from '@xenhost/xentrace';

const PACKAGE = 'xen-utils-common';
const XENALYZE = 'usr/bin/xenalyze';
const MAX_OUTPUT = 1 << 28;
/** Of the samples in a Linux kernel so many at least must be named. */
const NAMED_SHARE = 0.9;
/** The TSC of our guests. */
const CPU_HZ = '2G';
const start = promisify(execFile);

interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

async function fetchXenalyze(directory: string): Promise<string> {
  const tool = join(directory, 'files', XENALYZE);
  if (existsSync(tool)) return tool;
  const cache = new AptCache(directory);
  await cache.unpack(await cache.download(PACKAGE), join(directory, 'files'));
  return tool;
}

/** Runs one of our tools on the host to its end. */
function tool(host: TestHost, name: string, args: readonly string[]): Promise<Output> {
  const { command, args: own } = program(name === 'xenhost' ? name : 'xentrace', name === 'xenhost' ? 'main' : name);
  return start(command, [...own, ...args], { env: host.host.env, maxBuffer: MAX_OUTPUT });
}

/** Those in multicalls included, as xenalyze counts. */
const hypercallsOf = (records: readonly TraceRecord[]): number =>
  records.filter(({ event }) => event === TraceEvent.PV_HYPERCALL_V2 || event === TraceEvent.PV_HYPERCALL_SUBCALL)
    .length;

/** Hypercalls that xenalyze's summary gives to a domain. */
function hypercallsInSummary(text: string, domid: string): number {
  const part = text.split(`|-- Domain ${domid} --|`)[1]?.split('|-- Domain ')[0] ?? '';
  return [...part.matchAll(/^ {2}hypercall {2}(\d+)$/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      dir: { type: 'string', default: '.cache/xentrace' },
      kernel: { type: 'string' },
      ramdisk: { type: 'string' },
      seconds: { type: 'string', default: '8' },
    },
  });
  const report = new Report();
  const xenalyze = await fetchXenalyze(resolve(values.dir));
  const host = await TestHost.start({ pcpus: 2 });
  try {
    const kernel = values.kernel ?? join(host.directory, 'guest.elf');
    if (values.kernel === undefined) writeFileSync(kernel, consoleShell());
    const config = (name: string): string =>
      host.config(name, {
        kernel,
        ...(values.ramdisk !== undefined && { ramdisk: values.ramdisk }),
        memory: values.kernel === undefined ? 16 : 256,
        extra: 'console=hvc0 cryptomgr.notests nomods quiet',
      });
    const file = join(host.directory, 'trace.bin');
    let records: TraceRecord[] = [];
    let domid = '';
    await report.case("xentrace: a file of a guest's boot, which our decoder reads", async () => {
      const capture = tool(host, 'xentrace', ['-D', '-e', 'all', '-S', '256', '-T', values.seconds, file]);
      await host.mustXm('create', '-q', config('traced'));
      domid = (await host.mustXm('domid', 'traced')).trim();
      await capture;
      records = [...recordsOfFile(readFileSync(file))];
      assert(hypercallsOf(records) > 10, `${hypercallsOf(records)} hypercalls in ${records.length} records`);
      return `${records.length} records, ${hypercallsOf(records)} hypercalls`;
    });
    await report.case('xenalyze: its summary counts the hypercalls that our decoder counts', async () => {
      const { stdout } = await start(xenalyze, ['--cpu-hz', CPU_HZ, '-s', file], { maxBuffer: MAX_OUTPUT });
      const [theirs, ours] = [hypercallsInSummary(stdout, domid), hypercallsOf(records)];
      assert(theirs === ours, `xenalyze ${theirs}, decoder ${ours}\n${stdout.slice(0, 2000)}`);
      return `${theirs} hypercalls of domain ${domid}`;
    });
    await report.case('xenalyze: every record is one that it knows', async () => {
      const { stdout, stderr } = await start(xenalyze, ['--cpu-hz', CPU_HZ, '-a', file], { maxBuffer: MAX_OUTPUT });
      const trouble = /^.*\b(unknown|error|malformed|strange|unexpected|out of range)\b.*$/im.exec(
        stdout + stderr,
      )?.[0];
      assert(trouble === undefined, trouble ?? '');
      assert(new RegExp(`runstate_change d${domid}v0 .*->running`).test(stdout), 'no run state of the guest');
      return `${stdout.split('\n').length} lines`;
    });
    await report.case('xenperf: counts hypercalls by name', async () => {
      const { stdout } = await tool(host, 'xenperf', ['-p']);
      assert(
        /^(vcpu_op|sched_op|mmuext_op) +[1-9]/m.test(stdout) && /^exits by cause +T= *[1-9]/m.test(stdout),
        stdout,
      );
      return `${stdout.split('\n').length} lines`;
    });
    await report.case('xenhost metrics: OpenMetrics text about the guest', async () => {
      const { stdout } = await tool(host, 'xenhost', ['metrics', '--run-dir', host.directory]);
      assert(stdout.endsWith('# EOF\n'), 'no end');
      assert(stdout.includes(`xen_vcpu_state_seconds_total{domid="${domid}",vcpu="0",state="running"}`), stdout);
      return `${stdout.split('\n').length} lines`;
    });
    if (values.kernel !== undefined)
      await report.case('xenprofile: names the functions of a kernel that boots', async () => {
        await host.mustXm('create', '-q', config('profiled'));
        const args = ['profiled', '-t', values.seconds, '-s', kernel, '-o', '-'];
        const { stdout } = await tool(host, 'xenprofile', args);
        const stacks = [...stdout.matchAll(/^domain \d+;(\w+);(.*) (\d+)$/gm)].map(([, mode, place = '', n]) => ({
          mode,
          place,
          n: Number(n),
        }));
        const inKernel = stacks.filter(({ mode }) => mode === 'kernel');
        const sum = (of: readonly { readonly n: number }[]): number => of.reduce((total, { n }) => total + n, 0);
        const named = sum(inKernel.filter(({ place }) => !place.startsWith('[')));
        assert(sum(inKernel) > 100, `${sum(inKernel)} samples in the kernel`);
        assert(named >= NAMED_SHARE * sum(inKernel), `${named} of ${sum(inKernel)} samples are named`);
        return `${sum(stacks)} samples, ${sum(inKernel)} in the kernel, most in ${inKernel[0]?.place ?? ''}`;
      });
  } finally {
    await host.stop();
  }
  return report.close();
}
