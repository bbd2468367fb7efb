/** Lists of rights as they are set, and those of the special watches. */
import type { Domains } from './domains.ts';
import type { StoreChange } from './journal.ts';
import { PermList, dom0Only } from './perms.ts';
import type { StoredPerm } from './perms.ts';

export const INTRODUCE_DOMAIN = '@introduceDomain';
export const RELEASE_DOMAIN = '@releaseDomain';
/** Lists remembered, so that nodes with the same rights share one. */
const SHARED_MAX = 1024;

export interface RightsModules {
  readonly known: Domains;
  /** The generation now; births take a new one, so that a list that was set before is older. */
  readonly generation: () => number;
  readonly newGeneration: () => number;
  readonly note: (change: StoreChange) => void;
}

export class Rights {
  readonly special = new Map<string, PermList>();
  readonly #modules: RightsModules;
  readonly #shared = new Map<string, PermList>();

  constructor(modules: RightsModules) {
    this.#modules = modules;
    this.resetSpecial();
  }

  /** The list of these entries, set now. Domains that they name become known. */
  list(entries: readonly StoredPerm[]): PermList {
    const { known, generation, newGeneration } = this.#modules;
    let youngest = 0;
    let key = '';
    for (const { domid, access, stale } of entries) {
      if (!stale) youngest = Math.max(youngest, known.birth(domid, newGeneration));
      key += `${access}${domid}${stale ? '!' : ','}`;
    }
    const shared = this.#shared.get(key);
    if (shared && shared.stamp >= youngest) return shared;
    const list = new PermList(entries, generation());
    if (this.#shared.size >= SHARED_MAX) this.#shared.clear();
    this.#shared.set(key, list);
    return list;
  }

  /** Entries with those marked that count no more. */
  describe(list: PermList): readonly StoredPerm[] {
    const outdated = ({ domid, stale }: StoredPerm, i: number): boolean =>
      i > 0 && !stale && this.#modules.known.birthIfKnown(domid) > list.stamp;
    if (!list.entries.some(outdated)) return list.entries;
    return list.entries.map((perm, i) => (outdated(perm, i) ? { ...perm, stale: true } : perm));
  }

  setSpecial(name: string, perms: PermList): void {
    this.special.set(name, perms);
    this.#modules.note({ op: 'special', name, perms: this.describe(perms) });
  }

  resetSpecial(): void {
    this.special.set(INTRODUCE_DOMAIN, dom0Only());
    this.special.set(RELEASE_DOMAIN, dom0Only());
  }

  /** A dead domain's entries go; what it owned is Domain-0's. */
  dropSpecial(domid: number): void {
    for (const [name, perms] of this.special) {
      if (!perms.entries.some((perm) => perm.domid === domid)) continue;
      const others = perms.entries.filter((perm, i) => i === 0 || perm.domid !== domid);
      const kept = new PermList(others, perms.stamp);
      this.setSpecial(name, kept.owner === domid ? kept.ownedBy(0) : kept);
    }
  }
}
