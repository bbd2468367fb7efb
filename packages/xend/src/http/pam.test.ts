import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MAX_CREDENTIAL_LENGTH } from '../limits.ts';
import { memoryLog } from '../node/log.ts';
import { pamAuthenticator } from './pam.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** Stands in for pamtester: lets `right` in with the password `secret word`, and notes how it was called. */
function helper(): { readonly path: string; readonly calls: () => string } {
  const path = join(directory, 'pamtester');
  const notes = join(directory, 'notes');
  writeFileSync(
    path,
    `#!/bin/sh\nread -r password\necho "$@" >> ${notes}\n[ "$2" = right ] && [ "$password" = "secret word" ]\n`,
  );
  chmodSync(path, 0o755);
  return { path, calls: () => readFileSync(notes, 'utf8') };
}

it('asks the helper for authentication and account', async () => {
  const { path, calls } = helper();
  const log = memoryLog();
  const authenticate = pamAuthenticator(log, ['/none/there', path]);
  expect(await authenticate('right', 'secret word')).toBe(true);
  expect(await authenticate('right', 'secret')).toBe(false);
  expect(await authenticate('other', 'secret word')).toBe(false);
  expect(calls()).toBe('login right authenticate acct_mgmt\n'.repeat(2) + 'login other authenticate acct_mgmt\n');
  expect(log.lines).toHaveLength(2);
  expect(log.lines.join()).not.toContain('secret');
});

it.each([
  ['-v', 'x'],
  ['', 'x'],
  ['a b', 'x'],
  ['a\nb', 'x'],
  ['right', 'secret word\n'],
  ['right', 'secret word\0'],
  ['x'.repeat(MAX_CREDENTIAL_LENGTH + 1), 'x'],
  ['right', 'x'.repeat(MAX_CREDENTIAL_LENGTH + 1)],
])('does not ask for %j with %j', async (user, password) => {
  const { path, calls } = helper();
  expect(await pamAuthenticator(memoryLog(), [path])(user, password)).toBe(false);
  expect(calls).toThrow('ENOENT');
});

it('lets many wait and none in by that', async () => {
  const { path } = helper();
  const authenticate = pamAuthenticator(memoryLog(), [path]);
  const all = await Promise.all(
    Array.from({ length: 12 }, (_, i) => authenticate(i % 2 === 0 ? 'right' : 'wrong', 'secret word')),
  );
  expect(all).toEqual(Array.from({ length: 12 }, (_, i) => i % 2 === 0));
});

it('says what to install where there is no helper', async () => {
  const log = memoryLog();
  expect(await pamAuthenticator(log, ['/none/there'])('right', 'secret word')).toBe(false);
  expect(log.lines.join()).toContain('Install the package pamtester');
});
