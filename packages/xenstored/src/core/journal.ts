/**
 * What the core tells of its committed changes, and how it is rebuilt from them. The core calls the port, XenstoreCore.restore()
 * and snapshot() are the other direction. Nothing here is about a disk: encoding, checksums and compaction are the server's.
 */
import type { StoredPerm } from './perms.ts';

/**
 * One change of the store. Values are latin1 strings, one character a byte. Applied in order to the store they were made in, they
 * give the same store again, order of children included: `create` puts a node behind its siblings.
 */
export type StoreChange =
  /** The store is empty but for `/` (owned by domain 0, no value); no domains, default rights of special watches. */
  | { readonly op: 'reset' }
  /** A new node. Its parent exists. */
  | { readonly op: 'create'; readonly path: string; readonly value: string; readonly perms: readonly StoredPerm[] }
  | { readonly op: 'write'; readonly path: string; readonly value: string }
  | { readonly op: 'perms'; readonly path: string; readonly perms: readonly StoredPerm[] }
  /** A node is gone, with all below it. */
  | { readonly op: 'rm'; readonly path: string }
  /** Rights of the special watches `@introduceDomain` and `@releaseDomain`. */
  | { readonly op: 'special'; readonly name: string; readonly perms: readonly StoredPerm[] }
  /** A domain has been introduced, or again with other numbers. `mfn` is decimal. */
  | { readonly op: 'introduce'; readonly domid: number; readonly mfn: string; readonly port: number }
  /** A domain is gone, introduced or only named in rights. Its nodes go by `rm` changes of their own, in the same call and before. */
  | { readonly op: 'release'; readonly domid: number }
  | { readonly op: 'target'; readonly domid: number; readonly target: number };

/** Where committed changes go. */
export interface JournalPort {
  /**
   * Called once for each operation outside a transaction that changed something, and once for each commit of a transaction, after
   * the tree has changed and before its reply and its watch events can leave (they are queued in the same turn of the event loop).
   * Must not throw and must not call back in.
   */
  committed(changes: readonly StoreChange[]): void;
}
