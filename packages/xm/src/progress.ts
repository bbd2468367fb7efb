/**
 * A line that moves while xend works, on a terminal only and only once the work has taken a while. Where the size of the
 * work is known it is a bar with a percentage, else time goes by.
 */
import { statSync } from 'node:fs';
import { atomNumber, childValue } from '@xenhost/sxp';
import type { CommandContext } from './commands/command.ts';
import { asSxp } from './commands/domain-rows.ts';
import type { World } from './world.ts';

/** Work shorter than this shows nothing. */
const PATIENCE_MS = 500;
const REDRAW_MS = 200;
const BAR_WIDTH = 30;

export interface Measure {
  /** The whole of the work; undefined when nobody knows. */
  readonly size?: () => Promise<number | undefined>;
  /** How much is done, in the same unit. */
  readonly done?: () => Promise<number>;
}

/** What the line says: `Saving vm1  [=====>    ]  43%  2 s`. */
export function progressLine(label: string, fraction: number | undefined, seconds: number, columns: number): string {
  const time = `${Math.floor(seconds)} s`;
  if (fraction === undefined) {
    // A mark that goes to and fro.
    const span = BAR_WIDTH - 3;
    const step = Math.floor(seconds / (REDRAW_MS / 1000)) % (2 * span);
    const at = step < span ? step : 2 * span - step;
    return `${label}  [${' '.repeat(at)}<=>${' '.repeat(span - at)}]  ${time}`.slice(0, columns - 1);
  }
  const part = Math.max(0, Math.min(1, fraction));
  const full = Math.floor(part * BAR_WIDTH);
  const bar = `${'='.repeat(Math.max(0, full - 1))}${full > 0 ? '>' : ''}`.padEnd(BAR_WIDTH);
  return `${label}  [${bar}] ${String(Math.floor(part * 100)).padStart(3)}%  ${time}`.slice(0, columns - 1);
}

/** Does the work and resolves to what it does; the line is gone when it is over. */
export async function withProgress<T>(
  world: World,
  label: string,
  measure: Measure,
  work: () => Promise<T>,
): Promise<T> {
  if (world.terminal() === undefined) return work();
  const line = { drawn: false, over: false };
  const size = await measure.size?.().catch(() => undefined);
  const start = world.now().getTime();
  const draw = async (): Promise<void> => {
    const terminal = world.terminal();
    const seconds = (world.now().getTime() - start) / 1000;
    const done = size === undefined ? undefined : await measure.done?.().catch(() => undefined);
    if (line.over || terminal === undefined || seconds * 1000 < PATIENCE_MS) return;
    const fraction = size === undefined || done === undefined ? undefined : done / Math.max(1, size);
    world.out(`\r\x1b[K${progressLine(label, fraction, seconds, terminal.columns)}`);
    line.drawn = true;
  };
  const timer = setInterval(() => void draw(), REDRAW_MS);
  try {
    return await work();
  } finally {
    line.over = true;
    clearInterval(timer);
    if (line.drawn) world.out('\r\x1b[K');
  }
}

/** Bytes of memory that a domain has: about what a saved one takes. */
export function domainMemory({ server, api }: CommandContext, dom: string): () => Promise<number | undefined> {
  return async () => {
    if (api) return undefined;
    const memoryMiB = atomNumber(childValue(asSxp(await server.call('xend.domain', dom)), 'memory'));
    return memoryMiB === undefined ? undefined : memoryMiB * 2 ** 20;
  };
}

/** Bytes that have been written to a file so far. */
export function fileSize(path: string): () => Promise<number> {
  return () => {
    try {
      return Promise.resolve(statSync(path).size);
    } catch {
      return Promise.resolve(0);
    }
  };
}
