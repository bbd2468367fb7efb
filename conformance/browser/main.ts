/**
 * The engine and the hypervisor without Node: bundled, and run in a headless Chromium, interpreter alone and with the
 * JIT. The engine runs programs with known results; the hypervisor boots our console shell as a PV guest and talks to it.
 *   --chromium FILE   another browser than the machine's, or Debian's package (fetched without root when there is none)
 *   --dir DIR         where a fetched one is kept (default .cache/chromium)
 *   --jit LIST        default off,on
 *   --kernel FILE     also boots this PV kernel (bzImage or ELF), with --ramdisk FILE, --cmdline TEXT, --memory MIB,
 *                     until its console shows --until TEXT
 */
import type { JitMode } from '@xenhost/cpu';
import { consoleShell } from '@xenhost/guest-kernels';
import { Report } from '@xenhost/testkit';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { unpackKernel } from '../../packages/libxenctrl/src/dombuild/unpack/index.ts';
import { bundle } from './bundle.ts';
import { findChromium, startChromium } from './chromium.ts';
import type { KernelCase } from './page/scope.ts';
import { servePage } from './serve.ts';
import type { PageContent } from './serve.ts';

const TIMEOUT_MS = 120_000;
const KERNEL_TIMEOUT_MS = 180_000;
/** What libxenctrl's unpacking of kernels takes from Node: a page hands it unpacked ones. */
const TOOLSTACK_MODULES = 'node:util node:worker_threads node:zlib';
const SCRIPTS = { page: '', 'engine-cases': '', pcpu: '', 'guest-cases': TOOLSTACK_MODULES } as const;

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      chromium: { type: 'string' },
      dir: { type: 'string', default: '.cache/chromium' },
      jit: { type: 'string', default: 'off,on' },
      kernel: { type: 'string' },
      ramdisk: { type: 'string' },
      cmdline: { type: 'string', default: 'console=hvc0' },
      memory: { type: 'string', default: '256' },
      until: { type: 'string', default: 'GUEST-READY' },
    },
  });
  const report = new Report();
  const files: Map<string, PageContent['files'] extends ReadonlyMap<string, infer V> ? V : never> = new Map();
  for (const [name, expected] of Object.entries(SCRIPTS))
    await report.case(`${name} is bundled without Node`, async () => {
      const { code, nodeModules } = await bundle(name);
      files.set(`/${name}.js`, { type: 'text/javascript', body: code });
      if (nodeModules.join(' ') !== expected) throw new Error(`it names ${nodeModules.join(' ')}`);
      return `${Math.round(code.length / 1024)} KiB${expected === '' ? '' : `, unpacking of kernels aside: ${expected}`}`;
    });
  const type = 'application/octet-stream';
  files.set('/shell', { type, body: consoleShell() });
  let kernel: KernelCase | undefined;
  if (values.kernel !== undefined) {
    files.set('/kernel', { type, body: await unpackKernel(readFileSync(values.kernel)) });
    if (values.ramdisk !== undefined) files.set('/ramdisk', { type, body: readFileSync(values.ramdisk) });
    const { cmdline, until, memory, ramdisk } = values;
    const hasRamdisk = ramdisk !== undefined;
    kernel = { cmdline, until, memoryMiB: Number(memory), hasRamdisk, timeoutMs: KERNEL_TIMEOUT_MS };
  }
  const jit = values.jit.split(',') as JitMode[];
  await report.case('Chromium ran all cases', () => inBrowser(report, values, { files, options: { jit, kernel } }));
  return report.close();
}

async function inBrowser(
  report: Report,
  options: { chromium?: string; dir: string },
  content: PageContent,
): Promise<string> {
  const browser = await findChromium(options.chromium, resolve(options.dir), (text) => {
    report.note(text);
  });
  let done: () => void = () => undefined;
  const finished = new Promise<'done'>((end) => {
    done = () => {
      end('done');
    };
  });
  const server = await servePage(content, {
    row: ({ name, passed, detail }) => {
      report.row(name, passed, detail);
    },
    done,
  });
  const running = startChromium(browser, server.url);
  const timeoutMs = (TIMEOUT_MS + (content.options.kernel?.timeoutMs ?? 0)) * content.options.jit.length;
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<string>((end) => {
    timer = setTimeout(() => {
      end(`no answer within ${timeoutMs} ms`);
    }, timeoutMs);
  });
  try {
    const outcome = await Promise.race([finished, running.ended, timeout]);
    if (outcome !== 'done') throw new Error(outcome);
    return browser.path;
  } finally {
    clearTimeout(timer);
    server.close();
    await running.stop();
  }
}
