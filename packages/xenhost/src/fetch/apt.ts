/**
 * Debian packages by apt's own tools, without root and without changing the machine: lists and archives lie in a private
 * folder when the machine has none of its own.
 */
import { execFile } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

class AptError extends Error {}

async function apt(args: readonly string[], cwd: string): Promise<string> {
  const [tool, ...rest] = args;
  if (tool === undefined) throw new TypeError('apt needs a tool name');
  try {
    return (await run(tool, rest, { cwd, maxBuffer: 1 << 26, env: { ...process.env, LC_ALL: 'C' } })).stdout;
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string };
    if (code === 'ENOENT') throw new AptError(`${tool} is not on this machine: fetch needs Debian's apt and dpkg`);
    throw new AptError(`${args.join(' ')} failed: ${(stderr ?? '').trim().split('\n').slice(-3).join(' / ')}`, {
      cause: error,
    });
  }
}

/** The package that a meta package such as `linux-image-cloud-amd64` stands for today. */
export async function resolveMetaPackage(meta: string, cache: AptCache): Promise<string> {
  const text = await cache.query(['apt-cache', 'depends', meta]);
  const found = /^\s*Depends: (linux-image-\S+)/m.exec(text)?.[1];
  if (found === undefined) throw new AptError(`package ${meta} names no kernel image`);
  return found;
}

export class AptCache {
  readonly #folder: string;
  readonly #architecture: string | undefined;
  #options: readonly string[] | undefined;

  /**
   * `folder`: where private lists and downloaded archives go. `architecture`: Debian's name of one that is not the
   * machine's own; its lists are always private.
   */
  constructor(folder: string, architecture?: string) {
    this.#folder = folder;
    this.#architecture = architecture;
  }

  async query(args: readonly [string, ...string[]]): Promise<string> {
    const [tool, ...rest] = args;
    return await apt([tool, ...(await this.#ready()), ...rest], this.#folder);
  }

  /** Downloads a package into the folder; resolves to the path of the .deb. */
  async download(name: string): Promise<string> {
    await this.query(['apt-get', 'download', '-qq', name]);
    const file = (await readdir(this.#folder)).find((entry) => entry.startsWith(`${name}_`) && entry.endsWith('.deb'));
    if (file === undefined) throw new AptError(`apt-get download ${name} left no package file`);
    return join(this.#folder, file);
  }

  async unpack(deb: string, into: string): Promise<void> {
    await mkdir(into, { recursive: true });
    await apt(['dpkg', '-x', deb, into], this.#folder);
  }

  /** The machine's own package lists where it has them, else private ones that are fetched now. */
  async #ready(): Promise<readonly string[]> {
    if (this.#options) return this.#options;
    await mkdir(this.#folder, { recursive: true });
    if (this.#architecture === undefined && (await this.#knowsPackages([]))) {
      this.#options = ['-o', 'APT::Sandbox::User='];
      return this.#options;
    }
    const lists = join(this.#folder, 'lists');
    const archives = join(this.#folder, 'archives');
    await mkdir(join(lists, 'partial'), { recursive: true });
    await mkdir(join(archives, 'partial'), { recursive: true });
    const options = [
      ...['-o', `Dir::State::Lists=${lists}`, '-o', `Dir::Cache=${archives}`, '-o', 'APT::Sandbox::User='],
      ...['-o', 'Debug::NoLocking=1', '-o', 'Acquire::Languages=none'],
    ];
    const architecture = this.#architecture;
    if (architecture !== undefined) {
      options.push('-o', `APT::Architecture=${architecture}`, '-o', `APT::Architectures=${architecture}`);
    }
    try {
      await apt(['apt-get', ...options, 'update', '-qq'], this.#folder);
    } catch (error) {
      // One of several archives may be out of step: what the others have is enough.
      if (!(await this.#knowsPackages(options))) throw error;
    }
    this.#options = options;
    return options;
  }

  async #knowsPackages(options: readonly string[]): Promise<boolean> {
    return /Candidate: \d/.test(await apt(['apt-cache', ...options, 'policy', 'busybox-static'], this.#folder));
  }
}
