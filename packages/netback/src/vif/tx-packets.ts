/**
 * What a frontend's transmit requests say: slots become packets, one at a time, from a copy of the ring. Answers to
 * `xen/include/public/io/netif.h` ("Guest transmit") and, for what is wrong, to Linux 6.1 drivers/net/xen-netback/netback.c:
 * some faults cost the packet, others the vif. Sans-I/O.
 */
import { bytesOf } from '@xenhost/base';
import {
  NETTXF,
  NetifExtraGso,
  NetifTxRequest,
  XEN_NETIF_EXTRA_FLAG_MORE,
  XEN_NETIF_EXTRA_TYPE,
  XEN_NETIF_GSO_TYPE,
  XEN_NETIF_NR_SLOTS_MIN,
} from '@xenhost/xen-abi';
import type { Gso } from '../switch/frame.ts';
import { FATAL_SLOTS } from './limits.ts';

const PAGE_BYTES = 4096;
const ETHERNET_HEADER_BYTES = 14;

/** A piece of a packet in a granted page. */
export interface TxSlot {
  readonly id: number;
  readonly gref: number;
  readonly offset: number;
  /** Bytes in this slot. */
  readonly size: number;
}

/** What the next requests of a ring are; `slots` of them, extra infos included. */
export type TxItem =
  | {
      readonly kind: 'packet';
      readonly slots: number;
      readonly extras: number;
      readonly parts: readonly TxSlot[];
      readonly bytes: number;
      readonly checksumBlank: boolean;
      readonly gso?: Gso;
    }
  /** A change of the multicast filter, with no packet. */
  | {
      readonly kind: 'multicast';
      readonly slots: number;
      readonly extras: number;
      readonly id: number;
      readonly action: 'add' | 'remove';
      readonly address: string;
    }
  /** Costs the packet alone: every one of its `ids` is answered with an error. */
  | {
      readonly kind: 'bad';
      readonly slots: number;
      readonly extras: number;
      readonly ids: readonly number[];
      readonly reason: string;
    }
  /** Costs the vif. */
  | { readonly kind: 'fatal'; readonly reason: string };

interface Extras {
  readonly count: number;
  readonly gso?: Gso;
  readonly multicast?: { readonly action: 'add' | 'remove'; readonly address: string };
}

type Fault = Extract<TxItem, { kind: 'fatal' }>;
const fatal = (reason: string): Fault => ({ kind: 'fatal', reason });

/**
 * The packet that begins at the next request. `peek` gives a copy of the request so many places after it; `available` of them are
 * there (at least one).
 */
export function nextTxItem(peek: (ahead: number) => Uint8Array, available: number): TxItem {
  const first = readRequest(peek(0));
  let extras: Extras = { count: 0 };
  if ((first.flags & NETTXF.extra_info) !== 0) {
    const read = readExtras(peek, available);
    if ('kind' in read) return read;
    extras = read;
  }
  if (extras.multicast) {
    return { kind: 'multicast', slots: 1 + extras.count, extras: extras.count, id: first.id, ...extras.multicast };
  }
  const parts = readParts(first, extras.count, peek, available);
  if ('kind' in parts) return parts;
  const slots = extras.count + parts.slots.length;
  const bad = (reason: string): TxItem => ({
    kind: 'bad',
    slots,
    extras: extras.count,
    ids: parts.slots.map(({ id }) => id),
    reason,
  });
  if (parts.bad !== undefined) return bad(parts.bad);
  const [head, ...rest] = parts.slots;
  if (head === undefined) throw new Error('a packet has a first slot');
  if (head.size < ETHERNET_HEADER_BYTES) return bad(`first slot of ${head.size} bytes`);
  if (head.offset + head.size > PAGE_BYTES) return crossesPage(head);
  return {
    kind: 'packet',
    slots,
    extras: extras.count,
    parts: [head, ...rest],
    bytes: first.size,
    checksumBlank: (first.flags & NETTXF.csum_blank) !== 0,
    ...(extras.gso ? { gso: extras.gso } : {}),
  };
}

interface Request {
  readonly gref: number;
  readonly offset: number;
  readonly flags: number;
  readonly id: number;
  readonly size: number;
}

function readRequest(bytes: Uint8Array): Request {
  const { gref, offset, flags, id, size } = NetifTxRequest.view(bytesOf(bytes), 0);
  return { gref, offset, flags, id, size };
}

const crossesPage = ({ offset, size }: TxSlot): Fault =>
  fatal(`transmit slot crosses its page: offset ${offset}, size ${size}`);

/** The slots that carry data, the first with its own size. */
function readParts(
  first: Request,
  extras: number,
  peek: (ahead: number) => Uint8Array,
  available: number,
): { readonly slots: readonly TxSlot[]; readonly bad?: string } | Fault {
  const rest: TxSlot[] = [];
  let headBytes = first.size;
  let bad: string | undefined;
  for (let more = (first.flags & NETTXF.more_data) !== 0; more;) {
    if (1 + extras + rest.length >= available) return fatal(`a packet's slot ${1 + rest.length} is missing`);
    if (rest.length >= FATAL_SLOTS) return fatal(`a packet of more than ${FATAL_SLOTS} slots`);
    if (rest.length >= XEN_NETIF_NR_SLOTS_MIN) bad ??= `more than ${XEN_NETIF_NR_SLOTS_MIN} slots`;
    const { gref, offset, flags, id, size } = readRequest(peek(1 + extras + rest.length));
    const slot = { gref, offset, id, size };
    if (size > headBytes) bad ??= `slot of ${size} bytes, ${headBytes} remain`;
    if (offset + size > PAGE_BYTES) return crossesPage(slot);
    headBytes -= size;
    rest.push(slot);
    more = (flags & NETTXF.more_data) !== 0;
  }
  const head = { gref: first.gref, offset: first.offset, id: first.id, size: headBytes };
  return { slots: [head, ...rest], ...(bad === undefined ? {} : { bad }) };
}

function readExtras(peek: (ahead: number) => Uint8Array, available: number): Extras | Fault {
  let count = 0;
  let gso: Gso | undefined;
  let multicast: Extras['multicast'];
  for (let more = true; more;) {
    if (1 + count >= available) return fatal('an extra info is missing');
    const bytes = peek(1 + count);
    const extra = NetifExtraGso.view(bytesOf(bytes), 0);
    count += 1;
    switch (extra.type) {
      case XEN_NETIF_EXTRA_TYPE.GSO: {
        const type = GSO_TYPES.get(extra.gso_type);
        if (type === undefined) return fatal(`large segment of type ${extra.gso_type}`);
        if (extra.size === 0) return fatal('large segment of size 0');
        gso = { type, size: extra.size };
        break;
      }
      case XEN_NETIF_EXTRA_TYPE.MCAST_ADD:
      case XEN_NETIF_EXTRA_TYPE.MCAST_DEL: {
        const action = extra.type === XEN_NETIF_EXTRA_TYPE.MCAST_ADD ? 'add' : 'remove';
        multicast = { action, address: macText(bytes.subarray(2, 8)) };
        break;
      }
      case XEN_NETIF_EXTRA_TYPE.HASH:
        break;
      default:
        return fatal(`extra info of type ${extra.type}`);
    }
    more = (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE) !== 0;
  }
  return { count, ...(gso ? { gso } : {}), ...(multicast ? { multicast } : {}) };
}

const GSO_TYPES = new Map([
  [XEN_NETIF_GSO_TYPE.TCPV4, 'tcpv4'],
  [XEN_NETIF_GSO_TYPE.TCPV6, 'tcpv6'],
] as const) as ReadonlyMap<number, Gso['type']>;

export const macText = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
