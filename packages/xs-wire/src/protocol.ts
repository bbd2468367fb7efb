/** Numbers and names of the xenstore wire protocol (`xen/include/public/io/xs_wire.h`, docs/misc/xenstore.txt). */

/** Message types (`enum xsd_sockmsg_type`). 20 was XS_RESTRICT and is gone. */
// prettier-ignore
export const XsOp = {
  CONTROL: 0, DIRECTORY: 1, READ: 2, GET_PERMS: 3, WATCH: 4, UNWATCH: 5, TRANSACTION_START: 6, TRANSACTION_END: 7,
  INTRODUCE: 8, RELEASE: 9, GET_DOMAIN_PATH: 10, WRITE: 11, MKDIR: 12, RM: 13, SET_PERMS: 14, WATCH_EVENT: 15,
  ERROR: 16, IS_DOMAIN_INTRODUCED: 17, RESUME: 18, SET_TARGET: 19, RESET_WATCHES: 21, DIRECTORY_PART: 22,
} as const;

export type XsOpName = keyof typeof XsOp;

const opNames = new Map<number, XsOpName>(
  (Object.entries(XsOp) as [XsOpName, number][]).map(([name, nr]) => [nr, name]),
);

/** The name of a message type; `OP<number>` for an unknown one. */
export const xsOpName = (op: number): string => opNames.get(op) ?? `OP${op}`;

/** Errors travel as their names; only these are known to libxenstore (`xsd_errors`), others become EINVAL there. */
// prettier-ignore
export const XS_ERRORS = [
  'EINVAL', 'EACCES', 'EEXIST', 'EISDIR', 'ENOENT', 'ENOMEM', 'ENOSPC', 'EIO', 'ENOTEMPTY', 'ENOSYS', 'EROFS', 'EBUSY',
  'EAGAIN', 'EISCONN', 'E2BIG', 'EPERM',
] as const;
export type XsErrorName = (typeof XS_ERRORS)[number];

/** Bytes of `struct xsd_sockmsg`: type, req_id, tx_id, len, each u32 little-endian. */
export const XS_HEADER_SIZE = 16;
/** Bytes of payload in one message (`XENSTORE_PAYLOAD_MAX`); more is a protocol violation, not an error reply. */
export const XS_PAYLOAD_MAX = 4096;
/** `XENSTORE_ABS_PATH_MAX` and `XENSTORE_REL_PATH_MAX`, bytes without the NUL. */
export const XS_ABS_PATH_MAX = 3072;
export const XS_REL_PATH_MAX = 2048;
