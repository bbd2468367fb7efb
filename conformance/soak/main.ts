/**
 * A Debian guest that compresses, hashes and computes without end: every turn must give the same answer, and the hypervisor's
 * memory must not grow once the guest has shown all its code.
 *   --minutes N      default 30
 *   --vcpus N        default 2; as many processes work
 *   --jit LIST       off,on,force: a host for each (default: XENHOST_JIT, else on)
 *   --dir DIR        where fetched guests are kept (default .cache/soak-guest)
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { assert, hypervisorMemory, jitRuns, Report, TestHost } from '@xenhost/testkit';
import { fetchGuest } from '@xenhost/xenhost';

const MEMORY_MIB = 128;
/** Written once and removed, so that the guest has touched its memory before anything is measured. */
const FILL_MIB = 80;
const BOOT_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 120_000;
const SAMPLE_MS = 5000;
const GUEST_SETTLED_MINUTES = 10;
/** Growth of memory that is not yet one: garbage that waits for its collection. */
const MAX_GROWTH = 0.02;
/** Samples are compared in groups of this share of the run. */
const GROUP_SHARE = 0.1;

/** `/turns NAME`: turn after turn; the answer of each is the hash at the end of a line `turn HASH`. */
const TURNS = `#!/bin/sh
a=/tmp/$1.a b=/tmp/$1.b c=/tmp/$1.c
while :; do
  seq 1 6000 >$a
  gzip -c <$a >$b
  gunzip -c <$b | sort -rn | md5sum >$c
  bzip2 -c <$a | bunzip2 -c | sha256sum >>$c
  awk 'BEGIN { for (i = 0; i < 6000; i++) { s = (s * 31 + i) % 65521; a[i % 97] = a[i % 97] s % 10 } print s, length(a[5]) }' >>$c
  echo turn $(sha256sum <$c)
done
`;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[sorted.length >> 1];
  if (middle === undefined) throw new RangeError('no samples: the run is too short');
  return middle;
}

async function soak(host: TestHost, kernel: string, ramdisk: string, vcpus: number, minutes: number): Promise<string> {
  const extra = 'console=hvc0 cryptomgr.notests nomods quiet';
  const settings = { kernel, ramdisk, memory: MEMORY_MIB, vcpus, extra, on_poweroff: 'destroy', on_crash: 'preserve' };
  await host.mustXm('create', '-q', host.config('soak', settings));
  const console = host.console('soak');
  await console.expect('GUEST-READY', BOOT_TIMEOUT_MS);
  await console.command(`dd if=/dev/zero of=/tmp/fill bs=1M count=${FILL_MIB}; rm /tmp/fill`, COMMAND_TIMEOUT_MS);
  for (let i = 0; i < vcpus; i++) console.write(`/turns ${i} &\n`);
  const start = performance.now();
  const end = start + minutes * 60_000;
  const settled = start + Math.min(GUEST_SETTLED_MINUTES, minutes / 3) * 60_000;
  const samples: { readonly at: number; readonly rssMb: number }[] = [];
  let answer: string | undefined;
  let turns = 0;
  while (performance.now() < end) {
    const { rssMb } = await hypervisorMemory(host);
    samples.push({ at: performance.now(), rssMb });
    const until = Math.min(end, performance.now() + SAMPLE_MS);
    for (let left = until - performance.now(); left > 0; left = until - performance.now()) {
      const match = await console.expect(/turn ([0-9a-f]{64})/, left).catch((error: unknown) => {
        if (console.closed) throw error;
        return undefined;
      });
      if (!match) continue;
      turns++;
      answer ??= match[1];
      assert(match[1] === answer, `turn ${turns} answers ${match[1] ?? ''} instead of ${answer ?? ''}`);
    }
  }
  const group = (end - start) * GROUP_SHARE;
  const of = (from: number, to: number): number =>
    median(samples.filter(({ at }) => at >= from && at < to).map(({ rssMb }) => rssMb));
  const before = of(settled - group, settled);
  const after = of(end - group, end);
  const most = Math.max(...samples.map(({ rssMb }) => rssMb));
  const text = `${turns} turns; ${before.toFixed(1)} MB, at the end ${after.toFixed(1)} MB, at most ${most.toFixed(1)} MB`;
  assert(turns > 0, 'no turn came to its end');
  assert(after <= before * (1 + MAX_GROWTH), `memory grew by more than ${100 * MAX_GROWTH} %: ${text}`);
  return text;
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      minutes: { type: 'string', default: '30' },
      vcpus: { type: 'string', default: '2' },
      jit: { type: 'string' },
      dir: { type: 'string', default: '.cache/soak-guest' },
    },
  });
  const report = new Report();
  const say = (line: string): void => {
    report.note(line);
  };
  const turns = { path: 'turns', data: Buffer.from(TURNS), mode: 0o755 };
  const { kernel, ramdisk } = await fetchGuest(resolve(values.dir), 'cloud', false, say, [turns]);
  for (const { jit, prefix } of jitRuns(values.jit)) {
    const host = await TestHost.start({ jit });
    try {
      const name = `${prefix}${values.minutes} minutes of compression`;
      const passed = await report.case(name, () =>
        soak(host, kernel, ramdisk, Number(values.vcpus), Number(values.minutes)),
      );
      if (!passed) report.note(host.logs());
    } finally {
      await host.stop();
    }
  }
  return report.close();
}
