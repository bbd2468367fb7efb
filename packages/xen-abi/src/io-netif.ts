/** Network rings: slots, flags and extra infos (`xen/include/public/io/netif.h`). The rings themselves are ring.h's. */
import { array, layout } from '@xenhost/base';

/** Slots of one packet that every backend must take (XEN_NETIF_NR_SLOTS_MIN). */
export const XEN_NETIF_NR_SLOTS_MIN = 18;

/** `struct netif_tx_request`; the first slot's `size` is that of the whole packet. */
export const NetifTxRequest = layout('netif_tx_request', {
  gref: 'u32',
  offset: 'u16',
  flags: 'u16',
  id: 'u16',
  size: 'u16',
});

/** `struct netif_tx_response`; `status` is signed (NETIF_RSP). */
export const NetifTxResponse = layout('netif_tx_response', { id: 'u16', status: 'u16' });

/** NETTXF_*. */
export const NETTXF = { csum_blank: 1, data_validated: 2, more_data: 4, extra_info: 8 } as const;

/** `struct netif_rx_request`. */
export const NetifRxRequest = layout('netif_rx_request', { id: 'u16', pad: 'u16', gref: 'u32' });

/** `struct netif_rx_response`; `status` is signed: bytes in this slot, or NETIF_RSP. */
export const NetifRxResponse = layout('netif_rx_response', { id: 'u16', offset: 'u16', flags: 'u16', status: 'u16' });

/** NETRXF_*. */
export const NETRXF = { data_validated: 1, csum_blank: 2, more_data: 4, extra_info: 8, gso_prefix: 16 } as const;

/** NETIF_RSP_*, of both directions. */
export const NETIF_RSP = { DROPPED: -2, ERROR: -1, OKAY: 0, NULL: 1 } as const;

/** `struct netif_extra_info`, which lies in a slot of either ring. */
export const NetifExtraInfo = layout('netif_extra_info', { type: 'u8', flags: 'u8', u: array('u8', 6) });

/** The GSO member of the union of `netif_extra_info`, from the slot's beginning. */
export const NetifExtraGso = layout('netif_extra_info_gso', {
  type: 'u8',
  flags: 'u8',
  size: 'u16',
  gso_type: 'u8',
  pad: 'u8',
  features: 'u16',
});

/** XEN_NETIF_EXTRA_TYPE_*. */
export const XEN_NETIF_EXTRA_TYPE = { NONE: 0, GSO: 1, MCAST_ADD: 2, MCAST_DEL: 3, HASH: 4, MAX: 5 } as const;
/** XEN_NETIF_EXTRA_FLAG_MORE. */
export const XEN_NETIF_EXTRA_FLAG_MORE = 1;
/** XEN_NETIF_GSO_TYPE_*. */
export const XEN_NETIF_GSO_TYPE = { NONE: 0, TCPV4: 1, TCPV6: 2 } as const;

/** `struct xen_netif_ctrl_request`. */
export const NetifCtrlRequest = layout('xen_netif_ctrl_request', { id: 'u16', type: 'u16', data: array('u8', 12) });

/** `struct xen_netif_ctrl_response`. */
export const NetifCtrlResponse = layout('xen_netif_ctrl_response', {
  id: 'u16',
  type: 'u16',
  status: 'u32',
  data: 'u32',
});

/** XEN_NETIF_CTRL_STATUS_*. */
export const XEN_NETIF_CTRL_STATUS = {
  SUCCESS: 0,
  NOT_SUPPORTED: 1,
  INVALID_PARAMETER: 2,
  BUFFER_OVERFLOW: 3,
} as const;
