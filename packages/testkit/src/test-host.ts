/** A whole host of its own for a test or a conformance run: real processes, free sockets, a run directory that goes away. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Host, hostDefaults, program, readState } from '@xenhost/xenhost';
import { ConsoleSession } from './console-session.ts';
import { until } from './until.ts';

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestHostOptions {
  readonly memoryMiB?: number;
  readonly pcpus?: number;
  readonly xendTcp?: string;
  /** The text of xend-config.sxp. */
  readonly xendConfig?: string;
  /** The text of network.sxp. */
  readonly networkConfig?: string;
  /** `off`, `on` or `force`; without it XENHOST_JIT decides. */
  readonly jit?: string | undefined;
}

const TAIL_BYTES = 4000;

export class TestHost {
  readonly host: Host;
  readonly directory: string;
  readonly #sessions = new Set<ConsoleSession>();
  /** This process ends without having stopped the host: its daemons shall not stay behind. */
  readonly #abandon = (): void => {
    for (const { pid } of readState(this.host.paths.run)?.daemons ?? []) if (pid !== undefined) kill(pid);
  };

  private constructor(host: Host, directory: string) {
    this.host = host;
    this.directory = directory;
  }

  static async start(options: TestHostOptions = {}): Promise<TestHost> {
    const directory = mkdtempSync(join(tmpdir(), 'xh-'));
    if (options.xendConfig !== undefined) writeFileSync(join(directory, 'xend-config.sxp'), options.xendConfig);
    if (options.networkConfig !== undefined) writeFileSync(join(directory, 'network.sxp'), options.networkConfig);
    const host = new Host({
      runDirectory: directory,
      memoryMiB: options.memoryMiB ?? hostDefaults.memoryMiB,
      pcpus: options.pcpus ?? hostDefaults.pcpus,
      xendTcp: options.xendTcp,
      jit: options.jit,
    });
    const self = new TestHost(host, directory);
    process.on('exit', self.#abandon);
    try {
      await host.start();
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
    return self;
  }

  /** Runs xm to its end. */
  xm(...args: readonly string[]): Promise<CommandResult> {
    const { command, args: own } = program('xm');
    return run(command, [...own, ...args], this.host.env);
  }

  /** Runs xm and throws, with what it printed, unless it succeeds. The result is its standard output. */
  async mustXm(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.xm(...args);
    if (code !== 0)
      throw new Error(`xm ${args.join(' ')}: exit code ${String(code)}\n${stdout}${stderr}${this.logs()}`);
    return stdout;
  }

  /** Runs any program with the host's environment (xenstore tools find its socket). */
  run(command: string, ...args: readonly string[]): Promise<CommandResult> {
    return run(command, args, { ...this.host.env, XENSTORED_PATH: this.host.paths.xenstored });
  }

  /** Writes a config file into the run directory. */
  config(name: string, settings: Readonly<Record<string, string | number | readonly string[]>>): string {
    const path = join(this.directory, `${name}.cfg`);
    const lines = Object.entries({ name, ...settings }).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  }

  /** Attaches to a domain's console through `xm console`. */
  console(domain: string): ConsoleSession {
    const { command, args } = program('xm');
    const session = new ConsoleSession(
      spawn(command, [...args, 'console', domain], { env: this.host.env, stdio: 'pipe' }),
    );
    this.#sessions.add(session);
    return session;
  }

  /** The process of a daemon; 0 while there is none. */
  pidOf(daemon: string): number {
    return readState(this.host.paths.run)?.daemons.find(({ name }) => name === daemon)?.pid ?? 0;
  }

  /** kill -9 of a daemon; resolves once the supervisor's next one is up. */
  async killDaemon(daemon: string): Promise<void> {
    const pid = this.pidOf(daemon);
    if (pid === 0) throw new Error(`no ${daemon} to kill`);
    process.kill(pid, 'SIGKILL');
    await until(`${daemon} is up again`, () => {
      const state = readState(this.host.paths.run)?.daemons.find(({ name }) => name === daemon);
      return Promise.resolve(state?.state === 'up' && state.pid !== pid);
    });
  }

  /** All that a daemon has logged. */
  logOf(daemon: string): string {
    const path = join(this.host.paths.log, `${daemon}.log`);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** Ends of the daemons' logs, for the message of a failure. */
  logs(): string {
    return ['hypervisor', 'xenstored', 'xenconsoled', 'blkback', 'netback', 'xend']
      .map((name) => ({ name, path: join(this.host.paths.log, `${name}.log`) }))
      .filter(({ path }) => existsSync(path))
      .map(({ name, path }) => `--- ${name}.log\n${readFileSync(path, 'utf8').slice(-TAIL_BYTES)}`)
      .join('\n');
  }

  async stop(): Promise<void> {
    for (const session of this.#sessions) session.close();
    await this.host.stop();
    process.off('exit', this.#abandon);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

export async function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<CommandResult> {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { code, stdout, stderr };
}
