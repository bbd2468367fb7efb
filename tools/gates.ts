/**
 * Gates that no other tool keeps: sizes of files, no absolute paths of a machine, links and test references in docs/, no
 * skipped test without a reason, text only: no packages, images or programs that somebody fetched. Prints what is wrong; exit code 1 then.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

const MAX_LINES = 600;
/** Files past the size bound, each with its reason. */
const longFiles: Readonly<Record<string, string>> = {};
const generated = /(\.generated\.ts$|\/isa\/rows\/|package-lock\.json$)/;

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' })
  .split('\n')
  .filter((path) => path !== '' && existsSync(path));
const problems: string[] = [];

for (const path of files) {
  if (readFileSync(path).includes(0)) problems.push(`${path}: not text`);
  if (!/\.(ts|mjs|cjs|md|yml|json|c|sh)$/.test(path) && !path.startsWith('.ci/')) continue;
  const text = readFileSync(path, 'utf8');
  const lines = text.split('\n').length;
  if (lines > MAX_LINES && !generated.test(path) && !path.endsWith('.md') && longFiles[path] === undefined) {
    problems.push(`${path}: ${lines} lines; split it or give its reason in tools/gates.ts`);
  }
  if (/(^|[\s"'`(=])\/(work|home\/\w+|root)\//m.test(text) && path !== 'tools/gates.ts') {
    problems.push(`${path}: an absolute path of some machine`);
  }
  if (path.endsWith('.test.ts')) {
    for (const match of text.matchAll(/\b(?:it|test|describe)\.skip\(\s*(['"`])(.*?)\1/g)) {
      if (!/\(.+\)|: /.test(match[2] ?? ''))
        problems.push(`${path}: a skipped test without its reason: ${match[2] ?? ''}`);
    }
    if (/\.only\(/.test(text)) problems.push(`${path}: .only`);
  }
  if (path.endsWith('.md')) checkLinks(path, text);
}

function checkLinks(path: string, text: string): void {
  for (const match of text.matchAll(/\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)/g)) {
    const target = normalize(join(dirname(path), match[1] ?? ''));
    if (!existsSync(target)) problems.push(`${path}: link to ${match[1] ?? ''}, which is not there`);
  }
  for (const match of text.matchAll(/`((?:packages|conformance|bench|tools|docs)\/[\w./-]+\.\w+)`/g)) {
    if (!existsSync(match[1] ?? '')) problems.push(`${path}: names ${match[1] ?? ''}, which is not there`);
  }
}

for (const problem of problems) process.stderr.write(`${problem}\n`);
process.stdout.write(`gates: ${files.length} files, ${problems.length} problems\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
