/** Limits of disk images; docs/LIMITS.md tells them. */

/** Largest disk, and largest offset in a file: far below what a double counts exactly. */
export const MAX_DISK_BYTES = 2 ** 46;
/** Backing files under one image. */
export const MAX_BACKING_DEPTH = 16;
/** Largest L1 table of a qcow2 image: 4 Mi entries, which is 2 TiB of disk at 4 KiB clusters and 2 PiB at 64 KiB. */
export const MAX_L1_BYTES = 32 * 2 ** 20;
/** Largest refcount table of a qcow2 image. */
export const MAX_REFCOUNT_TABLE_BYTES = 8 * 2 ** 20;
export const MAX_SNAPSHOTS = 1024;
/** Largest table of internal snapshots. */
export const MAX_SNAPSHOT_TABLE_BYTES = 1 << 20;
/** Memory for L2 tables, and for blocks of counts, of one image. */
export const TABLE_CACHE_BYTES = 4 * 2 ** 20;
/** VHD: entries of the block allocation table. */
export const MAX_BAT_ENTRIES = 2 ** 21;
/** Bytes that one step of a long operation (zeroing, copying) holds. */
export const PIECE_BYTES = 1 << 20;
/** Buffers of one readv or writev (Linux: IOV_MAX is 1024). */
export const MAX_VECTOR = 1024;
/** Clusters of a qcow2 file that is checked or repaired: 1 TiB at 64 KiB clusters, and 64 MiB of memory. */
export const MAX_CHECKED_CLUSTERS = 2 ** 24;
