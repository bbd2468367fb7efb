/**
 * `xenprofile`: where guests spend their time, by sampling. Samples come through the trace buffers, so that one of xentrace
 * and xenprofile runs at a time. A sample is where a vCPU was, not how it came there: kernels without frame
 * pointers give no stack to walk.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { hostPaths } from '@xenhost/daemon-kit';
import { SymbolTable } from '@xenhost/elf';
import type { Xenctrl } from '@xenhost/libxenctrl';
import { DOMID, MAX_PROFILE_HZ, TraceClass } from '@xenhost/xen-abi';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { TraceReader } from './buffers.ts';
import { TraceConsumer } from './consumer.ts';
import { loadSymbols } from './profile/load-symbols.ts';
import { foldedText, reportText } from './profile/report.ts';
import { Profile } from './profile/samples.ts';
import { recordsOf } from './records.ts';
import { UsageError, wholeNumber, withXenctrl } from './tool.ts';

const DEFAULT_SECONDS = 10;
/** No multiple of a guest's tick. */
const DEFAULT_HZ = 997;
const DEFAULT_TOP = 30;
const BUFFER_PAGES = 32;
const POLL_MS = 250;

const USAGE = `Usage: xenprofile [OPTION...] DOMAIN|all
Samples where a domain runs; DOMAIN is a number or a name.

  -t, --time=S         end after S seconds (default ${DEFAULT_SECONDS}), or with Ctrl-C
  -F, --frequency=HZ   samples a second of each pCPU on average (default ${DEFAULT_HZ}, at most ${MAX_PROFILE_HZ})
  -s, --symbols=FILE   System.map, vmlinux, vmlinuz or a program; may be given several times
  -n, --top=N          lines of the list (default ${DEFAULT_TOP})
  -o, --folded=FILE    write folded stacks for flame graphs too; - for standard output instead of the list
  -h, --help           this text
`;

export async function xenprofile(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parse(argv);
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [wanted, extra] = positionals;
  if (wanted === undefined || extra !== undefined) throw new UsageError(`one domain is wanted\n${USAGE}`);
  const seconds = wholeNumber(values.time, '-t', 1, 1e6);
  const hz = wholeNumber(values.frequency, '-F', 1, MAX_PROFILE_HZ);
  const top = wholeNumber(values.top, '-n', 1, 1e6);
  const symbols = await Promise.all(values.symbols.map(loadSymbols));
  const profile = new Profile(new SymbolTable(symbols.flat()));
  const started = performance.now();
  await withXenctrl(async (xc) => {
    const domid = wanted === 'all' ? undefined : await domainId(xc, wanted);
    await sample(xc, { hz, seconds, domid }, profile);
  });
  const folded = values.folded;
  if (folded === '-') process.stdout.write(foldedText(profile));
  else {
    if (folded !== undefined) await writeFile(folded, foldedText(profile));
    process.stdout.write(reportText(profile, { top, seconds: (performance.now() - started) / 1000 }));
  }
  return 0;
}

interface SampleOptions {
  readonly hz: number;
  readonly seconds: number;
  readonly domid: number | undefined;
}

async function sample(xc: Xenctrl, options: SampleOptions, profile: Profile): Promise<void> {
  const consumer = await TraceConsumer.claim(xc);
  const { eventMask } = await xc.tbufGetInfo();
  await xc.tbufSetEvtMask(TraceClass.PROFILE | TraceClass.GEN);
  try {
    const reader = await TraceReader.open(xc, await xc.tbufEnable(BUFFER_PAGES));
    await reader.discard();
    await xc.profileSet(options.hz, options.domid ?? DOMID.IDLE);
    await consumer.poll({ pollMs: POLL_MS, seconds: options.seconds }, async (last) => {
      if (last) await xc.tbufDisable();
      for (const { cpu, bytes } of await reader.read())
        for (const record of recordsOf(bytes, cpu)) profile.add(record, options.domid);
    });
  } finally {
    await xc.tbufDisable();
    await xc.tbufSetEvtMask(eventMask);
  }
}

/** The domain of a number or of a name in xenstore. */
async function domainId(xc: Xenctrl, wanted: string): Promise<number> {
  const domid = /^\d{1,5}$/.test(wanted) ? Number(wanted) : await domainNamed(xc, wanted);
  if (!(await xc.domainGetinfo(domid))) throw new Error(`there is no domain ${wanted}`);
  return domid;
}

async function domainNamed(xc: Xenctrl, name: string): Promise<number> {
  const store = await XenstoreClient.connect({ path: hostPaths().xenstored });
  try {
    for (const { domid } of await xc.domainGetinfolist()) {
      const found = await store.readString(`/local/domain/${domid}/name`).catch(() => undefined);
      if (found === name) return domid;
    }
  } finally {
    await store.close();
  }
  throw new Error(`there is no domain ${name}`);
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        time: { type: 'string', short: 't', default: String(DEFAULT_SECONDS) },
        frequency: { type: 'string', short: 'F', default: String(DEFAULT_HZ) },
        symbols: { type: 'string', short: 's', multiple: true, default: [] },
        top: { type: 'string', short: 'n', default: String(DEFAULT_TOP) },
        folded: { type: 'string', short: 'o' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  }
}
