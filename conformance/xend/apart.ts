/**
 * Programs that want a machine changed (users, services of PAM, /run/sshd) get one of their own: a mount namespace with a
 * copy of /etc and an empty /run. Nothing of the machine itself changes, and all of it ends with the last process.
 */
import { spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { AptCache } from '@xenhost/xenhost';
import { assert } from '@xenhost/testkit';

const UNSHARE = ['--mount', '--propagation', 'private'] as const;

/** Why this process cannot have one; undefined where it can. */
export function apartReason(): string | undefined {
  if (process.geteuid?.() !== 0) return 'needs root: it makes users in a mount namespace of its own';
  const { status, stderr, error } = spawnSync('unshare', [...UNSHARE, 'mount', '-t', 'tmpfs', 'tmpfs', '/run'], {
    encoding: 'utf8',
  });
  return status === 0 ? undefined : `this root may not mount: ${error?.message ?? stderr.trim()}`;
}

export class Apart {
  /** The copy of /etc: what is written here is in /etc there. */
  readonly etc: string;

  constructor(folder: string) {
    this.etc = join(folder, 'etc');
    mkdirSync(this.etc);
    // Links that lead nowhere make cp complain; what matters is looked at by who uses it.
    spawnSync('cp', ['-a', '/etc/.', this.etc]);
    assert(existsSync(join(this.etc, 'passwd')), `no passwd in ${this.etc}`);
  }

  /** Runs lines of sh there to their end. */
  sh(lines: string, input = ''): string {
    const { status, stdout, stderr, error } = spawnSync('unshare', this.#arguments(['sh', '-ec', lines]), {
      input,
      encoding: 'utf8',
    });
    assert(status === 0, `${lines}: ${error?.message ?? stderr}`);
    return stdout;
  }

  /** Starts a program there; its process is the child itself. */
  spawn(command: readonly string[], stdio: StdioOptions, env: NodeJS.ProcessEnv = process.env): ChildProcess {
    return spawn('unshare', this.#arguments(command), { stdio, env });
  }

  #arguments(command: readonly string[]): string[] {
    const enter = 'mount --bind "$0" /etc; mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p -m 755 /run/sshd; exec "$@"';
    return [...UNSHARE, 'sh', '-ec', enter, this.etc, ...command];
  }
}

/** Where a program of Debian's is: the machine's own, or one fetched and unpacked in .cache, with the libraries named. */
export async function debianProgram(
  path: string,
  packages: readonly string[],
): Promise<{ readonly file: string; readonly env: NodeJS.ProcessEnv } | { readonly reason: string }> {
  if (existsSync(path)) return { file: path, env: process.env };
  const [name = ''] = packages;
  const folder = resolve('.cache', name);
  const root = join(folder, 'root');
  const file = join(root, path);
  if (!existsSync(file)) {
    try {
      const cache = new AptCache(folder);
      for (const each of [...packages].reverse()) await cache.unpack(await cache.download(each), root);
    } catch (error) {
      return {
        reason: `no ${path}, and none to be fetched: ${error instanceof Error ? error.message : String(error)}`,
      };
    }
  }
  const libraries = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((each) => join(root, each));
  return { file, env: { ...process.env, LD_LIBRARY_PATH: libraries.join(delimiter) } };
}
