/** The ring page of xenstore (`xen/include/public/io/xs_wire.h`). */
import { array, layout } from '@xenhost/base';

/** Bytes of each of the two rings. */
export const XENSTORE_RING_SIZE = 1024;

/** `struct xenstore_domain_interface`; indices run freely over 32 bits. */
export const XenstoreDomainInterface = layout('xenstore_domain_interface', {
  req: array('u8', XENSTORE_RING_SIZE),
  rsp: array('u8', XENSTORE_RING_SIZE),
  req_cons: 'u32',
  req_prod: 'u32',
  rsp_cons: 'u32',
  rsp_prod: 'u32',
  /** XENSTORE_SERVER_FEATURE_* bits. */
  server_features: 'u32',
  /** XENSTORE_CONNECTED or XENSTORE_RECONNECT. */
  connection: 'u32',
  /** XENSTORE_ERROR_*. */
  error: 'u32',
});

export const XENSTORE_SERVER_FEATURE_RECONNECTION = 1;
export const XENSTORE_SERVER_FEATURE_ERROR = 2;
export const XENSTORE_CONNECTED = 0;
export const XENSTORE_RECONNECT = 1;
export const XenstoreRingError = { NONE: 0, COMM: 1, RINGIDX: 2, PROTO: 3 } as const;
export type XenstoreRingErrorCode = (typeof XenstoreRingError)[keyof typeof XenstoreRingError];

/** Grant references that the toolstack gives for Domain-0's use (`grant_table.h`). */
export const GNTTAB_RESERVED_CONSOLE = 0;
export const GNTTAB_RESERVED_XENSTORE = 1;
