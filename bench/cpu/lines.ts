/** The lines of the bench: their groups, how one is asked for, what it answers. `guest-line.sh` runs them. */

export const groups = {
  computation: [
    'alu32', 'alu64', 'div', 'call', 'sieve', 'crc32', 'sha256', 'matmul', 'sort', 'chase', 'copyloop', 'repmovs', 'repstos',
    'sse2fp', 'sse2int', 'x87',
  ],
  system: ['syscall', 'pgfault', 'fork', 'pipe', 'bb_exec'],
  busybox: ['bb_sha256', 'bb_md5', 'bb_awk', 'bb_seqsort', 'bb_gzip', 'bb_shloop'],
} as const; // prettier-ignore

export type Group = keyof typeof groups;

/** It adds numbers of type `long`: 32-bit programs have another answer. */
export const dependsOnWordSize: ReadonlySet<string> = new Set(['copyloop']);

/** Computation that does not wait for the memory that processors share. */
export const parallelLines = ['alu64', 'call', 'crc32', 'sha256', 'matmul', 'sse2fp'] as const;

/**
 * A PV guest of real Xen 4.17.5 that itself runs inside QEMU's TCG, as a share of plain TCG on the same machine (one run at
 * scale 20). Times TCG's rate of a run, it is what real Xen would have given in that run.
 */
export const xenInTcg: Readonly<Record<string, number>> = {
  syscall: 25.2e3 / 1.9e6,
  pgfault: 9817 / 128.8e3,
  fork: 80 / 854,
  pipe: 2224 / 12.6e3,
  bb_exec: 14 / 86,
};

export interface Answer {
  readonly work: number;
  readonly ns: number;
  readonly unit: string;
  /** Equal on every machine at the same scale: the check value and everything that the program printed. */
  readonly check: string;
}

export const rate = ({ work, ns }: Answer): number => (work / ns) * 1e9;

export const lineCommand = (name: string, percent: number): string => `/line ${name} ${percent}`;

const BENCH = /^BENCH \S+ work=(\d+) ns=(\d+) rate=\d+ unit=(\S+) check=(0x[0-9a-f]+)$/;

/** Each answer in what a console showed of one or several `/line` commands of the same name. */
export function answers(output: string): Answer[] {
  const lines = [...output.replaceAll('\r', '').matchAll(/^=(.*)$/gm)].map((match) => match[1] ?? '');
  const printed = lines.filter((line) => !BENCH.test(line)).join('; ');
  return lines.flatMap((line) => {
    const match = BENCH.exec(line);
    if (!match) return [];
    const [, work, ns, unit = '', check = ''] = match;
    return [{ work: Number(work), ns: Number(ns), unit, check: printed === '' ? check : `${check} ${printed}` }];
  });
}

/** The answer of one `/line`; throws with the output where there is none. */
export function oneAnswer(output: string): Answer {
  const [answer] = answers(output);
  if (!answer) throw new Error(`no answer: ${JSON.stringify(output.slice(-500))}`);
  return answer;
}
