/**
 * Bundles the page's scripts for a browser. Engine and hypervisor must come without a module of Node's; for the
 * toolstack in the control worker they are replaced by ones that cannot be used, and the list of those is an output.
 */
import { build } from 'esbuild';
import type { Plugin } from 'esbuild';
import { fileURLToPath } from 'node:url';

const page = (name: string): string => fileURLToPath(new URL(`page/${name}.ts`, import.meta.url));
const NODE_MODULE =
  /^(node:|\0node:)|^(fs|net|os|path|worker_threads|zlib|util|url|http|crypto|stream|events|child_process|v8)$/;

export interface PageScript {
  readonly name: string;
  readonly code: string;
  /** Modules of Node's that code in the bundle names. */
  readonly nodeModules: readonly string[];
}

/** Every module of ours is free of side effects: what a script does not use is left out, with what that imports. */
function forBrowser(): Plugin {
  return {
    name: 'for-browser',
    setup(esbuild) {
      esbuild.onResolve({ filter: NODE_MODULE }, ({ path }) => ({ path, namespace: 'node', sideEffects: false }));
      esbuild.onLoad({ filter: /.*/, namespace: 'node' }, ({ path }) => ({
        // CommonJS, so that any name may be imported from it.
        contents: `module.exports = new Proxy({}, { get(_, name) { return () => { throw new Error('${path} is not in a browser: ' + String(name)); }; } });`,
        loader: 'js',
      }));
      esbuild.onResolve({ filter: /^(@xenhost\/|\.)/ }, async ({ path, pluginData, ...options }) => {
        if (pluginData === 'resolved') return undefined;
        const { kind, importer, resolveDir } = options;
        return {
          ...(await esbuild.resolve(path, { kind, importer, resolveDir, pluginData: 'resolved' })),
          sideEffects: false,
        };
      });
    },
  };
}

export async function bundle(name: string): Promise<PageScript> {
  const result = await build({
    entryPoints: [page(name)],
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2024',
    legalComments: 'none',
    logLevel: 'error',
    inject: name === 'guest-cases' ? [page('node-edge')] : [],
    plugins: [forBrowser()],
  });
  const used = Object.values(result.metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs)
      .filter(([path, { bytesInOutput }]) => path.startsWith('node:') && bytesInOutput > 0)
      .map(([path]) => path.slice('node:'.length)),
  );
  return { name, code: result.outputFiles[0]?.text ?? '', nodeModules: [...new Set(used)].sort() };
}
