import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ExitReason } from '@xenhost/cpu';
import { SymbolTable } from '@xenhost/elf';
import { Hypercall, ProfileFlag, TraceEvent } from '@xenhost/xen-abi';
import type { TraceRecord } from '../records.ts';
import { loadSymbols } from './load-symbols.ts';
import { foldedText, reportText } from './report.ts';
import { Profile } from './samples.ts';

const KERNEL = 0x8100_0000;
const symbols = new SymbolTable([
  { address: 0xffff_ffff_8100_0000n, name: 'schedule', isCode: true },
  { address: 0xffff_ffff_8100_0100n, name: 'memcpy', isCode: true },
  { address: 0xffff_ffff_8100_0200n, name: '_etext', isCode: false },
]);
const record = (event: number, ...data: readonly number[]): TraceRecord => ({ event, data, tsc: 0n, cpu: 0 });
const sample = (domid: number, info: number, low: number, high = 0xffff_ffff): TraceRecord =>
  record(TraceEvent.PROFILE_SAMPLE, domid << 16, info, low, high, 0);

function profile(domid?: number): Profile {
  const made = new Profile(symbols);
  const { kernel, xen, hypercall, compiled } = ProfileFlag;
  for (const r of [
    sample(1, kernel | compiled, KERNEL + 4),
    sample(1, kernel, KERNEL + 8),
    sample(1, kernel | (ExitReason.exception << 8), KERNEL + 0x104),
    sample(1, 0, 0x40_1234, 0),
    sample(1, kernel | xen | hypercall | (ExitReason.syscall << 8) | (Hypercall.mmu_update << 16), KERNEL + 4),
    sample(1, kernel | xen | (ExitReason.exception << 8), KERNEL + 0x104),
    sample(1, kernel | xen, KERNEL + 4),
    sample(2, kernel | compiled, KERNEL + 0x300),
    record(TraceEvent.SCHED_YIELD, 1, 0),
    record(TraceEvent.LOST_RECORDS, 5, 0, 0, 0),
    record(TraceEvent.PROFILE_SAMPLE),
  ])
    made.add(r, domid);
  return made;
}

test('samples are counted by domain, mode and function', () => {
  expect(foldedText(profile())).toBe(
    [
      'domain 1;kernel;schedule 2',
      'domain 1;kernel;memcpy 1',
      'domain 1;user;[page 0x401000] 1',
      'domain 1;xen;exception;memcpy 1',
      'domain 1;xen;hypercall mmu_update;schedule 1',
      'domain 1;xen;scheduler;schedule 1',
      'domain 2;kernel;[page 0xffffffff81000000] 1',
      '',
    ].join('\n'),
  );
});

test('of one domain', () => {
  const made = profile(1);
  expect([made.total, made.lost, made.modes, made.tiers]).toEqual([
    7,
    5,
    { kernel: 3, user: 1, xen: 3 },
    // Those that the budget ended: two of the kernel, one of the program.
    { known: 3, compiled: 1 },
  ]);
});

test('the list', () => {
  expect(reportText(profile(1), { top: 1, seconds: 2 })).toBe(
    [
      '7 samples in 2.0 s, 5 records lost',
      'kernel 42.86 %, user 14.29 %, hypervisor 42.86 %; compiled code in 33.33 % of 3 samples that tell',
      '',
      '   share  samples  domain mode   function',
      ' 28.57 %        2  1      kernel schedule',
      '... and 5 more places',
      '',
    ].join('\n'),
  );
  expect(reportText(new Profile(symbols), { top: 1, seconds: 2 })).toMatch(/^0 samples/);
});

test('symbols of files: a System.map, or a reason that names the file', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  try {
    expect(await loadSymbols(file('map', 'ffffffff81000000 T _text\n'))).toHaveLength(1);
    await expect(loadSymbols(file('none', ''))).rejects.toThrow(/none: no symbols/);
    await expect(loadSymbols(file('elf', '\x7fELF'))).rejects.toThrow(/elf: /);
    await expect(loadSymbols(join(directory, 'missing'))).rejects.toThrow(/missing/);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
