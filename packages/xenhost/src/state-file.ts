/** What a running host tells about itself: one JSON file in its run directory, written by the supervisor alone. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export type DaemonState = 'starting' | 'up' | 'restarting' | 'stopped' | 'failed';

export interface DaemonStatus {
  readonly name: string;
  readonly pid: number | undefined;
  readonly state: DaemonState;
  readonly restarts: number;
}

export interface HostState {
  readonly pid: number;
  readonly startedAt: string;
  readonly memoryMiB: number;
  readonly pcpus: number;
  readonly daemons: readonly DaemonStatus[];
}

const stateFilePath = (run: string): string => join(run, 'xenhost.json');

export function writeState(run: string, state: HostState): void {
  const path = stateFilePath(run);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(state, undefined, 2)}\n`);
  renameSync(`${path}.new`, path);
}

export function removeState(run: string): void {
  rmSync(stateFilePath(run), { force: true });
}

/** The state of the host of a run directory, or undefined when none runs there (a left-over file does not count). */
export function readState(run: string): HostState | undefined {
  let state: HostState;
  try {
    state = JSON.parse(readFileSync(stateFilePath(run), 'utf8')) as HostState;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Error(`cannot read ${stateFilePath(run)}`, { cause: error });
  }
  return isAlive(state.pid) ? state : undefined;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
