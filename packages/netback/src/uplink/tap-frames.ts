/**
 * Frames of a tap device with IFF_VNET_HDR (linux/if_tun.h): each behind a struct virtio_net_hdr (linux/virtio_net.h), which says what is
 * left undone of it, both ways. Little-endian, as this machine.
 */
import type { EthernetFrame, Gso } from '../switch/frame.ts';
import { checksumAt, ipPacket, tcpHeaderBytes } from '../switch/headers.ts';

export const VNET_HEADER_BYTES = 10;
const NEEDS_CHECKSUM = 1;
const GSO_TYPE = { none: 0, tcpv4: 1, tcpv6: 4 } as const;
/** ECN bit beside the type. */
const GSO_TYPE_MASK = 0x7f;

/** The header of a frame; undefined when the frame is not what it says. */
export function vnetHeader({ bytes, checksum, gso }: EthernetFrame): Uint8Array | undefined {
  const header = new Uint8Array(VNET_HEADER_BYTES);
  if (checksum === 'complete' && !gso) return header;
  const packet = ipPacket(bytes);
  const at = packet && checksumAt(bytes, packet);
  if (packet === undefined || at === undefined) return undefined;
  const view = new DataView(header.buffer);
  view.setUint8(0, NEEDS_CHECKSUM);
  view.setUint16(6, packet.transportAt, true);
  view.setUint16(8, at - packet.transportAt, true);
  if (!gso) return header;
  const tcpBytes = tcpHeaderBytes(bytes, packet);
  if (tcpBytes === undefined || (packet.version === 4) !== (gso.type === 'tcpv4')) return undefined;
  view.setUint8(1, GSO_TYPE[gso.type]);
  view.setUint16(2, packet.transportAt + tcpBytes, true);
  view.setUint16(4, gso.size, true);
  return header;
}

/** A frame that the device gave, with its header; undefined when it is shorter than that. */
export function frameOfTap(given: Uint8Array): EthernetFrame | undefined {
  if (given.length < VNET_HEADER_BYTES) return undefined;
  const view = new DataView(given.buffer, given.byteOffset, given.length);
  const bytes = given.subarray(VNET_HEADER_BYTES);
  const checksum = (view.getUint8(0) & NEEDS_CHECKSUM) !== 0 ? 'partial' : 'complete';
  const size = view.getUint16(4, true);
  const type = gsoTypeOf(view.getUint8(1) & GSO_TYPE_MASK);
  return type === undefined || size === 0 ? { bytes, checksum } : { bytes, checksum, gso: { type, size } };
}

function gsoTypeOf(type: number): Gso['type'] | undefined {
  if (type === GSO_TYPE.tcpv4) return 'tcpv4';
  return type === GSO_TYPE.tcpv6 ? 'tcpv6' : undefined;
}
