// A command's bundle for a fast start. Node's loader of ES modules takes longer for a dozen chunks than most commands do for
// all they have to do, and Node's own compile cache keeps no function that a file does not run at once: here chunks are
// functions of few files, each run when it is first asked for, and beside each file stands V8's code of what common
// commands use (tools/warm-command.mjs). V8 takes that code only if it is of the same V8, else it compiles.
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { build, transform } from 'esbuild';

/** From this size on a chunk that several commands share is a file of its own. */
const BIG_BYTES = 4000;

/** Writes `outdir/name.cjs` and what it loads, `outdir/name/*.js`. */
export async function linkCommand({ root, name, entryPoint, outdir }) {
  const { outputFiles, metafile } = await build({
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
    metafile: true,
    write: false,
  });
  const homes = homesOf(metafile.outputs, `${outdir}/${name}.js`);
  const files = new Map();
  for (const { path, text } of outputFiles) {
    const part = partName(path);
    const file = homes.get(part);
    if (!files.has(file)) files.set(file, []);
    files.get(file).push(`'${part}'(module,exports,require){${await asCommonJs(text)}}`);
  }
  mkdirSync(`${root}/${outdir}/${name}`);
  for (const [file, parts] of files) {
    writeFileSync(`${root}/${outdir}/${name}/${file}.js`, `({\n${parts.join(',\n')}})`, 'latin1');
  }
  writeFileSync(`${root}/${outdir}/${name}.cjs`, loader(name, Object.fromEntries(homes)));
}

/** The file of what every run needs, and of what is small. */
const CORE = 'core';
const partName = (path) => `./${basename(path)}`;

/** The file of each chunk: the core, that of the one command that needs it, or its own. */
function homesOf(outputs, main) {
  const closure = (path, into = new Set()) => {
    if (into.has(path)) return into;
    into.add(path);
    for (const { path: next, kind } of outputs[path].imports) {
      if (kind === 'import-statement' && Object.hasOwn(outputs, next)) closure(next, into);
    }
    return into;
  };
  const always = closure(main);
  const entries = Object.keys(outputs).filter((path) => outputs[path].entryPoint !== undefined && path !== main);
  const homes = new Map();
  for (const [path, { bytes }] of Object.entries(outputs)) {
    const users = entries.filter((entry) => closure(entry).has(path));
    const own = bytes < BIG_BYTES ? CORE : basename(path, '.js');
    homes.set(partName(path), always.has(path) ? CORE : users.length === 1 ? basename(users[0], '.js') : own);
  }
  return homes;
}

/** Chunks are asked for by `require`, whether their importer waits for them or not; V8's scripts import nothing themselves. */
async function asCommonJs(text) {
  const required = text
    .replaceAll(/\bimport\(("\.\/[^"]+")\)/g, 'Promise.resolve().then(()=>require($1))')
    .replaceAll(/\bawait import\(/g, 'await require.import(');
  const { code } = await transform(required, {
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    minifyWhitespace: true,
    define: { 'import.meta.url': 'require.fileUrl' },
  });
  return code;
}

/** What starts: finds parts in files and runs them. The one who warms asks for it by `require` and says itself what to load. */
const loader = (name, homes) => `'use strict';
const {readFileSync}=require('node:fs'),{Script}=require('node:vm');
const homes=${JSON.stringify(homes)};
const parts={},scripts=new Map(),loaded=new Map();
function read(home){
const filename=\`\${__dirname}/${name}/\${home}.js\`;
let cachedData;
try{cachedData=readFileSync(filename+'.code')}catch{}
const script=new Script(readFileSync(filename,'latin1'),{filename,cachedData});
scripts.set(filename,script);
Object.assign(parts,script.runInThisContext());
}
function load(part){
let module=loaded.get(part);
if(module!==undefined)return module.exports;
if(!Object.hasOwn(homes,part))return require(part);
if(!Object.hasOwn(parts,part))read(homes[part]);
loaded.set(part,module={exports:{}});
parts[part](module,module.exports,load);
return module.exports;
}
load.import=(url)=>import(url);
Object.defineProperty(load,'fileUrl',{get:()=>require('node:url').pathToFileURL(__filename).href});
if(require.main===module)load('./${name}.js');
else module.exports={load,loaded,scripts};
`;
