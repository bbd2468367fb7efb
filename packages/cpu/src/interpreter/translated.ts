/** What generated code and the engine's slow paths of data accesses tell one another. */

/** Bits of the word that describes an access to the host's `translate`. */
export const ACCESS = { sizeMask: 0xff, write: 0x100, update: 0x200 } as const;
/** What `translate` answers. */
export const TRANSLATED = {
  /** The machine address is in `slowHost`. */
  direct: 0,
  /** The value has gone through `bounce`. */
  bounced: 1,
  /** `signal` is set. */
  fault: 2,
} as const;
