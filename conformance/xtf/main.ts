/**
 * The Xen Test Framework's PV tests (built outside this repository), each booted through xm on a host of its own kind:
 * a test passes when it says SUCCESS, or SKIP where real Xen says SKIP.
 *   --dir DIR        an XTF tree, built: DIR/tests/NAME/test-ENV-NAME and its .cfg files
 *   --only NAMES     comma-separated names of tests
 *   --env ENV        environment (default pv64)
 *   --jit LIST       off,on,force: a host for each (default: XENHOST_JIT, else on)
 *   --verbose        the console of every test that fails
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { jitRuns, Report, TestHost } from '@xenhost/testkit';
import { reference } from './reference.ts';
import type { Verdict } from './reference.ts';

const TIMEOUT_MS = 120_000;
const LOOK_MS = 500;
const LAST_LOOK_MS = 1_500;
const NAME = /[^A-Za-z0-9]+/g;
const RESULT = /Test result: \w+|PANIC:[^\n]*/;
/** `xm list`: shut down or crashed. */
const ENDED = / [r-][b-][p-](s|-c|.c)/;

interface Instance {
  /** Name of the test, and of the instance when it comes in variations (`pv-iopl~hypercall`). */
  readonly test: string;
  readonly label: string;
  readonly kernel: string;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly commandLine: string | undefined;
}

/** One instance for each config file that the build of XTF left beside a test's binary. */
function instances(dir: string, env: string, only: readonly string[] | undefined): Instance[] {
  const root = join(dir, 'tests');
  return readdirSync(root)
    .sort()
    .filter((test) => only === undefined || only.includes(test))
    .flatMap((test) => {
      const binary = `test-${env}-${test}`;
      const kernel = join(root, test, binary);
      if (!existsSync(kernel)) return [];
      const configs = readdirSync(join(root, test)).filter(
        (file) => file === `${binary}.cfg` || (file.startsWith(`${binary}~`) && file.endsWith('.cfg')),
      );
      return configs.sort().map((file) => {
        const text = readFileSync(join(root, test, file), 'utf8');
        const setting = (key: string): string | undefined =>
          new RegExp(`^${key}="?([^"\\n]*?)"?\\s*$`, 'm').exec(text)?.[1];
        return {
          test,
          label: basename(file, '.cfg').slice(`test-${env}-`.length),
          kernel,
          vcpus: Number(setting('vcpus') ?? 1),
          memoryMiB: Number(setting('memory') ?? 128),
          commandLine: setting('cmdline'),
        };
      });
    });
}

/** What the console says: the last result line, PANIC, or CRASH for neither. */
function verdict(output: string): Verdict {
  const lines = [...output.matchAll(/Test result: (SUCCESS|SKIP|ERROR|FAILURE)/g)];
  const last = lines.at(-1)?.[1] as Verdict | undefined;
  return last ?? (output.includes('PANIC:') ? 'PANIC' : 'CRASH');
}

async function hasEnded(host: TestHost, name: string): Promise<boolean> {
  const { code, stdout } = await host.xm('list', name);
  return code !== 0 || ENDED.test(stdout);
}

async function runInstance(
  host: TestHost,
  instance: Instance,
): Promise<{ verdict: Verdict; output: string; ms: number }> {
  const name = instance.label.replaceAll(NAME, '-');
  const config = host.config(name, {
    kernel: instance.kernel,
    memory: instance.memoryMiB,
    vcpus: instance.vcpus,
    ...(instance.commandLine === undefined ? {} : { extra: instance.commandLine }),
    // By default PV guests are not offered it.
    cpuid: ['host,fsgsbase=1'],
    // It stays until its console has been read.
    on_poweroff: 'preserve',
    on_reboot: 'preserve',
    on_crash: 'preserve',
  });
  const start = Date.now();
  await host.mustXm('create', '-q', config);
  const console = host.console(name);
  const deadline = start + TIMEOUT_MS;
  for (let ended = false; !ended && Date.now() < deadline;) {
    // A domain that has ended is given one more look at its console: the output may still be on its way.
    ended = await hasEnded(host, name);
    await console.expect(RESULT, ended ? LAST_LOOK_MS : LOOK_MS).then(
      () => (ended = true),
      () => undefined,
    );
  }
  const ms = Date.now() - start;
  const { output } = console;
  console.close();
  await host.xm('destroy', name);
  return { verdict: verdict(output), output, ms };
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      dir: { type: 'string' },
      only: { type: 'string' },
      env: { type: 'string', default: 'pv64' },
      jit: { type: 'string' },
      verbose: { type: 'boolean', default: false },
    },
  });
  if (values.dir === undefined) {
    process.stderr.write('xtf: --dir DIR names a tree of the Xen Test Framework, built\n');
    return 1;
  }
  const report = new Report();
  for (const { jit, prefix } of jitRuns(values.jit)) {
    const host = await TestHost.start({ jit });
    try {
      for (const instance of instances(resolve(values.dir), values.env, values.only?.split(','))) {
        const expected = reference(instance.test);
        try {
          const { verdict: got, output, ms } = await runInstance(host, instance);
          const passed = got === 'SUCCESS' || (got === 'SKIP' && expected === 'SKIP');
          report.row(
            `${prefix}${values.env} ${instance.label}`,
            passed,
            `${got.padEnd(8)} Xen 4.17: ${expected ?? '-'} (${ms} ms)`,
          );
          if (!passed && values.verbose) report.note(`${output}\n${host.logs()}`);
        } catch (error) {
          report.row(
            `${prefix}${values.env} ${instance.label}`,
            false,
            error instanceof Error ? error.message : String(error),
          );
        }
      }
    } finally {
      await host.stop();
    }
  }
  return report.close();
}
