// A command's bundle for a fast start: CommonJS, in few files. Node's loader of ES modules takes longer for a dozen chunks than
// most commands do for all they have to do: here small chunks are functions of one file, each run when it is first asked
// for. V8's code cache holds, file by file, what the first run used, so what belongs to one command is a file, and so is
// what is big: a run caches what the next run of the same kind uses.
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { build, transform } from 'esbuild';

/** From this size on a chunk that several commands share is a file of its own. */
const BIG_BYTES = 4000;

/** Writes `outdir/name.cjs` and `outdir/name/*.cjs`. */
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
  const write = (file, text) => {
    writeFileSync(`${root}/${outdir}/${file}`, text.replaceAll(/[\u0100-\uffff]/g, '?'));
  };
  for (const [file, parts] of files) {
    const table = `{\n${parts.join(',\n')}}`;
    const elsewhere = JSON.stringify(Object.fromEntries([...homes].filter(([, home]) => home !== CORE)));
    const text = file === CORE ? `const homes=${elsewhere},parts=${table};\n${LOADER}` : `module.exports=${table};\n`;
    write(`${name}/${file}.cjs`, text);
  }
  const start = `require('node:module').enableCompileCache();\nrequire('./${name}/${CORE}.cjs')('./${name}.js');\n`;
  write(`${name}.cjs`, start);
}

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

/** Chunks are asked for by `require`, whether their importer waits for them or not. */
async function asCommonJs(text) {
  const required = text.replaceAll(/\bimport\(("\.\/[^"]+")\)/g, 'Promise.resolve().then(()=>require($1))');
  const { code } = await transform(required, {
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    minifyWhitespace: true,
    define: { 'import.meta.url': 'require.fileUrl' },
  });
  return code;
}

const LOADER = `const loaded=new Map();
function load(name){
let module=loaded.get(name);
if(module!==undefined)return module.exports;
if(!Object.hasOwn(parts,name)){
if(!Object.hasOwn(homes,name))return require(name);
Object.assign(parts,require('./'+homes[name]+'.cjs'));
}
loaded.set(name,module={exports:{}});
parts[name](module,module.exports,load);
return module.exports;
}
Object.defineProperty(load,'fileUrl',{get:()=>require('node:url').pathToFileURL(__filename).href});
module.exports=load;
`;
