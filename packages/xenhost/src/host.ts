/** One host on this machine: its options, its environment, and the supervisor that keeps it. */
import { mkdirSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { hostPaths, type HostPaths, runDirectoryEnv } from '@xenhost/daemon-kit';
import { daemons } from './daemons.ts';
import { program } from './entry.ts';
import { readState, removeState, writeState } from './state-file.ts';
import { Supervisor, supervisorDefaults } from './supervisor.ts';

export interface HostOptions {
  /** Everything of the host lies under this directory; undefined for the default paths. */
  readonly runDirectory: string | undefined;
  readonly memoryMiB: number;
  readonly pcpus: number;
  /** `HOST:PORT` for XML-RPC over TCP besides the Unix socket. */
  readonly xendTcp: string | undefined;
  /** xend's configuration; undefined for the usual one, which need not be there. */
  readonly xendConfig?: string | undefined;
  /** `off`, `on` or `force`, as the hypervisor's option; undefined leaves it to XENHOST_JIT. */
  readonly jit?: string | undefined;
}

export const hostDefaults = { memoryMiB: 1024, pcpus: availableParallelism() } as const;

export const hostEnv = (runDirectory: string | undefined): NodeJS.ProcessEnv =>
  runDirectory === undefined ? process.env : { ...process.env, ...runDirectoryEnv(runDirectory) };

const hypervisorArgs = ({ memoryMiB, pcpus, jit }: HostOptions): string[] => [
  ...['--memory', String(memoryMiB), '--pcpus', String(pcpus)],
  ...(jit === undefined ? [] : ['--jit', jit]),
];

export class Host {
  readonly options: HostOptions;
  readonly paths: HostPaths;
  readonly env: NodeJS.ProcessEnv;
  readonly #supervisor: Supervisor;
  readonly #startedAt = new Date().toISOString();
  readonly #failed = Promise.withResolvers<string>();
  #stopped: Promise<void> | undefined;

  /** Throws when a host already runs in this run directory. */
  constructor(options: HostOptions) {
    this.options = options;
    const env = { ...hostEnv(options.runDirectory) };
    // Bundles are compiled once, not at every start.
    env['NODE_COMPILE_CACHE'] ??= join(tmpdir(), `xenhost-cache-${process.getuid?.() ?? 0}`);
    if (options.xendTcp !== undefined) env['XEND_TCP'] = options.xendTcp;
    if (options.xendConfig !== undefined) env['XEND_CONFIG'] = resolve(options.xendConfig);
    this.env = env;
    this.paths = hostPaths(env);
    const running = readState(this.paths.run);
    if (running && running.pid !== process.pid) {
      throw new Error(`a host is already running in ${this.paths.run} (pid ${running.pid}); xenhost down stops it`);
    }
    mkdirSync(this.paths.run, { recursive: true });
    const specs = daemons.map(({ name, after, nodeFlags, env: own = {}, vital }) => {
      const { command, args } = program(name, 'main', nodeFlags);
      return {
        name,
        command,
        args: [...args, ...(name === 'hypervisor' ? hypervisorArgs(options) : [])],
        env: own,
        vital,
        after,
      };
    });
    this.#supervisor = new Supervisor(
      { ...supervisorDefaults, env, logDirectory: this.paths.log },
      {
        specs,
        onChange: () => {
          this.#write();
        },
        onFatal: (reason) => {
          this.#failed.resolve(reason);
        },
      },
    );
  }

  /** Resolves with the reason when the host cannot go on; never otherwise. */
  get failed(): Promise<string> {
    return this.#failed.promise;
  }

  /** Resolves when every daemon answers; on failure everything is stopped again. */
  async start(): Promise<void> {
    try {
      await this.#supervisor.start();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#supervisor.stop().then(() => {
      removeState(this.paths.run);
    });
    return this.#stopped;
  }

  #write(): void {
    if (this.#stopped) return;
    const { memoryMiB, pcpus } = this.options;
    const state = { pid: process.pid, startedAt: this.#startedAt, memoryMiB, pcpus };
    writeState(this.paths.run, { ...state, daemons: this.#supervisor.status() });
  }
}
