/**
 * Debian's xenstore-utils, as they are. Expected outputs are those that the tools give with the C daemon 4.17.
 */
import type { Report } from '@xenhost/testkit';
import { assert } from '@xenhost/testkit';
import { tool } from './tool.ts';
import type { Answer } from './tool.ts';

interface Case {
  readonly name: string;
  /** Command lines, each without `xenstore-`; all must succeed but the last. */
  readonly script: readonly (readonly string[])[];
  /** Standard output of the last one. */
  readonly out?: string;
  readonly code?: number;
  /** Part of its standard error. */
  readonly err?: string;
}

const CASES: readonly Case[] = [
  {
    name: 'write and read',
    script: [
      ['write', '/c/a', 'one'],
      ['read', '/c/a'],
    ],
    out: 'one\n',
  },
  {
    name: 'write several',
    script: [
      ['write', '/c/b', 'two', '/c/d', 'three'],
      ['read', '/c/b', '/c/d'],
    ],
    out: 'two\nthree\n',
  },
  { name: 'read with its path', script: [['read', '-p', '/c/a']], out: '/c/a: one\n' },
  { name: 'read of nothing', script: [['read', '/none']], code: 1, err: "couldn't read path /none" },
  {
    name: 'an empty value',
    script: [
      ['write', '/c/empty', ''],
      ['read', '/c/empty'],
    ],
    out: '\n',
  },
  {
    name: 'bytes that are no text',
    script: [
      ['write', '/c/bin', '\\001\\377x'],
      ['read', '/c/bin'],
    ],
    out: '\\001\\xffx\n',
  },
  { name: 'list in order of creation', script: [['list', '/c']], out: 'a\nb\nd\nempty\nbin\n' },
  { name: 'list with paths', script: [['list', '-p', '/c']], out: '/c/a\n/c/b\n/c/d\n/c/empty\n/c/bin\n' },
  { name: 'list of nothing', script: [['list', '/none']], code: 1, err: 'could not list path /none' },
  { name: 'exists', script: [['exists', '/c/a']], code: 0 },
  { name: 'exists of nothing', script: [['exists', '/c/zzz']], code: 1 },
  {
    name: 'ls',
    script: [
      ['rm', '/c/empty'],
      ['rm', '/c/bin'],
      ['ls', '/c'],
    ],
    out: 'a = "one"\nb = "two"\nd = "three"\n',
  },
  { name: 'ls with full paths', script: [['ls', '-f', '/c']], out: '/c/a = "one"\n/c/b = "two"\n/c/d = "three"\n' },
  {
    name: 'chmod, ls with permissions',
    script: [
      ['chmod', '/c/a', 'n0', 'r5', 'b6'],
      ['ls', '-f', '-p', '/c'],
    ],
    out: '/c/a = "one"   (n0,r5,b6)\n/c/b = "two"   (n0)\n/c/d = "three"   (n0)\n',
  },
  {
    name: 'chmod of a tree',
    script: [
      ['write', '/t/x/y', 'v'],
      ['chmod', '-r', '/t', 'r3'],
      ['ls', '-f', '-p', '/t'],
    ],
    out: '/t/x = ""   (r3)\n/t/x/y = "v"   (r3)\n',
  },
  {
    name: 'rm',
    script: [
      ['rm', '/c/b'],
      ['exists', '/c/b'],
    ],
    code: 1,
  },
  {
    name: 'rm of a tree',
    script: [
      ['rm', '/t'],
      ['exists', '/t/x/y'],
    ],
    code: 1,
  },
  {
    name: 'rm and empty parents (-t)',
    script: [
      ['write', '/p/q/r', 'v'],
      ['rm', '-t', '/p/q/r'],
      ['exists', '/p'],
    ],
    code: 1,
  },
  { name: 'rm below nothing', script: [['rm', '/none/x/y']], code: 1, err: 'could not remove path /none/x/y' },
  {
    name: 'a path that is none',
    script: [['write', '/bad//path', 'v']],
    code: 1,
    err: 'could not write path /bad//path',
  },
  {
    name: 'a relative path',
    script: [
      ['write', 'rel', 'v'],
      ['read', '/local/domain/0/rel'],
    ],
    out: 'v\n',
  },
  { name: 'the tree at the start', script: [['ls', '-f', '/tool']], out: '/tool/xenstored = ""\n' },
  {
    name: 'a value of 3 KiB',
    script: [
      ['write', '/c/long', 'L'.repeat(3072)],
      ['read', '/c/long'],
    ],
    out: `${'L'.repeat(3072)}\n`,
  },
];

async function runCase({ script, out, code = 0, err = '' }: Case, socket: string): Promise<void> {
  let answer: Answer = { code: 0, out: '', err: '' };
  for (const [i, [name = '', ...args]] of script.entries()) {
    answer = await tool(`xenstore-${name}`, args, socket);
    const last = i === script.length - 1;
    assert(last || answer.code === 0, `xenstore-${name} ${args.join(' ')}: status ${answer.code}: ${answer.err}`);
  }
  assert(answer.code === code, `status ${answer.code} instead of ${code}: ${answer.err}`);
  assert(
    out === undefined || answer.out === out,
    `printed ${JSON.stringify(answer.out)} instead of ${JSON.stringify(out)}`,
  );
  assert(answer.err.includes(err), `complained ${JSON.stringify(answer.err)} instead of ${JSON.stringify(err)}`);
}

/** A watcher hears its registration, then each change, then ends by its count. */
async function watches(socket: string): Promise<void> {
  const watcher = tool('xenstore-watch', ['-n', '3', '/w'], socket);
  // It must be registered before the first write; it prints nothing until then that a pipe would show.
  await new Promise((done) => setTimeout(done, 500));
  await tool('xenstore-write', ['/w/a', '1'], socket);
  await tool('xenstore-rm', ['/w/a'], socket);
  const { code, out } = await watcher;
  assert(code === 0 && out === '/w\n/w/a\n/w/a\n', `status ${code}, printed ${JSON.stringify(out)}`);
}

/** Ten tools at once add to one counter, each in transactions of libxenstore's own making. */
async function manyClients(socket: string): Promise<void> {
  const writers = Array.from({ length: 10 }, (_, i) => tool('xenstore-write', [`/many/${i}`, `v${i}`], socket));
  for (const { code } of await Promise.all(writers)) assert(code === 0, 'a write failed');
  const { out } = await tool('xenstore-list', ['/many'], socket);
  assert(out.trim().split('\n').length === 10, `listed ${JSON.stringify(out)}`);
}

/** 2,000 children need DIRECTORY_PART. */
async function wideDirectory(socket: string): Promise<void> {
  const names = Array.from({ length: 2000 }, (_, i) => `child-${i}`);
  for (let at = 0; at < names.length; at += 500) {
    await tool(
      'xenstore-write',
      names.slice(at, at + 500).flatMap((name) => [`/wide/${name}`, 'x']),
      socket,
    );
  }
  const { out } = await tool('xenstore-list', ['/wide'], socket);
  assert(out === names.map((name) => `${name}\n`).join(''), `listed ${out.split('\n').length - 1} names`);
}

/** All cases against whatever answers on a socket. */
export async function runUtils(socket: string, report: Report): Promise<void> {
  for (const each of CASES) await report.case(each.name, () => runCase(each, socket));
  await report.case('watch', () => watches(socket));
  await report.case('many clients', () => manyClients(socket));
  await report.case('a directory of 2,000', () => wideDirectory(socket));
}
