/**
 * Passwords asked of PAM (Xen 4.4 `XendAuthSessions.py`): the service `login`, authentication and then the account. node
 * has no PAM of its own, so Debian's `pamtester` asks, one process a login: it runs the whole stack of the service, as
 * PyPAM did for xend; unix_chkpwd alone would pass over the service's other rules (docs/RATIONALE.md).
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { childrenOf } from '@xenhost/daemon-kit';
import {
  MAX_CREDENTIAL_LENGTH,
  MAX_PASSWORD_CHECKS,
  MAX_WAITING_PASSWORD_CHECKS,
  PASSWORD_CHECK_TIMEOUT_MS,
} from '../limits.ts';
import type { XendLog } from '../node/log.ts';

const SERVICE = 'login';
const HELPERS = ['/usr/bin/pamtester', '/usr/local/bin/pamtester', '/bin/pamtester'];

/** No line feed or other control character, and no dash first: it is an argument of a command and a line of its input. */
const NAME = /^[^-\0-\x20\x7f][^\0-\x20\x7f]*$/;
const PASSWORD = /^[^\0\n\r]*$/;

export type Authenticate = (user: string, password: string) => Promise<boolean>;

/** Whether the password is the user's. Without a helper nobody is let in, and the log says what to install. */
export function pamAuthenticator(log: XendLog, helpers: readonly string[] = HELPERS): Authenticate {
  let checks = 0;
  const waiting: (() => void)[] = [];
  return async (user, password) => {
    const helper = helpers.find(isExecutable);
    if (helper === undefined) {
      log.error(
        'XendAuthSessions',
        'Nobody can log in: PAM is asked through pamtester. Install the package pamtester.',
      );
      return false;
    }
    if (!NAME.test(user) || !PASSWORD.test(password)) return false;
    if (user.length > MAX_CREDENTIAL_LENGTH || password.length > MAX_CREDENTIAL_LENGTH) return false;
    if (checks >= MAX_PASSWORD_CHECKS) {
      if (waiting.length >= MAX_WAITING_PASSWORD_CHECKS) {
        log.warn('XendAuthSessions', `Too many logins at a time: refused ${user}`);
        return false;
      }
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
    checks += 1;
    try {
      const right = await ask(helper, user, password);
      if (!right) log.warn('XendAuthSessions', `PAM does not let ${user} in`);
      return right;
    } finally {
      checks -= 1;
      waiting.shift()?.();
    }
  };
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function ask(helper: string, user: string, password: string): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(helper, [SERVICE, user, 'authenticate', 'acct_mgmt'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const giveUp = setTimeout(() => {
      if (child.pid !== undefined) killTree(child.pid);
    }, PASSWORD_CHECK_TIMEOUT_MS);
    const end = (right: boolean): void => {
      clearTimeout(giveUp);
      resolve(right);
    };
    child.once('error', () => {
      end(false);
    });
    child.once('exit', (code) => {
      end(code === 0);
    });
    // It may have ended before it read: its exit code tells.
    child.stdin.on('error', () => undefined);
    child.stdin.end(`${password}\n`);
  });
}

/** A process and what its modules have started: pam_exec gives its program a session of its own, so a group would miss it. */
function killTree(pid: number): void {
  if (!signal(pid, 'SIGSTOP')) return;
  for (const child of childrenOf(pid)) killTree(child);
  signal(pid, 'SIGKILL');
}

/** Whether it was still there. */
function signal(pid: number, name: 'SIGSTOP' | 'SIGKILL'): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}
