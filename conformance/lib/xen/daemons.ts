/** A xenstored of a kind, in a directory of its own, with no Xen: ours, Debian's C daemon, oxenstored. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { program } from '@xenhost/xenhost';
import type { DebianXen } from './debian.ts';

export type Kind = 'ours' | 'c' | 'ox';

const START_MS = 20_000;
const POLL_MS = 20;
const PAGE_BYTES = 4096;
/** Of the times in /proc. */
const TICK_MS = 10;

export interface Daemon {
  readonly kind: Kind;
  /** Of the process that runs now; another one after a live update. */
  readonly pid: number;
  readonly socket: string;
  /** Where the pages and events of the domains are (fakexen.h). */
  readonly directory: string;
  /** Makes what a domain needs before it is introduced. */
  addDomain(domid: number): void;
  /** Resolves once the daemon is no more: not after `crash`. */
  readonly exited: Promise<void>;
  /** SIGKILL, and nothing else: what stands for the hypervisor goes on. */
  crash(): Promise<void>;
  /** Starts it again over what it has left. */
  restart(): Promise<void>;
  rssKiB(): number;
  cpuMs(): number;
  stop(): Promise<void>;
}

const compiled = new Map<string, string>();
let binaries: string | undefined;

/** Compiles one of the C files beside this one, or another, once for this process. Throws with gcc's words. */
export function compile(source: string | URL, flags: readonly string[] = []): string {
  const file = typeof source === 'string' ? fileURLToPath(new URL(source, import.meta.url)) : fileURLToPath(source);
  const known = compiled.get(file);
  if (known !== undefined) return known;
  if (binaries === undefined) {
    const made = (binaries = mkdtempSync(join(tmpdir(), 'xh-')));
    process.once('exit', () => {
      rmSync(made, { recursive: true, force: true });
    });
  }
  const out = join(binaries, file.replace(/^.*\//, '').replace(/\.c$/, ''));
  const gcc = spawnSync('gcc', ['-O2', '-Wall', ...flags, '-o', out, file, '-ldl'], { encoding: 'utf8' });
  if (gcc.status !== 0) throw new Error(`gcc failed: ${gcc.stderr || String(gcc.error)}`);
  compiled.set(file, out);
  return out;
}

export interface DaemonOptions {
  /** For Debian's. */
  readonly debian?: DebianXen | undefined;
  /** Ours is to have a hypervisor's stand-in below it; Debian's always have. */
  readonly rings?: boolean;
  /** Ours: the socket of another hypervisor or stand-in instead. */
  readonly privcmd?: string;
  /** More arguments. */
  readonly args?: readonly string[];
}

export async function startDaemon(kind: Kind, options: DaemonOptions): Promise<Daemon> {
  const daemon = new RunningDaemon(kind, options);
  await daemon.begin();
  return daemon;
}

class RunningDaemon implements Daemon {
  readonly kind: Kind;
  readonly directory = mkdtempSync(join(tmpdir(), 'xh-'));
  readonly socket = join(this.directory, 'socket');
  readonly exited: Promise<void>;
  readonly #options: DaemonOptions;
  readonly #kill = (): void => {
    killAll(this.socket);
    this.#child?.kill('SIGKILL');
    this.#host?.kill('SIGKILL');
  };
  #child: ChildProcess | undefined;
  #host: ChildProcess | undefined;
  #gone = Promise.resolve();
  #crashing = false;
  #onExit: () => void = () => undefined;

  constructor(kind: Kind, options: DaemonOptions) {
    this.kind = kind;
    this.#options = options;
    this.exited = new Promise((resolve) => {
      this.#onExit = resolve;
    });
  }

  get pid(): number {
    const first = this.#child?.pid ?? 0;
    // The one that was started stays as the parent of the one that serves.
    return processesServing(this.socket).find((pid) => pid !== first) ?? first;
  }

  async begin(): Promise<void> {
    process.once('exit', this.#kill);
    makeFifo(join(this.directory, 'events'));
    this.addDomain(0);
    if (this.kind === 'ours' && this.#options.rings) this.#host = await startPageHost(this.directory);
    await this.restart();
  }

  async restart(): Promise<void> {
    const { debian, args = [], privcmd } = this.#options;
    const below = this.#host ? join(this.directory, 'privcmd.sock') : privcmd;
    const child =
      this.kind === 'ours'
        ? startOurs(this.directory, args, below)
        : startDebians(this.kind, this.directory, args, debian);
    this.#child = child;
    this.#crashing = false;
    this.#gone = new Promise((resolve) => {
      child.once('exit', () => {
        resolve();
        if (!this.#crashing) this.#onExit();
      });
    });
    if (await answers(this.socket, child)) return;
    const log = join(this.directory, 'log');
    const said = existsSync(log) ? readFileSync(log, 'utf8') : '';
    await this.stop();
    throw new Error(`${this.kind} did not start: ${said}`);
  }

  async crash(): Promise<void> {
    this.#crashing = true;
    killAll(this.socket);
    this.#child?.kill('SIGKILL');
    await this.#gone;
  }

  async stop(): Promise<void> {
    this.#kill();
    await this.#gone;
    process.off('exit', this.#kill);
    rmSync(this.directory, { recursive: true, force: true });
  }

  addDomain(domid: number): void {
    writeFileSync(join(this.directory, `page.${domid}`), new Uint8Array(PAGE_BYTES));
    makeFifo(join(this.directory, `events.${domid}`));
  }

  rssKiB(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1]);
  }

  cpuMs(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
    const fields = stat.replace(/^.*\) /s, '').split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  }
}

