/** Medians, and the one-line JSON form of a figure. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new RangeError('median of nothing');
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

const SIGNIFICANT = 4;

type Values = Readonly<Record<string, number | string | undefined>>;

/** Prints one line of JSON; numbers are cut to four significant digits, what is undefined is left out. */
export function print(values: Values): void {
  const short = Object.entries(values).map(([key, value]) => [
    key,
    typeof value === 'number' ? Number(value.toPrecision(SIGNIFICANT)) : value,
  ]);
  process.stdout.write(`${JSON.stringify(Object.fromEntries(short))}\n`);
}

export const figure = (name: string, values: Values): void => {
  print({ figure: name, ...values });
};

/** Runs a body `runs` times and gives the milliseconds of each. */
export async function timesMs(runs: number, body: (run: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    await body(i);
    times.push(performance.now() - start);
  }
  return times;
}
