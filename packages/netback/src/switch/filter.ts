/**
 * What a guest may send: frames from its own MAC, packets from its own addresses. With addresses it lets pass what the rules of
 * vif-bridge let pass (tools/hotplug/Linux/vif-common.sh): IPv4 from these addresses or networks, and a DHCP client's requests
 * from any; ARP for them as well, which iptables does not see. IPv6 is looked at when an IPv6 address is given: then also its
 * link-local and unspecified sources pass, which neighbour discovery needs.
 */
import type { PortFilter } from './frame.ts';
import { ETHERTYPE, ethernetHeader, IP_PROTOCOL, ipPacket, u16, u32 } from './headers.ts';
import {
  inIpv4Network,
  inIpv6Network,
  type Ipv4Network,
  type Ipv6Network,
  parseIpv4Network,
  parseIpv6Network,
} from './ip.ts';
import { MAX_FILTER_ADDRESSES } from './limits.ts';
import { macAt, type MacNumber, parseMac } from './mac.ts';

const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;
const ARP_IPV4_BYTES = 28;
const LINK_LOCAL = parseIpv6Network('fe80::/10');
const UNSPECIFIED = parseIpv6Network('::');

export type FrameTest = (frame: Uint8Array) => boolean;

/** The test of a filter. Throws for addresses that are none: the message is for the backend's error node. */
export function frameTest({ mac, ips }: PortFilter): FrameTest {
  const tests: FrameTest[] = [];
  if (mac !== undefined) {
    const own = parseMac(mac);
    if (own === undefined) throw new Error(`not a MAC address: ${mac}`);
    tests.push((frame) => macAt(frame, 6) === own && arpSenderMac(frame, own));
  }
  if (ips !== undefined && ips.length > 0) tests.push(addressTest(ips));
  return (frame) => tests.every((test) => test(frame));
}

/** ARP carries the sender's MAC a second time: caches believe that one. */
function arpSenderMac(frame: Uint8Array, own: MacNumber): boolean {
  const { type, payloadAt } = ethernetHeader(frame);
  return type !== ETHERTYPE.arp || (payloadAt + ARP_IPV4_BYTES <= frame.length && macAt(frame, payloadAt + 8) === own);
}

function addressTest(ips: readonly string[]): FrameTest {
  if (ips.length > MAX_FILTER_ADDRESSES) throw new Error(`more than ${MAX_FILTER_ADDRESSES} addresses`);
  const v4: Ipv4Network[] = [];
  const v6: Ipv6Network[] = [];
  for (const text of ips) {
    const four = parseIpv4Network(text);
    const six = four ? undefined : parseIpv6Network(text);
    if (four) v4.push(four);
    else if (six) v6.push(six);
    else throw new Error(`not an IP address or network: ${text}`);
  }
  const sources = v6.length > 0 && LINK_LOCAL && UNSPECIFIED ? [...v6, LINK_LOCAL, UNSPECIFIED] : [];
  const isOwn = (ip: number): boolean => v4.some((network) => inIpv4Network(ip, network));
  return (frame) => {
    const { type, payloadAt } = ethernetHeader(frame);
    switch (type) {
      case ETHERTYPE.arp: {
        const sender = u32(frame, payloadAt + 14);
        return payloadAt + ARP_IPV4_BYTES <= frame.length && (sender === 0 || isOwn(sender));
      }
      case ETHERTYPE.ipv4: {
        const packet = ipPacket(frame);
        return packet !== undefined && (isOwn(u32(frame, packet.ipAt + 12)) || isDhcpRequest(frame));
      }
      case ETHERTYPE.ipv6: {
        const packet = ipPacket(frame);
        if (sources.length === 0) return true;
        return packet !== undefined && sources.some((network) => inIpv6Network(frame, packet.ipAt + 8, network));
      }
      default:
        return true;
    }
  };
}

function isDhcpRequest(frame: Uint8Array): boolean {
  const packet = ipPacket(frame);
  if (packet?.protocol !== IP_PROTOCOL.udp || packet.fragment || packet.transportAt + 8 > packet.end) return false;
  const { transportAt } = packet;
  return u16(frame, transportAt) === DHCP_CLIENT_PORT && u16(frame, transportAt + 2) === DHCP_SERVER_PORT;
}