function killAll(socket: string): void {
  for (const pid of processesServing(socket)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
}

/** The xenstoreds that were told to serve a socket: more than one after a live update. */
function processesServing(socket: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return words.includes(socket) && words.some((word) => word.includes('xenstored'));
      } catch {
        // It has ended meanwhile.
        return false;
      }
    })
    .map(Number);
}

async function startPageHost(directory: string): Promise<ChildProcess> {
  const file = fileURLToPath(new URL('page-host.ts', import.meta.url));
  const child = spawn(process.execPath, [file, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((ready, failed) => {
    child.stdout.once('data', ready);
    child.once('exit', () => {
      failed(new Error('page-host did not start'));
    });
  });
  return child;
}

function startOurs(directory: string, args: readonly string[], privcmd: string | undefined): ChildProcess {
  const { command, args: own } = program('xenstored');
  const below = privcmd === undefined ? ['--no-hypervisor'] : ['--privcmd', privcmd];
  return spawn(command, [...own, ...below, '--socket', join(directory, 'socket'), ...args], {
    stdio: ['ignore', 'ignore', openSync(join(directory, 'log'), 'a')],
  });
}

function startDebians(kind: 'c' | 'ox', directory: string, args: readonly string[], debian?: DebianXen): ChildProcess {
  if (!debian) throw new Error(`${kind} needs Debian's packages`);
  linkSync(join(directory, 'page.0'), join(directory, 'xsd_kva'));
  writeFileSync(join(directory, 'xsd_port'), '1');
  const shim = compile('./fakexen.c', ['-shared', '-fPIC', '-I', debian.include]);
  const env = {
    ...debian.env,
    LD_PRELOAD: shim,
    FAKEXEN_DIR: directory,
    XENSTORED_RUNDIR: directory,
    XENSTORED_ROOTDIR: directory,
  };
  const config = join(directory, 'ox.conf');
  const settings = { 'pid-file': 'pid', 'xenstored-log-file': 'log', 'access-log-file': 'access' };
  const domain0 = { 'xenstored-kva': 'xsd_kva', 'xenstored-port': 'xsd_port' };
  const lines = Object.entries({ ...settings, ...domain0 }).map(([key, name]) => `${key} = ${join(directory, name)}\n`);
  writeFileSync(config, `persistent = false\n${lines.join('')}`);
  const own = kind === 'c' ? ['-N'] : ['--no-fork', '--no-access-log', '--config-file', config];
  // oxenstored makes the folder of its usual socket, whatever else it is told.
  if (kind === 'ox' && !existsSync('/var/run/xenstored')) mkdirSync('/var/run/xenstored', { recursive: true });
  const name = kind === 'c' ? 'xenstored' : 'oxenstored';
  return spawn(join(debian.bin, name), [...own, ...args], { env, stdio: 'ignore' });
}

export function makeFifo(path: string): void {
  const made = spawnSync('mkfifo', [path]);
  if (made.status !== 0) throw new Error(`mkfifo ${path} failed`);
}

async function answers(socket: string, child: ChildProcess): Promise<boolean> {
  const end = Date.now() + START_MS;
  while (Date.now() < end && child.exitCode === null && child.signalCode === null) {
    const there = await new Promise<boolean>((resolve) => {
      const client = connect(socket);
      client.once('connect', () => {
        client.destroy();
        resolve(true);
      });
      client.once('error', () => {
        resolve(false);
      });
    });
    if (there) return true;
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  return false;
}
