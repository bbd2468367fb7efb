/** Who is logged in (Xen 4.4 `XendAuthSessions.py`). Sessions end by logout, by time, and by too many others; xend's end ends all. */
import { randomUUID } from 'node:crypto';
import type { Clock } from '@xenhost/base';
import { authenticationFailed, limitReached, sessionInvalid } from './errors.ts';
import { MAX_LOGINS_UNDER_WAY, MAX_SESSIONS } from './limits.ts';

export interface Session {
  readonly ref: string;
  readonly user: string;
  /** Nanoseconds of the monotonic clock. */
  lastActiveNs: bigint;
  lastActive: Date;
}

const NS_PER_S = 1_000_000_000n;
const NS_PER_MS = 1_000_000n;

export class Sessions {
  /** The quietest first. */
  readonly #sessions = new Map<string, Session>();
  readonly #clock: Clock;
  readonly #idleNs: bigint;
  readonly #ended: (ref: string) => void;
  #loginsUnderWay = 0;

  /** `ended` is told of each session that is no more. */
  constructor(options: { readonly idleS: number }, modules: { readonly clock: Clock; ended(ref: string): void }) {
    this.#idleNs = BigInt(options.idleS) * NS_PER_S;
    this.#clock = modules.clock;
    this.#ended = (ref) => {
      modules.ended(ref);
    };
  }

  /** Asks the authenticator. Throws SESSION_AUTHENTICATION_FAILED. */
  async login(user: string, allow: () => Promise<boolean>): Promise<Session> {
    if (this.#loginsUnderWay >= MAX_LOGINS_UNDER_WAY) throw limitReached('logins', MAX_LOGINS_UNDER_WAY);
    this.#loginsUnderWay += 1;
    try {
      if (!(await allow())) throw authenticationFailed();
    } finally {
      this.#loginsUnderWay -= 1;
    }
    const session: Session = { ref: randomUUID(), user, lastActiveNs: 0n, lastActive: new Date(0) };
    this.#touch(session);
    this.#sweep();
    return session;
  }

  /** The session behind a reference, as active now. Throws SESSION_INVALID. */
  use(ref: unknown): Session {
    this.#sweep();
    const session = typeof ref === 'string' ? this.#sessions.get(ref) : undefined;
    if (!session) throw sessionInvalid(typeof ref === 'string' ? ref : '');
    this.#touch(session);
    return session;
  }

  has(ref: string): boolean {
    return this.#sessions.has(ref);
  }

  logout(ref: string): void {
    if (this.#sessions.delete(ref)) this.#ended(ref);
  }

  close(): void {
    for (const ref of [...this.#sessions.keys()]) this.logout(ref);
  }

  #touch(session: Session): void {
    session.lastActiveNs = this.#clock.monotonicNs();
    session.lastActive = new Date(Number(this.#clock.wallNs() / NS_PER_MS));
    this.#sessions.delete(session.ref);
    this.#sessions.set(session.ref, session);
  }

  #sweep(): void {
    const oldest = this.#clock.monotonicNs() - this.#idleNs;
    for (const session of this.#sessions.values()) {
      if (session.lastActiveNs >= oldest && this.#sessions.size <= MAX_SESSIONS) break;
      this.logout(session.ref);
    }
  }
}
