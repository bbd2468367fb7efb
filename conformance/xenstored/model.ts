/**
 * xenstored in its simplest form: maps that are copied and lists that are searched. It knows nodes, permissions, watches and
 * transactions as the C daemon 4.17 has them; no quotas, no domains that come and go. What the daemon is measured against where
 * there is no other daemon.
 */
import type { XsOpName } from '@xenhost/xs-wire';
import type { Step } from './world.ts';

const READ = 1;
const WRITE = 2;
const OWN = 4;
const RIGHTS: Readonly<Record<string, number>> = { n: 0, r: READ, w: WRITE, b: READ | WRITE };
const MAX_TRANSACTIONS = 11;

interface ModelNode {
  readonly value: string;
  /** As they travel: `n5`. */
  readonly perms: readonly string[];
  readonly children: readonly string[];
  readonly generation: number;
}

interface Watch {
  readonly who: string;
  readonly path: string;
  readonly token: string;
  /** Characters that the client does not see. */
  readonly hidden: number;
}

/** A node that a transaction has looked at. */
interface Seen {
  /** 0 when there was none. */
  readonly generation: number;
  readonly perms: readonly string[] | undefined;
  node: ModelNode | undefined;
  modified: boolean;
  fire: 'no' | 'exact' | 'below';
}

type Transaction = Map<string, Seen>;

/** What comes of a request: an error starts with `!`. */
type Answer = string;

const domidOf = (who: string): number => (who.startsWith('0') ? 0 : Number(who));
const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/';
const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const join = (path: string, name: string): string => (path === '/' ? `/${name}` : `${path}/${name}`);
const isBelow = (path: string, top: string): boolean => path === top || path.startsWith(top === '/' ? '/' : `${top}/`);

function rightsOf(who: string, [owner = 'n0', ...others]: readonly string[]): number {
  const domid = domidOf(who);
  if (domid === 0 || Number(owner.slice(1)) === domid) return READ | WRITE | OWN;
  const own = others.find((perm) => Number(perm.slice(1)) === domid) ?? owner;
  return RIGHTS[own.charAt(0)] ?? 0;
}

export class Model {
  readonly #tree = new Map<string, ModelNode>();
  readonly #watches: Watch[] = [];
  readonly #transactions = new Map<string, Map<number, Transaction>>();
  #said = new Map<string, string[]>();
  #generation = 0;
  #wantedId: number | undefined;
  /** The tree, or the transaction of the request under way. */
  #view: Transaction | undefined;

  constructor(guests: readonly string[]) {
    this.#tree.set('/', { value: '', perms: ['n0'], children: [], generation: 1 });
    for (const path of ['/tool/xenstored', '/local/domain/0/domid', '/local/domain/0/name'])
      this.#create('0', path, { '/local/domain/0/domid': '0', '/local/domain/0/name': 'Domain-0' }[path] ?? '');
    for (const domid of guests) {
      this.#create('0', `/local/domain/${domid}`, '');
      this.#set(`/local/domain/${domid}`, { perms: [`n${domid}`] });
    }
  }

  /** What each client gets, who asked included. `transactionId`: what the daemon calls the transaction that this starts. */
  step([sender, op, payload]: Step, transactionId?: number): ReadonlyMap<string, readonly string[]> {
    this.#said = new Map();
    this.#wantedId = transactionId;
    const [who = '', id = '0'] = sender.split(':');
    if (op !== '-') {
      const answer = this.#answer(who, Number(id), op as XsOpName, payload);
      if (op === 'WATCH' && answer === 'OK|') this.#list(who).unshift(answer);
      else this.#list(who).push(answer);
    }
    this.#view = undefined;
    return this.#said;
  }

