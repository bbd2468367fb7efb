/**
 * The gateway of a bridge with a passt uplink: a station that answers ARP, DHCP and pings, and translates the guests' addresses to
 * the one address that passt serves. passt speaks with one guest only: it answers ARP for every address and sends all it has to whom
 * it heard last (passt(1), NOTES), so that guests cannot share it without this.
 *
 * IPv4. Fragments from guests are not carried.
 */
import type { Clock } from '@xenhost/base';
import { completeChecksum } from '../switch/checksum.ts';
import type { EthernetFrame, SwitchPort } from '../switch/frame.ts';
import { ETHERNET_HEADER_BYTES, ETHERTYPE, IP_PROTOCOL, ipPacket, type IpPacket, u16, u32 } from '../switch/headers.ts';
import { inIpv4Network, type Ipv4, type Ipv4Network } from '../switch/ip.ts';
import { macAt, type MacNumber } from '../switch/mac.ts';
import { answerDhcp, DHCP_PORT } from './dhcp.ts';
import type { DnsForwarder } from './dns.ts';
import { Leases } from './leases.ts';
import { MAX_CALLERS, MAX_UNRESOLVED, MAX_WAITING_PACKETS, UNRESOLVED_MS } from './limits.ts';
import { Nat, type NatEntry, type NatProtocol } from './nat.ts';
import { Neighbours } from './neighbours.ts';
import {
  ARP,
  arpFrame,
  BROADCAST_MAC,
  echoReply,
  fragments,
  ICMP_ECHO,
  parseArp,
  udpFrame,
  writeEthernet,
} from './packets.ts';
import { type Flow, flowOf, inboundFrame, outboundParts } from './translate.ts';

/** A port of the machine that leads to a guest. */
export interface Forward {
  readonly protocol: 'tcp' | 'udp';
  /** Where the machine listens. */
  readonly address: string;
  readonly port: number;
  /** The guest, by its MAC or by its address. */
  readonly to: { readonly mac: MacNumber } | { readonly ip: Ipv4 };
  readonly guestPort: number;
  /** The port under which passt hands it to the gateway: one of its own for each forward of a protocol. */
  readonly innerPort: number;
}

export interface GatewayOptions {
  readonly mac: MacNumber;
  readonly network: Ipv4Network;
  readonly address: Ipv4;
  /** Where guests find a name server; undefined for none. */
  readonly dns: Ipv4 | undefined;
  /** The one address that passt knows. */
  readonly natAddress: Ipv4;
  /** First and last address for guests. */
  readonly range: readonly [Ipv4, Ipv4];
  readonly mtu: number;
  readonly forwards: readonly Forward[];
  /** Ports of the machine's own 127.0.0.1 that guests reach at the gateway's address. */
  readonly hostLoopback: 'all' | ReadonlySet<number>;
}

export interface GatewayModules {
  readonly port: SwitchPort;
  /** To passt; false when it was dropped. */
  readonly send: (...parts: readonly Uint8Array[]) => boolean;
  /** Answers queries of names; undefined for none. */
  readonly dns: Pick<DnsForwarder, 'ask'> | undefined;
  readonly clock: Clock;
}

const NS_PER_MS = 1_000_000n;
const DNS_PORT = 53;
/** SYN and ACK of byte 13 of a TCP header; SYN alone opens a connection. */
const TCP_SYN_ACK = 0x12;
const TCP_SYN = 0x02;
/** Where a DHCP message has its client's MAC. */
const DHCP_MAC_AT = 28;
/** First bytes of addresses: 127.0.0.0/8, and 224.0.0.0 up to the broadcast address. */
const LOOPBACK = 127;
const FIRST_GROUP = 224;

export class Gateway {
  readonly leases: Leases;
  readonly #options: GatewayOptions;
  readonly #modules: GatewayModules;
  readonly #nat = new Nat();
  readonly #neighbours = new Neighbours();
  readonly #forwards = new Map<string, Forward>();
  /** Packets for stations that have not answered ARP yet. */
  readonly #waiting = new Map<Ipv4, { readonly sinceMs: number; readonly packets: Uint8Array[] }>();

