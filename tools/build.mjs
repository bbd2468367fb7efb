// Bundles each program into dist/: one file a process, so that it starts fast. Types are checked by `npm run types`.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { generateEngine } from '../packages/cpu/src/index.ts';
import { linkCommand } from './link-command.mjs';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const programs = {
  hypervisor: 'packages/hypervisor/src/main.ts',
  'pcpu-worker': 'packages/hypervisor/src/pcpu/worker.ts',
  'compile-worker': 'packages/hypervisor/src/pcpu/compiler.ts',
  'unpack-worker': 'packages/libxenctrl/src/dombuild/unpack/worker.ts',
  xenstored: 'packages/xenstored/src/main.ts',
  'xenstored-compact': 'packages/xenstored/src/journal/compact-thread.ts',
  xenconsoled: 'packages/xenconsoled/src/main.ts',
  xenconsole: 'packages/xenconsoled/src/xenconsole.ts',
  blkback: 'packages/blkback/src/main.ts',
  netback: 'packages/netback/src/main.ts',
  'qemu-dm': 'packages/qemu-dm/src/main.ts',
  xend: 'packages/xend/src/main.ts',
  xenhost: 'packages/xenhost/src/main.ts',
  xentrace: 'packages/xentrace/src/xentrace.ts',
  xenperf: 'packages/xentrace/src/xenperf.ts',
  xenprofile: 'packages/xentrace/src/xenprofile.ts',
  healthcheck: 'packages/daemon-kit/src/healthcheck.ts',
};

const entryPoints = Object.fromEntries(Object.entries(programs).filter(([, path]) => existsSync(`${root}/${path}`)));
const fresh = `dist.${process.pid}`;
await build({
  absWorkingDir: root,
  entryPoints,
  outdir: fresh,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  format: 'esm',
  platform: 'node',
  target: 'node24',
  sourcemap: 'linked',
  legalComments: 'none',
  logLevel: 'warning',
  // CommonJS dependencies call require at run time.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
});

await linkCommand({ root, name: 'xm', entryPoint: 'packages/xm/src/main.ts', outdir: fresh });
execFileSync(process.execPath, [`${root}/tools/warm-command.mjs`, `${root}/${fresh}`], {
  stdio: ['ignore', 'ignore', 'inherit'],
});

// The engine's Wasm follows from the sources alone: made here, not at each start of a hypervisor (control/host.ts).
mkdirSync(`${root}/${fresh}/engine`);
for (const [name, bytes] of Object.entries(generateEngine()))
  writeFileSync(`${root}/${fresh}/engine/${name}.wasm`, bytes);

// Comments alone have characters beyond Latin-1; one of them would double the source's memory in each thread.
for (const path of readdirSync(`${root}/${fresh}`, { recursive: true })) {
  if (!path.endsWith('.mjs')) continue;
  const file = `${root}/${fresh}/${path}`;
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll(/[\u0100-\uffff]/g, '?'));
}

// Programs that run meanwhile find a whole dist at nearly any moment.
const old = `${root}/${fresh}.old`;
if (existsSync(`${root}/dist`)) renameSync(`${root}/dist`, old);
renameSync(`${root}/${fresh}`, `${root}/dist`);
rmSync(old, { recursive: true, force: true });
