/**
 * Collaborators that xend can be killed among: each call to them is a step, and from a given step on nothing that was
 * asked for happens and no answer comes, as after kill -9.
 */
import type { XenstoreClient } from '@xenhost/xenstore-client';
import type { XendPorts } from '../index.ts';
import type { ManagedStore } from '../store/managed.ts';

/** Calls that change nothing: to die before one is to die before the next that does. */
const LOOKS = /^(?:tryRead|read|readString|exists|tryDirectory|directory|getPerms|load\w*|list\w*|\w*Get\w*|physinfo|schedId)$/; // prettier-ignore

const never = (): Promise<never> => new Promise<never>(() => undefined);

export class Mortal {
  /** Resolves with the name of the step that was not done. */
  readonly death: Promise<string>;
  #steps = 0;
  #last = Infinity;
  #die!: (step: string) => void;
  #dead = false;

  constructor() {
    this.death = new Promise((resolve) => {
      this.#die = resolve;
    });
  }

  /** Counts from now; the step of this number, 1 being the next, is the one that is not done. */
  arm(step: number): void {
    this.#steps = 0;
    this.#last = step;
  }

  #step(name: string, counts = true): boolean {
    if (counts) this.#steps += 1;
    if (!this.#dead && this.#steps >= this.#last) {
      this.#dead = true;
      this.#die(name);
    }
    return !this.#dead;
  }

  ports(ports: XendPorts, store: XenstoreClient): XendPorts {
    return {
      ...ports,
      xc: this.#wrap(ports.xc),
      store: this.#wrap(store),
      build: async (options) => (this.#step('build') ? ports.build(options) : never()),
    };
  }

  managed(store: ManagedStore): ManagedStore {
    return this.#wrap(store);
  }

  /** `inside` a transaction nothing has happened until it ends. */
  #wrap<T extends object>(target: T, inside = false): T {
    return new Proxy(target, {
      get: (_, key) => {
        const member = Reflect.get(target, key) as unknown;
        if (typeof member !== 'function' || key === 'checkpointPath' || key === 'watch') {
          return typeof member === 'function' ? (member as (...args: unknown[]) => unknown).bind(target) : member;
        }
        return async (...args: unknown[]): Promise<unknown> => {
          if (!this.#step(String(key), !inside && !LOOKS.test(String(key)))) return never();
          const given = key === 'transaction' ? [this.#wrapBody(args[0] as Body)] : args;
          return (await Reflect.apply(member, target, given)) as unknown;
        };
      },
    });
  }

  /** A death leaves a transaction open, until the connection closes. */
  #wrapBody(body: Body): Body {
    return async (t) => body(this.#wrap(t, true));
  }
}

type Body = (t: object) => Promise<unknown>;
