/**
 * Frames on their way from one guest's pages to another's without passing through here: large ones of which the headers alone are
 * read, because they go to one guest as they are. The receiver has to have buffers for them at once, so that no guest's ring waits
 * for another's.
 */
import type { Domid } from '@xenhost/base';
import type { EthernetFrame, FrameReceiver, Gso } from '../switch/frame.ts';
import { checksumAt, IP_PROTOCOL, ipPacket } from '../switch/headers.ts';
import { DIRECT_MIN_BYTES, DIRECT_PARTS, HEAD_BYTES } from './limits.ts';
import type { TxItem, TxSlot } from './tx-packets.ts';

type Packet = Extract<TxItem, { kind: 'packet' }>;

export interface PagedFrame {
  /** The headers, as they were read and judged: these bytes go to the receiver, whatever the sender's page says by now. */
  readonly head: Uint8Array;
  readonly length: number;
  readonly checksum: EthernetFrame['checksum'];
  readonly gso?: Gso;
  readonly domid: Domid;
  /** The first part begins with the head. */
  readonly parts: readonly TxSlot[];
  /** The sender's pages are still its packet's. */
  readonly valid: () => boolean;
  /** Called once, when the sender may have its pages back: a status for each part, 0 for what was copied. */
  readonly done: (statuses: readonly number[]) => void;
}

/** Takes a frame; false when there are not enough buffers just now. */
export type PagedReceiver = (frame: PagedFrame) => boolean;

/** Which receivers of the switch take frames from pages. */
export class PagedReceivers {
  readonly #receivers = new WeakMap<FrameReceiver, PagedReceiver>();

  know(receiver: FrameReceiver, paged: PagedReceiver): void {
    this.#receivers.set(receiver, paged);
  }

  hand(receiver: FrameReceiver, frame: PagedFrame): boolean {
    return this.#receivers.get(receiver)?.(frame) ?? false;
  }
}

/** Bytes of a packet's first part to read when it may go this way; undefined when it may not. */
export function headBytes({ bytes, parts, gso, checksumBlank }: Packet): number | undefined {
  const [first] = parts;
  if (!first || bytes < DIRECT_MIN_BYTES || parts.length > DIRECT_PARTS || (gso && !checksumBlank)) return undefined;
  if (parts.some(({ size }) => size === 0)) return undefined;
  return Math.min(first.size, HEAD_BYTES);
}

/** Whether what was left to be done to a packet can be done, by its headers alone (frameOf does it with the whole). */
export function headIsSound(head: Uint8Array, { bytes, checksumBlank, gso }: Packet): boolean {
  if (!checksumBlank && !gso) return true;
  const ip = ipPacket(head, bytes);
  if (ip === undefined || checksumAt(head, ip) === undefined) return false;
  return !gso || (ip.protocol === IP_PROTOCOL.tcp && ip.version === (gso.type === 'tcpv4' ? 4 : 6));
}
