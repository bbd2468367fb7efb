/**
 * Every unprivileged instruction row against the processor of this machine: random and boundary instances of each row,
 * in all operand forms and sizes, run natively (native/runner.c) and by the engines, compared in registers, flags,
 * memory and faults. Needs gcc and an x86-64 Linux. Privileged and system instructions, which no process can run, come
 * from tables with what the manual says (`system.ts`), run on the interpreter and the reference; not under --only.
 *
 * Options: --cases N (in all, default 100000), --seed S, --only MNEMONIC (several by commas), --engine NAME (reference,
 * interpreter, jit: compiled at its first execution), --verbose.
 */
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { ROWS, decodeInstruction, disassemble, type Row } from '@xenhost/cpu';
import { compare, type Mismatch } from './compare.ts';
import { instance } from './instances.ts';
import { InterpreterUnderTest } from './interpreter.ts';
import { CODE_BASE, NativeProcessor, type CpuCase, type Outcome } from './native.ts';
import { Random } from './random.ts';
import { ReferenceEngine } from './reference.ts';
import { runSystemCases } from './system-suite.ts';

interface TestedEngine {
  readonly name: string;
  run(cases: readonly CpuCase[]): Outcome[];
}

const BATCH = 4000;
const DEFAULT_CASES = 100_000;
const SHOWN_MISMATCHES = 3;

/** Instructions that this harness cannot run alone, and why. */
const EXCLUDED: Readonly<Record<string, string>> = {
  syscall: 'enters the kernel', sysenter: 'enters the kernel', int: 'enters the kernel', into: 'not in 64-bit mode',
  cpuid: 'answers by policy', rdtsc: 'changes', rdtscp: 'changes', rdpmc: 'host setting', xgetbv: 'host setting',
  vmcall: 'leaves to the hypervisor', callfar: 'host selectors', jmpfar: 'host selectors', retf: 'host selectors',
  iret: 'host selectors', movtoseg: 'host selectors', popseg: 'host selectors', lfp: 'host selectors', lar: 'host GDT',
  verify: 'host GDT', sgdt: 'emulated by the kernel (UMIP)', storesys: 'emulated by the kernel (UMIP)',
  rdbase: 'moves the runner', wrbase: 'moves the runner', setac: 'host feature', serialize: 'host feature', invpcid: 'host feature',
}; // prettier-ignore

const isTested = (row: Row): boolean => row.valid !== 'no64' && !(row.semantics in EXCLUDED);

interface RowResult {
  passed: number;
  failed: number;
  shown: string[];
}

function describe(row: Row, one: CpuCase, engine: string, found: Mismatch): string {
  const decoded = decodeInstruction(one.code, 64);
  const text = typeof decoded === 'string' ? decoded : disassemble(decoded, BigInt(CODE_BASE + one.codeOffset));
  const bytes = Buffer.from(one.code).toString('hex');
  const x87 = row.feature === 'x87' ? ` ${describeX87(one.fx)}` : '';
  return `    ${row.mnemonic} [${row.encoding}] ${bytes} "${text}" ${engine}: ${found.what} is ${found.actual}, processor has ${found.expected}${x87}`;
}

/** What an x87 instruction started from. */
function describeX87(fx: Uint8Array): string {
  const view = new DataView(fx.buffer, fx.byteOffset, fx.byteLength);
  const register = (n: number): string =>
    `${view.getUint16(40 + 16 * n, true).toString(16)}:${view.getBigUint64(32 + 16 * n, true).toString(16)}`;
  const words = [view.getUint16(0, true), view.getUint16(2, true), fx[4] ?? 0].map((word) => word.toString(16));
  return `(fcw fsw ftw ${words.join(' ')}, st0 ${register(0)}, st1 ${register(1)})`;
}

function testRow(
  row: Row,
  count: number,
  random: Random,
  native: NativeProcessor,
  engines: readonly TestedEngine[],
): RowResult {
  // prettier-ignore
  const result: RowResult = { passed: 0, failed: 0, shown: [] };
  for (let left = count; left > 0; left -= BATCH) {
    const cases: CpuCase[] = [];
    while (cases.length < Math.min(left, BATCH)) {
      const one = instance(row, random);
      if (one) cases.push(one);
    }
    const expected = native.run(cases);
    for (const engine of engines) {
      const actual = engine.run(cases);
      cases.forEach((one, n) => {
        const [want, got] = [expected[n], actual[n]];
        const found = want && got && compare(row, one, want, got);
        if (!found) {
          result.passed++;
          return;
        }
        result.failed++;
        if (result.shown.length < SHOWN_MISMATCHES) result.shown.push(describe(row, one, engine.name, found));
      });
    }
  }
  return result;
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      cases: { type: 'string', default: String(DEFAULT_CASES) },
      seed: { type: 'string', default: '1' },
      only: { type: 'string' },
      engine: { type: 'string' },
      verbose: { type: 'boolean', default: false },
    },
  });
  const only = values.only?.toUpperCase().split(',');
  const rows = ROWS.filter((row) => isTested(row) && (!only || only.includes(row.mnemonic)));
  if (rows.length === 0) {
    process.stdout.write('0 passed, 0 failed\n');
    return 1;
  }
  const engines = (await availableEngines()).filter((e) => values.engine === undefined || e.name === values.engine);
  const perRow = Math.max(1, Math.ceil(Number(values.cases) / rows.length / engines.length));
  const groups = new Map<string, RowResult & { rows: number }>();
  using native = new NativeProcessor();
  for (const row of rows) {
    const seed = (Number(values.seed) * 1_000_003 + row.index) | 0;
    const result = testRow(row, perRow, new Random(seed), native, engines);
    const name = groupOf(row);
    const group = groups.get(name) ?? { passed: 0, failed: 0, shown: [], rows: 0 };
    group.rows++;
    group.passed += result.passed;
    group.failed += result.failed;
    group.shown.push(...result.shown);
    groups.set(name, group);
    if (values.verbose || result.failed > 0)
      process.stdout.write(`  ${row.mnemonic} ${row.encoding}: ${result.passed} passed, ${result.failed} failed\n`);
    for (const line of result.shown) process.stdout.write(`${line}\n`);
  }
  let { passed, failed } = only ? { passed: 0, failed: 0 } : runSystemCases();
  for (const [name, group] of groups) {
    process.stdout.write(
      `${group.failed === 0 ? 'ok  ' : 'FAIL'} ${name}: ${group.rows} rows, ${group.passed} passed, ${group.failed} failed\n`,
    );
    passed += group.passed;
    failed += group.failed;
  }
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

function groupOf(row: Row): string {
  if (row.feature !== '') return row.feature;
  return row.ends || row.semantics.startsWith('j') ? 'control' : 'integer';
}

async function availableEngines(): Promise<TestedEngine[]> {
  return Promise.resolve([new ReferenceEngine(), new InterpreterUnderTest('off'), new InterpreterUnderTest('force')]);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  process.exitCode = await run(process.argv.slice(2));
