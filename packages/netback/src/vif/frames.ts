/** A packet's pieces as a frame of the switch: what the guest left to us must be there to be done. */
import type { MemoryResult } from '@xenhost/privcmd';
import type { EthernetFrame, Gso } from '../switch/frame.ts';
import { fold, pseudoHeaderSum } from '../switch/checksum.ts';
import { IP_PROTOCOL, checksumAt, ipPacket, putU16 } from '../switch/headers.ts';
import type { TxItem } from './tx-packets.ts';

type Packet = Extract<TxItem, { kind: 'packet' }>;

/**
 * The frame with bytes of its own. Undefined when its checksum or its segments are left to us, but it holds no packet of which that
 * could be done: others must not be handed such a one.
 */
export function frameOf(packet: Packet, data: readonly MemoryResult[]): EthernetFrame | undefined {
  const bytes = joined(packet, data);
  if (!packet.checksumBlank && !packet.gso) return { bytes, checksum: 'complete' };
  const ip = ipPacket(bytes);
  const at = ip && checksumAt(bytes, ip);
  if (at === undefined) return undefined;
  if (!packet.gso) return { bytes, checksum: 'partial' };
  if (ip?.protocol !== IP_PROTOCOL.tcp || ip.version !== VERSIONS[packet.gso.type]) return undefined;
  // A large segment with a checksum of its own: those of its parts come from the pseudo header's sum.
  if (!packet.checksumBlank) putU16(bytes, at, fold(pseudoHeaderSum(bytes, ip)));
  return { bytes, checksum: 'partial', gso: packet.gso };
}

const VERSIONS: Readonly<Record<Gso['type'], 4 | 6>> = { tcpv4: 4, tcpv6: 6 };

function joined({ bytes }: Packet, data: readonly MemoryResult[]): Uint8Array {
  const frame = new Uint8Array(bytes);
  let at = 0;
  for (const { data: part } of data) {
    if (!part) continue;
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}