  constructor(options: GatewayOptions, modules: GatewayModules) {
    this.#options = options;
    this.#modules = modules;
    this.leases = new Leases({ range: options.range });
    for (const forward of options.forwards) {
      this.#nat.reserve(forward.protocol, forward.innerPort);
      this.#forwards.set(`${forward.protocol} ${forward.innerPort}`, forward);
    }
    modules.port.setReceiver((frame) => this.#fromGuest(frame));
  }

  /** A frame that passt sent; the bytes are the gateway's. */
  fromOutside(bytes: Uint8Array): void {
    const packet = bytes.length < ETHERNET_HEADER_BYTES ? undefined : ipPacket(bytes);
    const flow = packet && flowOf(bytes, packet);
    if (!packet || !flow || u32(bytes, packet.ipAt + 16) !== this.#options.natAddress) return;
    const entry = this.#inbound(flow.protocol, u16(bytes, flow.destinationAt));
    if (!entry) return;
    this.#noteCaller(bytes, packet, flow, entry);
    const mac = this.#macOf(entry.guestIp);
    if (mac === undefined) {
      this.#askFor(entry.guestIp, bytes);
      return;
    }
    writeEthernet(bytes, mac, this.#options.mac);
    this.#toGuest(inboundFrame(bytes, packet, flow, entry), packet);
  }

  get translations(): number {
    return this.#nat.size;
  }

  #now(): number {
    return Number(this.#modules.clock.monotonicNs() / NS_PER_MS);
  }

  #fromGuest({ bytes }: EthernetFrame): boolean {
    const type = u16(bytes, 12);
    if (type === ETHERTYPE.arp) {
      this.#answerArp(bytes);
      return true;
    }
    if (type !== ETHERTYPE.ipv4) return true;
    const packet = ipPacket(bytes);
    if (!packet || this.#isDhcp(bytes, packet)) return true;
    const { mac, network, address, dns, natAddress } = this.#options;
    if (macAt(bytes, 0) !== mac) return true;
    const source = u32(bytes, packet.ipAt + 12);
    const own = source === address || source === dns || source === natAddress;
    if (own || !inIpv4Network(source, network) || !this.#heard(source, macAt(bytes, 6))) return true;
    const flow = flowOf(bytes, packet);
    if (!flow) return true;
    const destination = u32(bytes, packet.ipAt + 16);
    const toUs = destination === address || destination === dns;
    if (flow.protocol === 'icmp' && toUs) {
      if (bytes[packet.transportAt] !== ICMP_ECHO.request) return true;
      this.#modules.port.send({ bytes: echoReply(bytes, packet), checksum: 'complete' });
      return true;
    }
    if (flow.protocol === 'udp' && destination === dns && u16(bytes, flow.destinationAt) === DNS_PORT) {
      this.#askName(bytes, packet, source);
      return true;
    }
    if (!this.#leadsOut(destination)) {
      const open = destination === address && this.#isOpen(u16(bytes, flow.destinationAt));
      if (!open && !(destination === address && this.#isAnswer(bytes, packet, flow, source))) return true;
    }
    const entry = this.#nat.outbound(flow.protocol, source, u16(bytes, flow.sourceAt), this.#now());
    if (!entry) return false;
    return this.#modules.send(...outboundParts(bytes, packet, flow, entry, natAddress));
  }

  /** Not the machine itself, not the guests' own network, not a group: passt would send there from this machine. */
  #leadsOut(destination: Ipv4): boolean {
    const first = destination >>> 24;
    const host = first === LOOPBACK || first === 0 || first >= FIRST_GROUP;
    return !host && !inIpv4Network(destination, this.#options.network);
  }

  /** To somebody of this machine who came through a forward: he has the gateway's address. */
  #isAnswer(bytes: Uint8Array, { transportAt }: IpPacket, flow: Flow, source: Ipv4): boolean {
    const entry = this.#nat.known(flow.protocol, source, u16(bytes, flow.sourceAt));
    if (!entry) return false;
    if (flow.protocol === 'tcp') return ((bytes[transportAt + 13] ?? 0) & TCP_SYN_ACK) !== TCP_SYN;
    return entry.callers.has(u16(bytes, flow.destinationAt));
  }

  #noteCaller(bytes: Uint8Array, packet: IpPacket, flow: Flow, { callers }: NatEntry): void {
    if (flow.protocol !== 'udp' || u32(bytes, packet.ipAt + 12) !== this.#options.address) return;
    callers.add(u16(bytes, flow.sourceAt));
    if (callers.size <= MAX_CALLERS) return;
    const [oldest] = callers;
    if (oldest !== undefined) callers.delete(oldest);
  }

  #isOpen(port: number): boolean {
    const { hostLoopback } = this.#options;
    return hostLoopback === 'all' || hostLoopback.has(port);
  }

  #askName(bytes: Uint8Array, packet: IpPacket, guestIp: Ipv4): void {
    const guest = { mac: macAt(bytes, 6), ip: guestIp };
    const port = u16(bytes, packet.transportAt);
    const own = { mac: this.#options.mac, ip: u32(bytes, packet.ipAt + 16) };
    this.#modules.dns?.ask(bytes.subarray(packet.transportAt + 8, packet.end), (answer) => {
      const frame = udpFrame(own, guest, [DNS_PORT, port], answer);
      const whole = ipPacket(frame);
      if (whole) this.#toGuest({ bytes: frame, checksum: 'complete' }, whole);
    });
  }

  #toGuest(frame: EthernetFrame, packet: IpPacket): void {
    const { port } = this.#modules;
    const { mtu } = this.#options;
    if (packet.protocol === IP_PROTOCOL.tcp || packet.end - packet.ipAt <= mtu) {
      port.send(frame);
      return;
    }
    const whole = frame.checksum === 'partial' ? completeChecksum(frame.bytes) : frame.bytes;
    if (!whole) return;
    for (const bytes of fragments(whole, packet, mtu)) port.send({ bytes, checksum: 'complete' });
  }

  #answerArp(bytes: Uint8Array): void {
    const arp = parseArp(bytes);
    if (!arp) return;
    const { mac, address, dns, natAddress } = this.#options;
    const sender = { mac: macAt(bytes, arp.senderMacAt), ip: arp.senderIp };
    if (sender.ip !== 0 && !this.#heard(sender.ip, sender.mac)) return;
    const ours = arp.target === address || arp.target === dns || arp.target === natAddress;
    if (arp.operation !== ARP.request || !ours) return;
    this.#modules.port.send({
      bytes: arpFrame(ARP.reply, { mac, ip: arp.target }, sender),
      checksum: 'complete',
    });
  }

  #isDhcp(bytes: Uint8Array, packet: IpPacket): boolean {
    const { transportAt: at, end } = packet;
    if (packet.protocol !== IP_PROTOCOL.udp || packet.fragment || at + 8 > end) return false;
    if (u16(bytes, at + 2) !== DHCP_PORT.server) return false;
    const { mac, address, dns, network, mtu } = this.#options;
    const destination = u32(bytes, packet.ipAt + 16);
    if (destination !== 0xffff_ffff && destination !== address) return false;
    // Whose lease it is says the frame, which the bridge has checked: nobody gives up another's.
    if (macAt(bytes, 6) !== macAt(bytes, at + 8 + DHCP_MAC_AT)) return true;
    const options = { server: address, bits: network.bits, router: address, dns, mtu };
    const answer = answerDhcp(bytes.subarray(at + 8, end), options, this.leases, this.#now());
    if (answer) {
      const to = { mac: answer.broadcast ? BROADCAST_MAC : answer.mac, ip: answer.to };
      const frame = udpFrame({ mac, ip: address }, to, [DHCP_PORT.server, DHCP_PORT.client], answer.payload);
      this.#modules.port.send({ bytes: frame, checksum: 'complete' });
    }
    return true;
  }

  /** Whose packet for a port it is: of a connection that is known, or of a forward. */
  #inbound(protocol: NatProtocol, port: number): NatEntry | undefined {
    const now = this.#now();
    const forward = this.#forwards.get(`${protocol} ${port}`);
    if (!forward) return this.#nat.inbound(protocol, port, now);
    const { to, guestPort } = forward;
    const ip = 'ip' in to ? to.ip : (this.leases.addressOf(to.mac, now) ?? this.#neighbours.ipOf(to.mac));
    if (ip === undefined) return undefined;
    this.#nat.bind(protocol, ip, guestPort, port, now);
    return this.#nat.inbound(protocol, port, now);
  }

  /** Notes a guest's address; false when it is somebody else's. */
  #heard(ip: Ipv4, mac: MacNumber): boolean {
    const holder = this.leases.holderOf(ip, this.#now());
    if (holder !== undefined && holder !== mac) return false;
    if (!inIpv4Network(ip, this.#options.network)) return true;
    this.#neighbours.heard(ip, mac);
    const waiting = this.#waiting.get(ip);
    if (waiting) {
      this.#waiting.delete(ip);
      for (const packet of waiting.packets) this.fromOutside(packet);
    }
    return true;
  }

  #macOf(ip: Ipv4): MacNumber | undefined {
    return this.leases.holderOf(ip, this.#now()) ?? this.#neighbours.macOf(ip);
  }

  /** Asks who has the address, and keeps the packet for a moment. */
  #askFor(ip: Ipv4, packet: Uint8Array): void {
    const now = this.#now();
    for (const [other, { sinceMs }] of this.#waiting) if (now - sinceMs > UNRESOLVED_MS) this.#waiting.delete(other);
    const waiting = this.#waiting.get(ip);
    if (waiting && waiting.packets.length < MAX_WAITING_PACKETS) waiting.packets.push(packet);
    else if (!waiting && this.#waiting.size < MAX_UNRESOLVED)
      this.#waiting.set(ip, { sinceMs: now, packets: [packet] });
    const { mac, address } = this.#options;
    const bytes = arpFrame(ARP.request, { mac, ip: address }, { mac: 0, ip });
    this.#modules.port.send({ bytes, checksum: 'complete' });
  }
}
