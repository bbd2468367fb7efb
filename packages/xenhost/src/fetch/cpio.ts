/** Writer of "newc" cpio archives as the Linux kernel unpacks them (Documentation/driver-api/early-userspace/buffer-format.rst). */

export interface CpioEntry {
  readonly path: string;
  /** File type and permission bits. */
  readonly mode: number;
  readonly data?: Uint8Array;
  /** Device numbers of a node. */
  readonly rdev?: readonly [major: number, minor: number];
}

export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFCHR = 0o020000;

const ALIGN = 4;
const padding = (length: number): Uint8Array => new Uint8Array((ALIGN - (length % ALIGN)) % ALIGN);

/** Entries in the order given (folders before what is in them); times are 0, so equal input gives equal bytes. */
export function cpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const add = (entry: CpioEntry, inode: number): void => {
    const name = Buffer.from(`${entry.path}\0`);
    const data = entry.data ?? new Uint8Array();
    const [major, minor] = entry.rdev ?? [0, 0];
    const links = (entry.mode & S_IFDIR) === S_IFDIR ? 2 : 1;
    const fields = [inode, entry.mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
    const header = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}`);
    parts.push(header, name, padding(header.length + name.length), data, padding(data.length));
  };
  entries.forEach((entry, i) => {
    add(entry, i + 1);
  });
  add({ path: 'TRAILER!!!', mode: 0 }, 0);
  return Buffer.concat(parts);
}