  /** The daemon was killed and started anew: tools are new ones; guests keep their watches, each of which fires; transactions are gone. */
  restart(): ReadonlyMap<string, readonly string[]> {
    this.#said = new Map();
    this.#transactions.clear();
    this.#watches.splice(0, this.#watches.length, ...this.#watches.filter(({ who }) => domidOf(who) !== 0));
    for (const { who, path, token, hidden } of this.#watches) this.#list(who).push(`@ ${path.slice(hidden)}|${token}|`);
    return this.#said;
  }

  /** Every node: path, value, permissions, children. */
  *nodes(): Generator<readonly [path: string, value: string, perms: string, children: string]> {
    const list = (texts: readonly string[]): string => texts.map((each) => `${each}|`).join('');
    for (const [path, { value, perms, children }] of this.#tree) yield [path, value, list(perms), list(children)];
  }

  #answer(who: string, id: number, op: XsOpName, payload: string): Answer {
    const strings = payload.split('|').slice(0, -1);
    const [first = '', second = ''] = strings;
    const one = strings.length === 1 ? first : undefined;
    const ignoresTransaction = op === 'WATCH' || op === 'UNWATCH';
    if (id !== 0 && !ignoresTransaction) {
      this.#view = this.#transactions.get(who)?.get(id);
      if (!this.#view) return '!ENOENT';
    }
    switch (op) {
      case 'READ':
        return this.#with(who, one, READ, ({ value }) => value);
      case 'DIRECTORY':
        return this.#with(who, one, READ, ({ children }) => children.map((name) => `${name}|`).join(''));
      case 'GET_PERMS':
        return this.#with(who, one, READ, ({ perms }) => perms.map((perm) => `${perm}|`).join(''));
      case 'DIRECTORY_PART':
        if (strings.length !== 2) return '!EINVAL';
        return this.#with(who, first, READ, ({ children }) => {
          const all = children.map((name) => `${name}|`).join('');
          const offset = parseInt(second, 10) || 0;
          return `GEN|${offset < 0 ? '' : all.slice(offset)}|`;
        });
      case 'WRITE': {
        const nul = payload.indexOf('|');
        return this.#write(who, payload.slice(0, nul), payload.slice(nul + 1));
      }
      case 'MKDIR':
        return this.#write(who, first, undefined);
      case 'RM':
        return this.#rm(who, first);
      case 'SET_PERMS':
        return this.#setPerms(who, strings);
      case 'WATCH':
      case 'UNWATCH':
        return op === 'WATCH' ? this.#watch(who, first, second) : this.#unwatch(who, first, second);
      case 'RESET_WATCHES':
        for (const each of this.#watches.filter((watch) => watch.who === who))
          this.#watches.splice(this.#watches.indexOf(each), 1);
        this.#transactions.delete(who);
        return 'OK|';
      case 'TRANSACTION_START':
        return this.#start(who);
      case 'TRANSACTION_END':
        return this.#end(who, id, one);
      case 'GET_DOMAIN_PATH':
        return one === undefined ? '!EINVAL' : `/local/domain/${(parseInt(one, 10) || 0) >>> 0}|`;
      default:
        throw new Error(`the model has no ${op}`);
    }
  }

  /* nodes */

  #with(who: string, given: string | undefined, rights: number, answer: (node: ModelNode) => Answer): Answer {
    const path = this.#path(who, given);
    if (path === undefined) return '!EINVAL';
    const node = this.#node(who, path, rights);
    return typeof node === 'string' ? node : answer(node);
  }

