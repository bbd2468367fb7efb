/** Every limit of xenstored, with the numbers of the C daemon 4.17. Those in `Quotas` bind guests, not Domain-0's tools. */

export interface Quotas {
  /** Nodes owned by one domain. */
  readonly nodes: number;
  /** Watches of one domain: refused once more than this many exist. */
  readonly watches: number;
  /** Open transactions of one domain: refused once more than this many exist. */
  readonly transactions: number;
  /** Replies a domain has not taken from its ring; at this many its requests wait. */
  readonly outstanding: number;
  /** Nodes that one transaction may touch. */
  readonly transactionNodes: number;
  /** Bytes held for one domain: nodes, watches, transactions, pending messages. */
  readonly memory: number;
  /** Of the same: more is logged. */
  readonly memorySoft: number;
  /** Bytes of one node's record: header, permissions, value and children's names; must stay below. */
  readonly nodeSize: number;
  /** Bytes of a path, behind `/local/domain/N/` where it starts so. */
  readonly pathMax: number;
  /** Entries of a node's permissions. */
  readonly permissions: number;
}

export const DEFAULT_QUOTAS: Quotas = {
  nodes: 1000,
  watches: 128,
  transactions: 10,
  outstanding: 20,
  transactionNodes: 1024,
  memory: 2.5 * 1024 * 1024,
  memorySoft: 2 * 1024 * 1024,
  nodeSize: 2048,
  pathMax: 2048,
  permissions: 5,
};

export interface QuotaRow {
  readonly name: string;
  readonly key: keyof Quotas;
  readonly text: string;
}

/** Names and descriptions of `xenstore-control quota`, in its order. */
export const QUOTA_ROWS: readonly QuotaRow[] = [
  { name: 'nodes', key: 'nodes', text: 'Nodes per domain' },
  { name: 'watches', key: 'watches', text: 'Watches per domain' },
  { name: 'transactions', key: 'transactions', text: 'Transactions per domain' },
  { name: 'outstanding', key: 'outstanding', text: 'Outstanding requests per domain' },
  { name: 'transaction-nodes', key: 'transactionNodes', text: 'Max. number of accessed nodes per transaction' },
  { name: 'memory', key: 'memory', text: 'Total Xenstore memory per domain (error level)' },
  { name: 'node-size', key: 'nodeSize', text: 'Max. size of a node' },
  { name: 'path-max', key: 'pathMax', text: 'Max. length of a node path' },
  { name: 'permissions', key: 'permissions', text: 'Max. number of permissions per node' },
];

/** The same of `xenstore-control quota-soft`. */
export const SOFT_QUOTA_ROWS: readonly QuotaRow[] = [
  { name: 'memory', key: 'memorySoft', text: 'Total Xenstore memory per domain (warning level)' },
];

/** Numbers from here on are no domain's (`xen.h`). */
export const DOMID_FIRST_RESERVED = 0x7ff0;
/** Longest name of a special watch (`XENSTORE_REL_PATH_MAX`), whatever the quota of paths. */
export const SPECIAL_NAME_MAX = 2048;
/** An event that a guest has not begun to take for this long is dropped. */
export const EVENT_TIMEOUT_MS = 20_000;
/** Payload bytes up to which a reply is queued even over the memory quota: an error name must always fit. */
export const UNCHECKED_REPLY_BYTES = 16;

/** Requests, and bytes of them and their replies, that a transaction keeps for a merge; one with more is never merged. */
export const MERGE_LOG_MAX_REQUESTS = 4096;
export const MERGE_LOG_MAX_BYTES = 1024 * 1024;

/** Bytes of a node's record besides permissions, value and children's names (`struct xs_tdb_record_hdr`). */
export const NODE_HEADER_BYTES = 24;
/** Bytes of one permission entry. */
export const PERM_BYTES = 8;
