// A command's bundle for a fast start: CommonJS, in two or three files. Node's loader of ES modules takes longer for a dozen
// chunks than most commands do for all they have to do, and V8's code cache holds, file by file, what the first run used:
// so all small chunks are functions of one file, each run when it is first asked for, and only what is big stays apart.
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { build, transform } from 'esbuild';

/** From this size on a chunk is a file of its own: few commands need it. */
const BIG_BYTES = 40_000;

/** Writes `outdir/name.cjs` and `outdir/name/*.cjs`. */
export async function linkCommand({ root, name, entryPoint, outdir }) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: { [name]: entryPoint },
    outdir,
    bundle: true,
    splitting: true,
    chunkNames: '[name]-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    logLevel: 'warning',
    write: false,
  });
  mkdirSync(`${root}/${outdir}/${name}`);
  const write = (file, text) => {
    writeFileSync(`${root}/${outdir}/${file}`, text.replaceAll(/[\u0100-\uffff]/g, '?'));
  };
  const parts = [];
  for (const { path, text } of outputFiles) {
    const part = basename(path, '.js');
    const code = await asCommonJs(text);
    const run = `(module,exports,require){${code}}`;
    if (code.length > BIG_BYTES) {
      write(`${name}/${part}.cjs`, `module.exports=function${run};\n`);
      parts.push(`'./${part}.js'(...args){require('./${part}.cjs')(...args)}`);
    } else parts.push(`'./${part}.js'${run}`);
  }
  write(`${name}/parts.cjs`, `${LOADER}const parts={\n${parts.join(',\n')}};\nload('./${name}.js');\n`);
  write(`${name}.cjs`, `require('node:module').enableCompileCache();\nrequire('./${name}/parts.cjs');\n`);
}

/** Chunks are asked for by `require`, whether their importer waits for them or not. */
async function asCommonJs(text) {
  const required = text.replaceAll(/\bimport\(("\.\/[^"]+")\)/g, 'Promise.resolve().then(()=>require($1))');
  const { code } = await transform(required, {
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    minifyWhitespace: true,
    define: { 'import.meta.url': '__file.url' },
  });
  return code;
}

const LOADER = `const __file={get url(){return require('node:url').pathToFileURL(__filename).href}};
const loaded=new Map();
function load(name){
if(!Object.hasOwn(parts,name))return require(name);
let module=loaded.get(name);
if(module===undefined){loaded.set(name,module={exports:{}});parts[name](module,module.exports,load);}
return module.exports;
}
`;
