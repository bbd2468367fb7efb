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
  nodeSize: 2048,
  pathMax: 2048,
  permissions: 5,
};

/** Names and descriptions of `xenstore-control quota`, in its order. */
export const QUOTA_ROWS: readonly { readonly name: string; readonly key: keyof Quotas; readonly text: string }[] = [
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

/** Bytes of a node's record besides permissions, value and children's names (`struct xs_tdb_record_hdr`). */
export const NODE_HEADER_BYTES = 24;
/** Bytes of one permission entry. */
export const PERM_BYTES = 8;

/** Unsent bytes at which a socket's requests wait until it has read. */
export const SOCKET_HIGH_WATER_BYTES = 1024 * 1024;
/** Unsent bytes (events that pile up) at which a socket is dropped. */
export const SOCKET_OUTPUT_MAX_BYTES = 64 * 1024 * 1024;
