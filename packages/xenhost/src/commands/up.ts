/** `xenhost up`: a host in the background (a supervisor of its own), or with --foreground in this process. */
import { spawn } from 'node:child_process';
import { mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { Host, hostEnv, type HostOptions } from '../host.ts';
import { hostPaths } from '@xenhost/daemon-kit';
import { program } from '../entry.ts';
import { isAlive, readState } from '../state-file.ts';
import { hostOptions, type Values } from './options.ts';

const POLL_MS = 20;
const READY_TIMEOUT_MS = 60_000;

export function endpoints(host: { paths: ReturnType<typeof hostPaths>; options: HostOptions }): string {
  const { paths, options } = host;
  const lines = [
    `  xend XML-RPC   ${paths.xendXmlrpc}${options.xendTcp === undefined ? '' : ` and http://${options.xendTcp}/RPC2`}`,
    `  xenstore       ${paths.xenstored}`,
    `  consoles       ${paths.consoles}`,
    `  logs           ${paths.log}`,
  ];
  if (options.runDirectory !== undefined) lines.push(`  for xm:        export XENHOST_RUN=${options.runDirectory}`);
  return `${lines.join('\n')}\n`;
}

export async function up(values: Values): Promise<number> {
  const options = hostOptions(values);
  return values['foreground'] === true ? await foreground(options) : await background(options);
}

/** Resolves at SIGTERM or SIGINT. */
export const stopRequested = (): Promise<void> =>
  new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        resolve();
      });
    }
  });

async function foreground(options: HostOptions): Promise<number> {
  const host = new Host(options);
  const stop = stopRequested();
  await host.start();
  process.stdout.write(`host is up\n${endpoints(host)}`);
  const reason = await Promise.race([host.failed, stop]);
  await host.stop();
  if (typeof reason === 'string') throw new Error(`the host went down: ${reason}`);
  return 0;
}

async function background(options: HostOptions): Promise<number> {
  const paths = hostPaths(hostEnv(options.runDirectory));
  const running = readState(paths.run);
  if (running) throw new Error(`a host is already running in ${paths.run} (pid ${running.pid}); xenhost down stops it`);
  mkdirSync(paths.log, { recursive: true });
  const logPath = join(paths.log, 'xenhost.log');
  const log = openSync(logPath, 'a');
  const { command, args } = program('xenhost');
  const flags = ['--memory', String(options.memoryMiB), '--pcpus', String(options.pcpus)];
  if (options.runDirectory !== undefined) flags.push('--run-dir', options.runDirectory);
  if (options.xendTcp !== undefined) flags.push('--xend-tcp', options.xendTcp);
  if (options.xendConfig !== undefined) flags.push('--xend-config', options.xendConfig);
  if (options.jit !== undefined) flags.push('--jit', options.jit);
  const child = spawn(command, [...args, 'up', '--foreground', ...flags], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  const pid = child.pid;
  child.unref();
  if (pid === undefined) throw new Error(`the supervisor could not be started (${command})`);
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    const state = readState(paths.run);
    const daemons = state?.daemons ?? [];
    if (daemons.length > 0 && daemons.every((daemon) => daemon.state === 'up')) break;
    if (!isAlive(pid) || child.exitCode !== null) throw new Error(`the host did not come up; see ${logPath}`);
    if (Date.now() > deadline) throw new Error(`the host was not up after ${READY_TIMEOUT_MS} ms; see ${logPath}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  process.stdout.write(`host is up (pid ${pid})\n${endpoints({ paths, options })}`);
  return 0;
}
