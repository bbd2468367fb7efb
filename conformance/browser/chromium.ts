/** A headless Chromium: the machine's own, or Debian's package unpacked into a folder without root. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { AptCache } from '../../packages/xenhost/src/fetch/apt.ts';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const UNPACKED = 'root/usr/lib/chromium/chromium';
const LIBRARIES = ['root/usr/lib', 'root/lib'].flatMap((at) => [
  `${at}/x86_64-linux-gnu`,
  `${at}/aarch64-linux-gnu`,
  at,
]);
/** Bound on apt's answer about what the package needs beside what is installed. */
const INSTALL_LINE = /^Inst (\S+)/gm;

export interface Browser {
  readonly path: string;
  /** LD_LIBRARY_PATH for it, where its libraries are unpacked beside it. */
  readonly libraries: string | undefined;
}

/** `given`: what the user named. Throws with what to do when none can be had. */
export async function findChromium(
  given: string | undefined,
  folder: string,
  note: (text: string) => void,
): Promise<Browser> {
  if (given !== undefined) return { path: given, libraries: undefined };
  for (const name of NAMES)
    for (const at of (process.env['PATH'] ?? '').split(delimiter))
      if (existsSync(join(at, name))) return { path: join(at, name), libraries: undefined };
  const path = join(folder, UNPACKED);
  const libraries = LIBRARIES.map((at) => join(folder, at)).join(delimiter);
  if (existsSync(path)) return { path, libraries };
  note('no Chromium on this machine: fetching that of Debian');
  try {
    mkdirSync(folder, { recursive: true });
    const cache = new AptCache(folder);
    const plan = await cache.query(['apt-get', 'install', '--simulate', '--no-install-recommends', 'chromium']);
    for (const [, name = ''] of plan.matchAll(INSTALL_LINE))
      await cache.unpack(await cache.download(name), join(folder, 'root'));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`no Chromium: ${why}. Install one (apt-get install chromium) or name it by --chromium FILE`, {
      cause: error,
    });
  }
  return { path, libraries };
}

export interface RunningBrowser {
  /** Resolves when it ends by itself: with what it wrote last. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

export function startChromium(browser: Browser, url: string): RunningBrowser {
  const profile = mkdtempSync(join(tmpdir(), 'xh-chromium-'));
  const flags = [
    '--headless', '--disable-gpu', '--disable-dev-shm-usage', '--disable-extensions', '--disable-background-networking',
    '--no-first-run', '--no-default-browser-check', '--mute-audio', `--user-data-dir=${profile}`, '--remote-debugging-pipe',
    // Its sandbox wants user namespaces, which containers and root seldom have; the page is our own.
    '--no-sandbox',
  ]; // prettier-ignore
  // Descriptors 3 and 4 are the DevTools pipe: open, or Chromium ends at once; nothing is asked over them but the page.
  const child: ChildProcess = spawn(browser.path, [...flags, url], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...(browser.libraries === undefined ? {} : { LD_LIBRARY_PATH: browser.libraries }) },
  });
  let last = '';
  child.stderr?.on('data', (text: Buffer) => (last = (last + text.toString()).slice(-2000)));
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => {
      resolve(error.message);
    });
    child.once('exit', (code, signal) => {
      resolve(`ended with ${code ?? signal}: ${last}`);
    });
  });
  return {
    ended,
    async stop() {
      child.kill('SIGKILL');
      await ended;
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
