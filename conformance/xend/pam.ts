/**
 * Logins of the Xen-API that real PAM decides: Debian's pamtester, libpam and the service `login` with pam_unix, on users and
 * passwords made for this, in a machine apart (apart.ts). Skipped, with the reason, where this process may not make one.
 */
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { childrenOf } from '@xenhost/daemon-kit';
import { assert, RpcConnection, until, type Report } from '@xenhost/testkit';
import { encodeCall, decodeResponse } from '@xenhost/xmlrpc-codec';
import { Apart, apartReason, debianProgram } from './apart.ts';
import { residentMiB } from './doors.ts';
import type { World } from './world.ts';

/** libpam's PAM_MAX_RESP_SIZE is 512, with the end of the string. */
const LONGEST = 'x'.repeat(511);
const PASSWORD = 'Correct "horse" \\ $HOME; bättery';
/** xend gives up a check after 60 s. */
const HANG_MS = 75_000;
/** What xend may grow by while helpers hang and write. */
const GROWTH_MIB = 64;

interface PamHost {
  readonly port: number;
  readonly socket: string;
  readonly pid: number;
  readonly log: string;
}

export async function runPam(_world: World, report: Report): Promise<void> {
  const name = 'logins that PAM decides';
  const helper = await debianProgram('/usr/bin/pamtester', ['pamtester']);
  const reason = apartReason() ?? ('reason' in helper ? helper.reason : undefined);
  if (reason !== undefined || 'reason' in helper) {
    report.skip(name, reason ?? '');
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'xh-'));
  try {
    const apart = new Apart(folder);
    makeUsers(apart);
    // Where the machine has no pamtester, the one that was fetched is in a folder that xend looks into.
    const bin = helper.file.replace(/\/pamtester$/, '');
    const enter = bin === '/usr/bin' ? [] : ['sh', '-ec', 'mount --bind "$0" /usr/local/bin; exec "$@"', bin];
    const own = [process.execPath, ...process.execArgv, new URL('pam-host.ts', import.meta.url).pathname];
    const child = apart.spawn([...enter, ...own], ['pipe', 'pipe', 'inherit'], helper.env);
    const ended = once(child, 'exit');
    try {
      assert(child.stdout !== null, 'no output');
      const line = await Promise.race([once(createInterface(child.stdout), 'line'), ended.then(() => undefined)]);
      assert(line !== undefined, 'the host with PAM did not start');
      await runLogins(JSON.parse(String(line[0])) as PamHost, apart, folder, report);
    } finally {
      child.stdin?.end();
      await ended;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function makeUsers(apart: Apart): void {
  const users = ['xh-right', 'xh-locked', 'xh-expired', 'xh-aged', 'xh-long', 'xh-hang', 'xh-chatty'];
  // By hand: useradd would write to the machine's logs too.
  apart.sh(
    users.map((user, i) => `echo '${user}:x:${64_100 + i}:65534::/:/bin/sh' >> /etc/passwd`).join('\n') +
      users.map((user) => `\necho '${user}:!:19000:0:99999:7:::' >> /etc/shadow`).join(''),
  );
  const passwords = users.map((user) => `${user}:${user === 'xh-long' ? LONGEST : PASSWORD}\n`);
  apart.sh(
    'chpasswd --crypt-method SHA512; usermod -L xh-locked; chage -E 1 xh-expired; chage -d 0 xh-aged',
    passwords.join(''),
  );
}

async function runLogins(host: PamHost, apart: Apart, folder: string, report: Report): Promise<void> {
  const login = async (user: string, password: string): Promise<string> => {
    const response = await fetch(`http://localhost:${host.port}/RPC2`, {
      method: 'POST',
      headers: { 'content-type': 'text/xml' },
      body: encodeCall('session.login_with_password', [user, password]),
    });
    const answer = decodeResponse(await response.text()) as Readonly<Record<string, unknown>>;
    if (answer['Status'] === 'Success') return `session ${String(answer['Value'])}`;
    return JSON.stringify(answer['ErrorDescription']);
  };
  const refused = '["SESSION_AUTHENTICATION_FAILED"]';
  const lets = (what: string, user: string, password: string): Promise<boolean> =>
    report.case(`PAM lets in: ${what}`, async () => {
      const said = await login(user, password);
      assert(/^session [0-9a-f-]{36}$/.test(said), said);
    });
  const refuses = (what: string, user: string, password: string): Promise<boolean> =>
    report.case(`PAM refuses: ${what}`, async () => {
      const said = await login(user, password);
      assert(said === refused, said);
    });
  await lets('the right password', 'xh-right', PASSWORD);
  await lets('the longest password', 'xh-long', LONGEST);
  await refuses('one character more', 'xh-long', `${LONGEST}x`);
  await refuses('a wrong password', 'xh-right', PASSWORD.slice(1));
  await refuses('an empty password', 'xh-right', '');
  await refuses('a locked account', 'xh-locked', PASSWORD);
  await refuses('an expired account', 'xh-expired', PASSWORD);
  await refuses('a password that must be changed', 'xh-aged', PASSWORD);
  await refuses('an unknown user', 'xh-nobody', PASSWORD);
  await refuses('a name with a line feed', 'xh-right\nroot', PASSWORD);
  await refuses('two lines for one password', 'xh-right', `wrong\n${PASSWORD}`);
  await report.case("the service's other rules hold: /etc/nologin", async () => {
    const file = join(apart.etc, 'nologin');
    writeFileSync(file, 'not now\n');
    const closed = await login('xh-right', PASSWORD);
    rmSync(file);
    assert(closed === refused, closed);
    const open = await login('xh-right', PASSWORD);
    assert(open.startsWith('session '), open);
  });
  await report.case('helpers that hang or write without end', () => hang(host, apart, folder, login, refused));
}

/** The stack becomes a program that sleeps, or writes for ever: xend answers others, stays small and ends them. */
async function hang(
  host: PamHost,
  apart: Apart,
  folder: string,
  login: (user: string, password: string) => Promise<string>,
  refused: string,
): Promise<string> {
  const programs = join(folder, 'bin');
  mkdirSync(programs);
  const script = join(programs, 'hang');
  writeFileSync(script, '#!/bin/sh\n[ "$PAM_USER" = xh-chatty ] && exec nice yes\nexec sleep 3600\n');
  chmodSync(script, 0o755);
  writeFileSync(join(apart.etc, 'pam.d', 'login'), `auth required pam_exec.so expose_authtok stdout ${script}\n`);
  const before = residentMiB(host.pid);
  const start = Date.now();
  const users = ['xh-hang', 'xh-chatty', 'xh-hang', 'xh-hang'];
  const under = Promise.all(users.map((user) => login(user, PASSWORD)));
  let most = 0;
  let slowest = 0;
  let children = 0;
  const connection = await RpcConnection.open({ path: host.socket });
  const watching = until(
    'all are refused',
    async () => {
      const at = Date.now();
      await connection.call('xend.domains', false);
      slowest = Math.max(slowest, Date.now() - at);
      most = Math.max(most, residentMiB(host.pid));
      children = Math.max(children, programsOfHelpers().length);
      return Promise.race([under.then(() => true), new Promise<boolean>((resolve) => setTimeout(resolve, 200, false))]);
    },
    HANG_MS,
  );
  try {
    await watching;
  } finally {
    connection.close();
  }
  const said = await under;
  assert(
    said.every((each) => each === refused),
    said.join(' '),
  );
  assert(children > 0, 'PAM ran no program');
  assert(most - before < GROWTH_MIB, `from ${Math.round(before)} to ${Math.round(most)} MiB`);
  await until(
    'no helper is left',
    () => Promise.resolve(programsOfHelpers().length === 0 && childrenOf(host.pid).length === 0),
    5000,
  );
  return `given up after ${Date.now() - start} ms, others waited ${slowest} ms at most`;
}

/** What pam_exec has started for the users who hang, whatever it has become. */
function programsOfHelpers(): readonly string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return /(^|\0)PAM_USER=xh-(hang|chatty)\0/.test(readFileSync(`/proc/${pid}/environ`, 'latin1'));
    } catch {
      return false;
    }
  });
}
