/** Domains that the core has heard of: introduced ones with their connection, and others that are only named in rights. */
import type { StoreConnection } from './connection.ts';
import type { WriteCredit } from './write-limit.ts';

export interface IntroducedDomain {
  readonly domid: number;
  readonly connection: StoreConnection;
  /** Its shutdown has been told by @releaseDomain. */
  shutdown: boolean;
  /** Where its ring is, as the toolstack said: decimal frame number and the domain's event channel port. */
  mfn: string;
  port: number;
  readonly credit: WriteCredit;
}

export class Domains {
  readonly introduced = new Map<number, IntroducedDomain>();
  /** Generation at which each was first heard of; forgotten with its death. */
  readonly #births = new Map<number, number>();

  /** The domain's birth: now, a new generation, when it had not been heard of. */
  birth(domid: number, newGeneration: () => number): number {
    if (domid === 0) return 0;
    let birth = this.#births.get(domid);
    if (birth === undefined) this.#births.set(domid, (birth = newGeneration()));
    return birth;
  }

  /** Infinity for a domain that nobody has heard of: it has no rights anywhere. */
  birthIfKnown(domid: number): number {
    return domid === 0 ? 0 : (this.#births.get(domid) ?? Infinity);
  }

  isKnown(domid: number): boolean {
    return domid === 0 || this.#births.has(domid);
  }

  known(): IterableIterator<[number, number]> {
    return this.#births.entries();
  }

  restoreBirth(domid: number, birth: number): void {
    this.#births.set(domid, birth);
  }

  /** Looked for in vain when the request that is being run was first seen. */
  absent: ReadonlySet<number> = new Set();

  forget(domid: number): void {
    this.introduced.delete(domid);
    this.#births.delete(domid);
  }
}
