/**
 * Who uses which file, and whether others may (Xen's hotplug script `tools/hotplug/Linux/block`, check_sharing): mode `r` bears other
 * readers, `w` nobody else, `w!` asks nobody. Disks of one machine do not disturb each other. Files are told apart by device and
 * inode, not by path.
 */

export type DiskMode = 'r' | 'w' | 'w!';

export const isDiskMode = (mode: string): mode is DiskMode => mode === 'r' || mode === 'w' || mode === 'w!';

export interface ImageUser {
  /** What tells the machine from others, across its domain ids. */
  readonly machine: string;
  readonly mode: DiskMode;
}

export class ImageShares {
  readonly #users = new Map<string, Set<ImageUser>>();

  /** Counts a user of a file; undefined when others do not bear it. The function that ends the use may be called again. */
  claim(identity: string, user: ImageUser): (() => void) | undefined {
    const users = this.#users.get(identity) ?? new Set<ImageUser>();
    for (const other of users) if (!bear(other, user)) return undefined;
    users.add(user);
    this.#users.set(identity, users);
    return () => {
      users.delete(user);
      if (users.size === 0 && this.#users.get(identity) === users) this.#users.delete(identity);
    };
  }

  /** Files in use. */
  get size(): number {
    return this.#users.size;
  }
}

function bear(other: ImageUser, user: ImageUser): boolean {
  if (user.mode === 'w!' || other.machine === user.machine) return true;
  return user.mode === 'r' && other.mode !== 'w';
}
