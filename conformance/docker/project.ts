/** One Compose project of this repository's docker-compose.yml: its commands, its console, what it leaves behind. */
import { spawn } from 'node:child_process';
import { type CommandResult, ConsoleSession } from '@xenhost/testkit';

/** A command that takes longer is ended. */
const COMMAND_TIMEOUT_MS = 60_000;

/** Runs a program to its end. Rejects when it is not there; a time-out is an exit code of null. */
export function command(
  name: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string; readonly timeoutMs?: number } = {},
): Promise<CommandResult> {
  const { timeoutMs = COMMAND_TIMEOUT_MS, ...where } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(name, args, { ...where, stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ code, stdout, stderr });
    });
  });
}

/** What the tests read of `docker compose ps` and `docker inspect`. */
export interface ServiceState {
  readonly health: string;
  readonly restarts: number;
  readonly user: string;
  readonly privileged: boolean;
  readonly readOnly: boolean;
  readonly droppedCapabilities: readonly string[];
  readonly networks: readonly string[];
}

interface Inspected {
  readonly Config: { readonly User: string; readonly Labels: Readonly<Record<string, string>> };
  readonly State: { readonly Status: string; readonly Health?: { readonly Status: string } };
  readonly RestartCount: number;
  readonly HostConfig: {
    readonly Privileged: boolean;
    readonly ReadonlyRootfs: boolean;
    readonly CapDrop: readonly string[] | null;
  };
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, unknown>> };
}

export class ComposeProject {
  readonly name: string;
  readonly #directory: string;
  readonly #env: NodeJS.ProcessEnv;

  /** `settings` are the variables that docker-compose.yml reads. */
  constructor(name: string, directory: string, settings: Readonly<Record<string, string>>) {
    this.name = name;
    this.#directory = directory;
    this.#env = { ...process.env, ...settings };
  }

  compose(args: readonly string[], timeoutMs?: number): Promise<CommandResult> {
    return command('docker', ['compose', '-p', this.name, ...args], {
      env: this.#env,
      cwd: this.#directory,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
  }

  /** As `compose`; throws with what it printed unless it succeeds. The result is its standard output. */
  async must(args: readonly string[], timeoutMs?: number): Promise<string> {
    const { code, stdout, stderr } = await this.compose(args, timeoutMs);
    if (code !== 0)
      throw new Error(`docker compose ${args.join(' ')}: exit code ${String(code)}\n${tail(stdout + stderr)}`);
    return stdout;
  }

  /** `xm` in a container of its own. */
  xm(...args: readonly string[]): Promise<string> {
    return this.must(['run', '--rm', '-T', 'xm', ...args]);
  }

  console(domain: string): ConsoleSession {
    const args = ['compose', '-p', this.name, 'run', '--rm', '-T', 'xm', 'console', domain];
    return new ConsoleSession(spawn('docker', args, { env: this.#env, cwd: this.#directory, stdio: 'pipe' }));
  }

  /** Daemons' states by service. */
  async services(): Promise<ReadonlyMap<string, ServiceState>> {
    const ids = (await this.must(['ps', '-a', '-q'])).split('\n').filter((id) => id !== '');
    if (ids.length === 0) return new Map();
    const { stdout } = await command('docker', ['inspect', ...ids]);
    const found = JSON.parse(stdout) as readonly Inspected[];
    return new Map(
      found.map(({ Config, State, RestartCount, HostConfig, NetworkSettings }) => [
        Config.Labels['com.docker.compose.service'] ?? '',
        {
          health: State.Status === 'running' ? (State.Health?.Status ?? 'none') : State.Status,
          restarts: RestartCount,
          user: Config.User,
          privileged: HostConfig.Privileged,
          readOnly: HostConfig.ReadonlyRootfs,
          droppedCapabilities: HostConfig.CapDrop ?? [],
          networks: Object.keys(NetworkSettings.Networks),
        },
      ]),
    );
  }

  /** Containers, volumes and networks of this project, by their names; those of `run` too. */
  async traces(): Promise<readonly string[]> {
    const filter = ['--filter', `label=com.docker.compose.project=${this.name}`];
    const lists = await Promise.all([
      command('docker', ['ps', '-a', '--format', 'container {{.Names}}', ...filter]),
      command('docker', ['volume', 'ls', '--format', 'volume {{.Name}}', ...filter]),
      command('docker', ['network', 'ls', '--format', 'network {{.Name}}', ...filter]),
    ]);
    return lists.flatMap(({ stdout }) => stdout.split('\n').filter((line) => line !== ''));
  }
}

const TAIL_CHARACTERS = 3000;
const tail = (text: string): string => text.slice(-TAIL_CHARACTERS);
