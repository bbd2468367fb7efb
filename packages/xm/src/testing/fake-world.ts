/** A world without a terminal in which everything that xm writes is kept. */
import { PassThrough } from 'node:stream';
import type { World } from '../world.ts';

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** Programs that were run. */
  readonly ran: readonly string[];
}

/** Runs `work` in a world and gives what came of it. */
export async function inWorld(
  work: (world: World) => Promise<number>,
  settings: Partial<World> & Pick<World, 'env' | 'cwd'>,
): Promise<Outcome> {
  let out = '';
  let err = '';
  const ran: string[] = [];
  const stdin = new PassThrough();
  stdin.end();
  const code = await work({
    isRoot: true,
    stdin,
    signal: new AbortController().signal,
    terminal: () => undefined,
    out: (text) => (out += text),
    err: (text) => (err += text),
    write: (bytes) => {
      out += Buffer.from(bytes).toString();
      return Promise.resolve();
    },
    now: () => new Date(1_700_000_000_000),
    sleep: () => new Promise(setImmediate),
    become: () => Promise.reject(new Error('tests name their console client')),
    connect: () => {
      throw new Error('no program is expected');
    },
    run: (command, args) => {
      ran.push([command, ...args].join(' '));
      return Promise.resolve(0);
    },
    ...settings,
  });
  return { code, out, err, ran };
}
