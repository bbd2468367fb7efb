/** `xenperf`: the hypervisor's performance counters, with the options and the columns of Xen's tool (`tools/misc/xenperf.c`). */
import type { PerfCounter } from '@xenhost/libxenctrl';
import { Hypercall } from '@xenhost/xen-abi';
import { UsageError, withXenctrl } from './tool.ts';

const USAGE = `Usage: xenperf [-f | -p | -r]
    no option: counters and their totals
    -f : the values of arrays too
    -p : the same, with names
    -r : set counters back to zero
`;
/** Counters with no more values than this show them always. */
const FEW = 4;

export async function xenperf(argv: readonly string[]): Promise<number> {
  const [option, extra] = argv;
  if (option === '-h' || option === '--help') {
    process.stdout.write(USAGE);
    return 0;
  }
  if (extra !== undefined || (option !== undefined && !['-f', '-p', '-r'].includes(option)))
    throw new UsageError(`unknown option ${extra ?? option}\n${USAGE}`);
  await withXenctrl(async (xc) => {
    if (option === '-r') await xc.perfcReset();
    else
      process.stdout.write(
        perfText(await xc.perfcQuery(), option === '-p' ? 'pretty' : option === '-f' ? 'full' : 'short'),
      );
  });
  return 0;
}

const hypercallNames = new Map(Object.entries(Hypercall).map(([name, number]) => [number as number, name]));

export function perfText(counters: readonly PerfCounter[], form: 'short' | 'full' | 'pretty'): string {
  const lines: string[] = [];
  for (const { name, values } of counters) {
    const sum = values.reduce((total, value) => total + value, 0);
    const head = `${name.padEnd(35)} T=${String(sum).padStart(10)} `;
    if (sum === 0 || (form === 'short' && values.length > FEW)) lines.push(head);
    else if (form === 'pretty' && name === 'hypercalls') {
      lines.push(head);
      values.forEach((value, i) => {
        if (value !== 0) lines.push(`${(hypercallNames.get(i) ?? `[${i}]`).padEnd(35)} ${String(value).padStart(12)}`);
      });
    } else lines.push(head + values.map((value) => ` ${String(value).padStart(10)}`).join(''));
  }
  return `${lines.join('\n')}\n`;
}
