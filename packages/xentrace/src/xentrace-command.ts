/**
 * `xentrace`: writes the trace buffers to a file, in the format and with the options of Xen's tool, so that xenalyze reads
 * it. Not here: its in-memory ring (-M) and its watch over disk space (-r).
 */
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { TraceClass } from '@xenhost/xen-abi';
import { TraceReader } from './buffers.ts';
import { TraceConsumer } from './consumer.ts';
import { cpuChange } from './records.ts';
import { UsageError, wholeNumber, withXenctrl } from './tool.ts';

const DEFAULT_PAGES = 32;
const MAX_PAGES = 1024;
const DEFAULT_POLL_MS = 100;
const MAX_CPUS = 64;

const USAGE = `Usage: xentrace [OPTION...] [output file]
Captures Xen's trace buffers, in binary.

  -c, --cpu-mask=MASK        pCPUs to trace: hexadecimal (0x3), ranges (0-1,3), or all
  -e, --evt-mask=MASK        events to trace: a number, or gen, sched, dom0op, hvm, pv, all
  -s, --poll-sleep=MS        time between two looks at the buffers (default ${DEFAULT_POLL_MS})
  -S, --trace-buf-size=N     pages of each buffer (default ${DEFAULT_PAGES}); the first tool since boot decides
  -D, --discard-buffers      drop what is in the buffers first
  -x, --dont-disable-tracing leave tracing on at the end
  -X, --start-disabled       make the buffers and listen, but do not start tracing
  -T, --time-interval=S      end after S seconds
  -?, --help                 this text
`;

const EVENT_CLASSES: Readonly<Record<string, number>> = {
  gen: TraceClass.GEN, sched: TraceClass.SCHED, dom0op: TraceClass.DOM0OP, hvm: TraceClass.HVM, pv: TraceClass.PV,
  all: TraceClass.ALL,
}; // prettier-ignore

export async function xentrace(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [file = '-', extra] = positionals;
  if (extra !== undefined) throw new UsageError(`more than one output file: ${extra}`);
  const pages = wholeNumber(values['trace-buf-size'], '-S', 1, MAX_PAGES);
  const pollMs = wholeNumber(values['poll-sleep'], '-s', 1, 60_000);
  const seconds =
    values['time-interval'] === undefined ? undefined : wholeNumber(values['time-interval'], '-T', 1, 1e6);
  if (file === '-' && process.stdout.isTTY) throw new UsageError('binary data will not be written to a terminal');
  await withXenctrl(async (xc) => {
    const consumer = await TraceConsumer.claim(xc);
    const sink = file === '-' ? standardOutput : toFile(await open(file, 'w', 0o644));
    if (values['evt-mask'] !== undefined) await xc.tbufSetEvtMask(eventMask(values['evt-mask']));
    if (values['cpu-mask'] !== undefined) {
      const { nrCpus } = await xc.physinfo();
      await xc.tbufSetCpuMask(cpuMask(values['cpu-mask'], nrCpus));
    }
    const info = await xc.tbufEnable(pages);
    if (values['start-disabled']) await xc.tbufDisable();
    const reader = await TraceReader.open(xc, info);
    if (values['discard-buffers']) await reader.discard();
    await consumer.poll({ pollMs, seconds }, async (last) => {
      if (last && !values['dont-disable-tracing']) await xc.tbufDisable();
      for (const { cpu, bytes } of await reader.read()) {
        await sink.write(cpuChange(cpu, bytes.length));
        await sink.write(bytes);
      }
    });
    await sink.end();
  });
  return 0;
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        'cpu-mask': { type: 'string', short: 'c' },
        'evt-mask': { type: 'string', short: 'e' },
        'poll-sleep': { type: 'string', short: 's', default: String(DEFAULT_POLL_MS) },
        'trace-buf-size': { type: 'string', short: 'S', default: String(DEFAULT_PAGES) },
        'discard-buffers': { type: 'boolean', short: 'D' },
        'dont-disable-tracing': { type: 'boolean', short: 'x' },
        'start-disabled': { type: 'boolean', short: 'X' },
        'time-interval': { type: 'string', short: 'T' },
        help: { type: 'boolean', short: '?' },
      },
    });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  }
}

/** A class by name or a mask in C's notation. */
export const eventMask = (text: string): number => EVENT_CLASSES[text] ?? wholeNumber(text, '-e', 0, 0xffff_ffff);

/** `all`, `0xMASK`, or ranges such as `0-2,5` and `3-`. */
export function cpuMask(text: string, nrCpus: number): bigint {
  if (text === 'all') return (1n << BigInt(MAX_CPUS)) - 1n;
  if (/^0x[\da-f]{1,16}$/i.test(text)) return BigInt(text);
  let mask = 0n;
  for (const part of text.split(',')) {
    const range = /^(\d{1,3})(-(\d{1,3})?)?$/.exec(part);
    if (!range) throw new UsageError(`-c ${text}: ${part} is no CPU and no range of CPUs`);
    const first = Number(range[1]);
    const last = range[2] === undefined ? first : range[3] === undefined ? nrCpus - 1 : Number(range[3]);
    if (first > last || last >= nrCpus) throw new UsageError(`-c ${text}: there are CPUs 0 to ${nrCpus - 1}`);
    for (let cpu = first; cpu <= last; cpu++) mask |= 1n << BigInt(cpu);
  }
  return mask;
}

interface Sink {
  write(bytes: Uint8Array): Promise<void>;
  end(): Promise<void>;
}

const toFile = (handle: FileHandle): Sink => ({
  write: async (bytes) => {
    await handle.writeFile(bytes);
  },
  end: () => handle.close(),
});

const standardOutput: Sink = {
  write: (bytes) =>
    new Promise((resolve, reject) => {
      process.stdout.write(bytes, (error) => {
        if (error) reject(error);
        else resolve();
      });
    }),
  end: () => Promise.resolve(),
};
