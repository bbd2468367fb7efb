// Bundles each program into dist/: one file a process, so that it starts fast. Types are checked by `npm run types`.
import { existsSync, renameSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const programs = {
  hypervisor: 'packages/hypervisor/src/main.ts',
  'pcpu-worker': 'packages/hypervisor/src/pcpu/worker.ts',
  'unpack-worker': 'packages/libxenctrl/src/dombuild/unpack/worker.ts',
  xenstored: 'packages/xenstored/src/main.ts',
  xenconsoled: 'packages/xenconsoled/src/main.ts',
  xenconsole: 'packages/xenconsoled/src/xenconsole.ts',
  blkback: 'packages/blkback/src/main.ts',
  netback: 'packages/netback/src/main.ts',
  'qemu-dm': 'packages/qemu-dm/src/main.ts',
  xend: 'packages/xend/src/main.ts',
  xm: 'packages/xm/src/main.ts',
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

// Programs that run meanwhile find a whole dist at nearly any moment.
const old = `${root}/${fresh}.old`;
if (existsSync(`${root}/dist`)) renameSync(`${root}/dist`, old);
renameSync(`${root}/${fresh}`, `${root}/dist`);
rmSync(old, { recursive: true, force: true });
