/** Random requests of two tools and two guests over a small tree: what the differential runs send. */
import type { XsOpName } from '@xenhost/xs-wire';
import { Random } from '../cpu/random.ts';
import type { Step } from './world.ts';

export const TOOLS = ['0', '0a'] as const;
export const GUESTS = ['5', '6'] as const;
const CLIENTS = [...TOOLS, ...GUESTS];
/** A domain that has no ring: introduced, released, introduced again. */
const PASSING_DOMAIN = '7';

const ABSOLUTE = [
  ...['/', '/a', '/a/b', '/a/b/c', '/a/b/c/d', '/x', '/x/y', '/x/y-1_@z', '/local', '/local/domain', '/tool'],
  ...GUESTS.flatMap((domid) =>
    ['', '/data', '/data/p', '/data/p/q', '/shared'].map((rest) => `/local/domain/${domid}${rest}`),
  ),
];
const RELATIVE = ['data', 'data/p', 'data/p/q', 'shared', 'rel/own'];
const WRONG = [
  '',
  '/a//b',
  '/a/',
  '/\xe4',
  '/a b',
  '@introduceDomain',
  '@releaseDomain',
  '@other',
  '//',
  '.',
  '/a/../b',
];
const TOKENS = ['t', 'u', ''];
const VALUES = ['', '1', '22', 'three', 'a|b', '\xff\x01'];
const PERMISSIONS = ['n0', 'r0', 'b0', 'n5', 'r5', 'w5', 'b5', 'n6', 'r6', 'w6', 'b6', 'n7', 'x5', 'n', ''];

/** Weights of what is sent. */
const MENU: Readonly<Partial<Record<XsOpName, number>>> = {
  READ: 100, WRITE: 200, MKDIR: 80, RM: 70, DIRECTORY: 80, DIRECTORY_PART: 20, GET_PERMS: 50, SET_PERMS: 90, WATCH: 80, UNWATCH: 40,
  RESET_WATCHES: 5, TRANSACTION_START: 80, TRANSACTION_END: 90, GET_DOMAIN_PATH: 10, IS_DOMAIN_INTRODUCED: 10, SET_TARGET: 5,
  INTRODUCE: 7, RELEASE: 7, RESUME: 3,
}; // prettier-ignore

const ABOUT_DOMAINS: readonly XsOpName[] = ['IS_DOMAIN_INTRODUCED', 'SET_TARGET', 'INTRODUCE', 'RELEASE', 'RESUME'];

export class Sequence {
  readonly #random: Random;
  readonly #permissions: readonly string[];
  readonly #menu: readonly (readonly [XsOpName, number])[];
  /** Open transactions of each client, as this end believes. */
  readonly #open = new Map<string, number[]>(CLIENTS.map((name) => [name, []]));

  /** `plain`: without domains that come and go or have a target. */
  constructor(seed: number, kind: 'whole' | 'plain' = 'whole') {
    this.#permissions = PERMISSIONS.filter((perm) => kind === 'whole' || perm !== `n${PASSING_DOMAIN}`);
    this.#random = new Random(seed);
    // Every other sequence has no transactions: what they do would hide the rest.
    this.#menu = (Object.entries(MENU) as [XsOpName, number][]).filter(
      ([op]) => (seed % 2 === 0 || !op.startsWith('TRANSACTION')) && (kind === 'whole' || !ABOUT_DOMAINS.includes(op)),
    );
  }

  next(): Step {
    const who = this.#one(CLIENTS);
    const op = this.#operation();
    const open = this.#open.get(who) ?? [];
    if (op === 'TRANSACTION_END') {
      const id = this.#chance(0.9) ? (open.length > 0 ? this.#one(open) : undefined) : 99;
      if (id !== undefined && id !== 99) open.splice(open.indexOf(id), 1);
      const payload = this.#chance(0.95) ? this.#one(['T|', 'T|', 'T|', 'F|']) : this.#one(['', 'X|', 'T', 'T|T|']);
      return [`${who}:${id ?? 0}`, op, payload];
    }
    const inside = op !== 'TRANSACTION_START' && this.#chance(0.6) ? open.at(-1) : undefined;
    return [inside === undefined ? who : `${who}:${inside}`, op, this.#payload(op)];
  }

  /** The answer to the last TRANSACTION_START of a client. */
  started(who: string, answer: string): void {
    const id = Number(answer.replace('|', ''));
    if (Number.isInteger(id)) this.#open.get(who)?.push(id);
  }

  #payload(op: XsOpName): string {
    switch (op) {
      case 'WRITE':
        return `${this.#path()}|${this.#one(VALUES)}`;
      case 'SET_PERMS': {
        const count = this.#chance(0.97) ? 1 + this.#random.below(3) : 0;
        const perms = Array.from({ length: count }, () => `${this.#permission()}|`);
        // A root that belongs to a domain goes with it in the C daemon, and all the tree.
        const path = this.#path(0);
        return `${path === '/' && perms[0] === `n${PASSING_DOMAIN}|` ? '/a' : path}|${perms.join('')}`;
      }
      case 'WATCH':
      case 'UNWATCH':
        return `${this.#path(0.1)}|${this.#one(TOKENS)}|`;
      case 'DIRECTORY_PART':
        return `${this.#path()}|${this.#one(['0', '0', '2', '99', '-1', 'x'])}|`;
      case 'TRANSACTION_START':
        return this.#chance(0.95) ? '|' : this.#one(['', 'x|']);
      case 'GET_DOMAIN_PATH':
      case 'IS_DOMAIN_INTRODUCED':
        return this.#one(['0|', '5|', '7|', '99|', '65535|', '70000|', '-1|', 'x|', '|', '', '5']);
      case 'SET_TARGET':
        return this.#one(['5|6|', '6|5|', '99|5|', '5|99|', '5|', '']);
      case 'INTRODUCE':
        return this.#one([`${PASSING_DOMAIN}|1|1|`, `${PASSING_DOMAIN}|1|1|`, '7|1|', '7|1|0|']);
      case 'RELEASE':
      case 'RESUME':
        return this.#one([`${PASSING_DOMAIN}|`, `${PASSING_DOMAIN}|`, '99|', '0|', '|', '7']);
      case 'RESET_WATCHES':
        return this.#one(['|', '', 'x']);
      default:
        return `${this.#path()}|`;
    }
  }

  /** Payloads without their NUL are left out: what the C daemon answers is whichever error came last. */
  #path(wrong = 0.04): string {
    if (this.#chance(wrong)) return this.#one(WRONG);
    return this.#chance(0.75) ? this.#one(ABSOLUTE) : this.#one(RELATIVE);
  }

  #permission(): string {
    const right = this.#permissions.filter((perm) => /^[nrwb]\d+$/.test(perm));
    return this.#chance(0.95) ? this.#one(right) : this.#one(this.#permissions);
  }

  #operation(): XsOpName {
    let left = this.#random.below(this.#menu.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [op, weight] of this.#menu) if ((left -= weight) < 0) return op;
    return 'READ';
  }

  #chance(probability: number): boolean {
    return this.#random.u32() < probability * 2 ** 32;
  }

  #one<T>(values: readonly T[]): T {
    return this.#random.pick(values);
  }
}
