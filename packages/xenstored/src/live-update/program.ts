/** The program that is to take over, as `xenstore-control live-update` names it. */
import { X_OK } from 'node:constants';
import { accessSync } from 'node:fs';

const SCRIPT = /\.(?:mjs|cjs|js|ts)$/;

/** Why it cannot be started (xenstored_control.c, lu_binary); undefined when it may be. */
export function programProblem(file: string): string | undefined {
  try {
    accessSync(file);
  } catch {
    return 'File not accessible.';
  }
  if (SCRIPT.test(file)) return undefined;
  try {
    accessSync(file, X_OK);
  } catch {
    return 'File not executable.';
  }
  return undefined;
}

/** Scripts are run by this Node, with its flags; anything else starts by itself. Without a command line: that of this process. */
export function programCommand(file: string, commandLine: string | undefined): { command: string; args: string[] } {
  const args = commandLine === undefined ? process.argv.slice(2) : commandLine.split(' ').filter((word) => word !== '');
  return SCRIPT.test(file)
    ? { command: process.execPath, args: [...process.execArgv, file, ...args] }
    : { command: file, args };
}