  #write(who: string, given: string, value: string | undefined): Answer {
    const path = this.#path(who, given);
    if (path === undefined) return '!EINVAL';
    const node = this.#node(who, path, WRITE);
    if (typeof node === 'string') {
      if (node !== '!ENOENT') return node;
      this.#create(who, path, value ?? '');
    } else if (value === undefined) return 'OK|';
    else this.#set(path, { value });
    this.#changed(path, false);
    return 'OK|';
  }

  #create(who: string, path: string, value: string): void {
    const parent = parentOf(path);
    if (!this.#get(parent)) this.#create(who, parent, '');
    const { perms, children } = this.#get(parent) ?? { perms: [], children: [] };
    const [owner = 'n0', ...others] = perms;
    const domid = domidOf(who);
    const own = domid === 0 ? perms : [`${owner.charAt(0)}${domid}`, ...others];
    this.#put(path, { value, perms: own, children: [], generation: 0 });
    this.#set(parent, { children: [...children, nameOf(path)] });
  }

  #rm(who: string, given: string): Answer {
    const path = this.#path(who, given);
    if (path === undefined) return '!EINVAL';
    const node = this.#node(who, path, WRITE);
    if (typeof node === 'string') return node === '!ENOENT' && this.#get(parentOf(path)) ? 'OK|' : node;
    if (path === '/') return '!EINVAL';
    const going = this.#subtree(path);
    for (const each of going) this.#changed(each, each !== path);
    for (const each of going) this.#put(each, undefined);
    const parent = this.#get(parentOf(path));
    this.#set(parentOf(path), { children: parent?.children.filter((name) => name !== nameOf(path)) ?? [] });
    return 'OK|';
  }

  #setPerms(who: string, [given, ...perms]: readonly string[]): Answer {
    if (given === undefined || perms.length === 0) return '!EINVAL';
    if (perms.some((perm) => !/^[nrwb]\d+$/.test(perm))) return '!EINVAL';
    const path = this.#path(who, given);
    if (path === undefined) return '!EINVAL';
    const node = this.#node(who, path, WRITE | OWN);
    if (typeof node === 'string') return node;
    if (domidOf(who) !== 0 && perms[0]?.slice(1) !== node.perms[0]?.slice(1)) return '!EPERM';
    this.#set(path, { perms });
    this.#changed(path, false, node.perms);
    return 'OK|';
  }

  /** The node with all of the rights, or the error; the nearest ancestor decides who may know that there is none. */
  #node(who: string, path: string, rights: number): ModelNode | Answer {
    const node = this.#get(path);
    if (node && (rightsOf(who, node.perms) & rights) === rights) return node;
    let at = path;
    let ancestor: ModelNode | undefined;
    do {
      at = parentOf(at);
      ancestor = this.#get(at);
    } while (!ancestor && at !== '/');
    return !node && ancestor && rightsOf(who, ancestor.perms) & rights ? '!ENOENT' : '!EACCES';
  }

  #path(who: string, given: string | undefined, special = false): string | undefined {
    if (given === undefined || !/^[A-Za-z0-9\-/_@]*$/.test(given)) return undefined;
    if (given.startsWith('@')) return special ? given : undefined;
    const path = given.startsWith('/') ? given : `/local/domain/${domidOf(who)}/${given}`;
    return path.includes('//') || (path !== '/' && path.endsWith('/')) ? undefined : path;
  }

  /** Children before their parent. */
  #subtree(path: string): string[] {
    const below = this.#get(path)?.children ?? [];
    return [...below.flatMap((name) => this.#subtree(join(path, name))), path];
  }

  /* the tree, or a transaction's view of it */

  #get(path: string): ModelNode | undefined {
    return this.#view ? this.#look(this.#view, path).node : this.#tree.get(path);
  }

  #put(path: string, node: ModelNode | undefined): void {
    if (this.#view) Object.assign(this.#look(this.#view, path), { node, modified: true });
    else if (node) this.#tree.set(path, { ...node, generation: ++this.#generation + 1 });
    else this.#tree.delete(path);
  }

  #set(path: string, change: Partial<ModelNode>): void {
    const node = this.#get(path);
    if (node) this.#put(path, { ...node, ...change });
  }

  #look(view: Transaction, path: string): Seen {
    let seen = view.get(path);
    if (!seen) {
      const node = this.#tree.get(path);
      seen = { generation: node?.generation ?? 0, perms: node?.perms, node, modified: false, fire: 'no' };
      view.set(path, seen);
    }
    return seen;
  }

  /* transactions */

  #start(who: string): Answer {
    if (this.#view) return '!EBUSY';
    let open = this.#transactions.get(who);
    if (!open) this.#transactions.set(who, (open = new Map<number, Transaction>()));
    if (domidOf(who) !== 0 && open.size >= MAX_TRANSACTIONS) return '!ENOSPC';
    // Which number it is, is the daemon's own affair.
    const id = this.#wantedId ?? 1;
    open.set(id, new Map());
    return `${id}|`;
  }

  #end(who: string, id: number, how: string | undefined): Answer {
    if (how !== 'T' && how !== 'F') return '!EINVAL';
    const view = this.#view;
    if (!view) return '!ENOENT';
    this.#transactions.get(who)?.delete(id);
    this.#view = undefined;
    if (how === 'F') return 'OK|';
    for (const [path, { generation }] of view)
      if ((this.#tree.get(path)?.generation ?? 0) !== generation) return '!EAGAIN';
    for (const [path, { node, modified }] of view) if (modified) this.#put(path, node);
    for (const [path, { fire, perms }] of view) if (fire !== 'no') this.#fire(path, fire === 'exact', perms);
    return 'OK|';
  }

  /* watches */

  #watch(who: string, given: string, token: string): Answer {
    const path = this.#path(who, given, true);
    if (path === undefined) return '!EINVAL';
    if (this.#watches.some((each) => each.who === who && each.path === path && each.token === token)) return '!EEXIST';
    const hidden = /^[/@]/.test(given) ? 0 : path.length - given.length;
    this.#watches.push({ who, path, token, hidden });
    this.#list(who).push(`@ ${given}|${token}|`);
    return 'OK|';
  }

  #unwatch(who: string, given: string, token: string): Answer {
    const path = /^[/@]/.test(given) ? given : `/local/domain/${domidOf(who)}/${given}`;
    const at = this.#watches.findIndex((each) => each.who === who && each.path === path && each.token === token);
    if (at < 0) return '!ENOENT';
    this.#watches.splice(at, 1);
    return 'OK|';
  }

  #changed(path: string, exact: boolean, oldPerms?: readonly string[]): void {
    if (!this.#view) {
      this.#fire(path, exact, oldPerms);
      return;
    }
    const seen = this.#look(this.#view, path);
    if (seen.fire !== 'below') seen.fire = exact ? 'exact' : 'below';
  }

  #fire(path: string, exact: boolean, oldPerms?: readonly string[]): void {
    for (const { who, path: watched, token, hidden } of this.#watches) {
      if (!(exact ? path === watched : isBelow(path, watched)) || !this.#mayHear(who, path, oldPerms)) continue;
      const event = `@ ${path.slice(hidden)}|${token}|`;
      const list = this.#list(who);
      if (!list.includes(event)) list.push(event);
    }
  }

  #mayHear(who: string, path: string, oldPerms: readonly string[] | undefined): boolean {
    const mayRead = (perms: readonly string[] | undefined): boolean =>
      perms !== undefined && (rightsOf(who, perms) & READ) !== 0;
    const node = this.#tree.get(path);
    return (
      mayRead(oldPerms) ||
      (node !== undefined && (mayRead(node.perms) || mayRead(this.#tree.get(parentOf(path))?.perms)))
    );
  }

  #list(who: string): string[] {
    let list = this.#said.get(who);
    if (!list) this.#said.set(who, (list = []));
    return list;
  }
}
