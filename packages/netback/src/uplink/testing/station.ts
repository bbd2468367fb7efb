/** A guest without a kernel, for tests: a station on a switch port that speaks ARP, DHCP, ICMP, UDP and one TCP connection at a time. */
import { internetChecksum, writeTransportChecksum } from '../../switch/checksum.ts';
import type { EthernetFrame, SwitchPort } from '../../switch/frame.ts';
import { ETHERTYPE, IP_PROTOCOL, ipPacket, putU16, putU32, tcpHeaderBytes, u16, u32 } from '../../switch/headers.ts';
import { parseIpv4 } from '../../switch/ip.ts';
import { macAt, parseMac } from '../../switch/mac.ts';
import { ARP, arpFrame, BROADCAST_MAC, parseArp, udpFrame, writeEthernet } from '../packets.ts';

const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
const WINDOW = 0xffff;

export const ip = (text: string): number => parseIpv4(text) ?? NaN;
export const mac = (text: string): number => parseMac(text) ?? NaN;

type Match = (frame: EthernetFrame) => boolean;

export class Station {
  readonly port: SwitchPort;
  readonly mac: number;
  ip = 0;
  router = 0;
  dns = 0;
  routerMac: number = BROADCAST_MAC;
  /** All frames that came, newest last. */
  readonly frames: EthernetFrame[] = [];
  readonly #waiting = new Set<() => void>();
  #ipId = 1;

  constructor(port: SwitchPort, macText: string) {
    this.port = port;
    this.mac = mac(macText);
    port.setReceiver((frame) => {
      this.frames.push(frame);
      this.#answerArp(frame.bytes);
      for (const wake of this.#waiting) wake();
      return true;
    });
  }

  send(bytes: Uint8Array, rest: Partial<EthernetFrame> = {}): void {
    this.port.send({ bytes, checksum: 'complete', ...rest });
  }

  /** The next frame that matches, from those already here (and not taken) on. */
  async take(match: Match, timeoutMs = 5000): Promise<EthernetFrame> {
    const find = (): EthernetFrame | undefined => {
      const index = this.frames.findIndex(match);
      return index < 0 ? undefined : this.frames.splice(index, 1)[0];
    };
    const found = find();
    if (found) return found;
    return await new Promise<EthernetFrame>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(wake);
        reject(new Error(`no such frame; ${this.frames.length} others`));
      }, timeoutMs);
      const wake = (): void => {
        const frame = find();
        if (!frame) return;
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve(frame);
      };
      this.#waiting.add(wake);
    });
  }

  /** Asks for an address and takes it. */
  async dhcp(): Promise<void> {
    const offer = await this.#dhcpRound(1, 0);
    const offered = u32(offer, 16);
    const ack = await this.#dhcpRound(3, offered);
    this.ip = u32(ack, 16);
    this.router = optionOf(ack, 3);
    this.dns = optionOf(ack, 6);
  }

  async arp(target: number): Promise<number> {
    this.send(arpFrame(ARP.request, { mac: this.mac, ip: this.ip }, { mac: 0, ip: target }));
    const reply = await this.take(({ bytes }) => {
      const arp = u16(bytes, 12) === ETHERTYPE.arp ? parseArp(bytes) : undefined;
      return arp?.operation === ARP.reply && arp.senderIp === target;
    });
    return macAt(reply.bytes, 6);
  }

  async findRouter(): Promise<void> {
    this.routerMac = await this.arp(this.router);
  }

  udp(to: number, ports: readonly [number, number], payload: Uint8Array): void {
    this.send(udpFrame({ mac: this.mac, ip: this.ip }, { mac: this.routerMac, ip: to }, ports, payload));
  }

  async takeUdp(port: number): Promise<Buffer> {
    const { bytes } = await this.take(({ bytes: frame }) => {
      const packet = ipPacket(frame);
      return packet?.protocol === IP_PROTOCOL.udp && u16(frame, packet.transportAt + 2) === port;
    });
    const packet = ipPacket(bytes);
    return Buffer.from(bytes.subarray((packet?.transportAt ?? 0) + 8, packet?.end));
  }

  async ping(to: number, payload: Uint8Array = new Uint8Array(56)): Promise<Buffer> {
    const id = this.#ipId;
    const echo = new Uint8Array(8 + payload.length);
    echo[0] = 8;
    putU16(echo, 4, id);
    echo.set(payload, 8);
    putU16(echo, 2, internetChecksum(echo, 0, echo.length));
    this.send(this.packet(to, IP_PROTOCOL.icmp, echo));
    const { bytes } = await this.take(({ bytes: frame }) => {
      const packet = ipPacket(frame);
      if (packet?.protocol !== IP_PROTOCOL.icmp) return false;
      return frame[packet.transportAt] === 0 && u16(frame, packet.transportAt + 4) === id;
    });
    const packet = ipPacket(bytes);
    if (packet && internetChecksum(bytes, packet.transportAt, packet.end) !== 0) throw new Error('wrong checksum');
    return Buffer.from(bytes.subarray((packet?.transportAt ?? 0) + 8, packet?.end));
  }

  /** An IPv4 packet to the router. */
  packet(to: number, protocol: number, payload: Uint8Array): Uint8Array {
    const bytes = new Uint8Array(34 + payload.length);
    writeEthernet(bytes, this.routerMac, this.mac);
    putU16(bytes, 12, ETHERTYPE.ipv4);
    bytes[14] = 0x45;
    putU16(bytes, 16, 20 + payload.length);
    putU16(bytes, 18, (this.#ipId += 1));
    bytes[22] = 64;
    bytes[23] = protocol;
    putU32(bytes, 26, this.ip);
    putU32(bytes, 30, to);
    putU16(bytes, 24, internetChecksum(bytes, 14, 34));
    bytes.set(payload, 34);
    return bytes;
  }

  connect(to: number, port: number, from: number, timeoutMs?: number): Promise<TestConnection> {
    return TestConnection.open(this, to, port, from, timeoutMs);
  }

  /** Waits for a connection to `port`. */
  accept(port: number): Promise<TestConnection> {
    return TestConnection.accept(this, port);
  }

  async #dhcpRound(message: number, wanted: number): Promise<Uint8Array> {
    const request = new Uint8Array(300);
    request.set([1, 1, 6, 0]);
    putU32(request, 4, 0x1234_0000 + message);
    writeEthernet(request.subarray(28), this.mac, 0);
    request.fill(0, 34, 44);
    putU32(request, 236, 0x6382_5363);
    request.set([53, 1, message, 50, 4], 240);
    putU32(request, 245, wanted);
    request[249] = 255;
    const to = { mac: BROADCAST_MAC, ip: 0xffff_ffff };
    this.send(udpFrame({ mac: this.mac, ip: 0 }, to, [68, 67], request));
    const { bytes } = await this.take(({ bytes: frame }) => {
      const packet = ipPacket(frame);
      return packet?.protocol === IP_PROTOCOL.udp && u16(frame, packet.transportAt + 2) === 68;
    });
    return bytes.subarray((ipPacket(bytes)?.transportAt ?? 0) + 8);
  }

  #answerArp(bytes: Uint8Array): void {
    const arp = u16(bytes, 12) === ETHERTYPE.arp ? parseArp(bytes) : undefined;
    if (arp?.operation !== ARP.request || arp.target !== this.ip || this.ip === 0) return;
    const to = { mac: macAt(bytes, arp.senderMacAt), ip: arp.senderIp };
    this.send(arpFrame(ARP.reply, { mac: this.mac, ip: this.ip }, to));
  }
}

function optionOf(reply: Uint8Array, code: number): number {
  for (let at = 240; at < reply.length && reply[at] !== 255; at += 2 + (reply[at + 1] ?? 0)) {
    if (reply[at] === code) return u32(reply, at + 2);
  }
  return 0;
}

/** One TCP connection: acknowledges at once what comes in order, sends without congestion control. */
export class TestConnection {
  readonly #station: Station;
  readonly #peer: { readonly ip: number; readonly port: number };
  readonly #port: number;
  #sent = 1000;
  #received = 0;
  readonly #chunks: Buffer[] = [];
  /** Bytes of TCP payload of the largest frame. */
  largest = 0;
  /** Segment sizes that frames were marked with. */
  readonly gsoSizes = new Set<number>();
  #ended = false;

  private constructor(station: Station, peer: { ip: number; port: number }, port: number) {
    this.#station = station;
    this.#peer = peer;
    this.#port = port;
  }

  static async open(
    station: Station,
    to: number,
    port: number,
    from: number,
    timeoutMs?: number,
  ): Promise<TestConnection> {
    const connection = new TestConnection(station, { ip: to, port }, from);
    connection.#segment(TCP_FLAGS.syn, Uint8Array.of(2, 4, 5, 0xb4));
    const { bytes } = await connection.#take(timeoutMs);
    const at = 34;
    if (((bytes[at + 13] ?? 0) & TCP_FLAGS.rst) !== 0) throw new Error('refused');
    connection.#received = (u32(bytes, at + 4) + 1) >>> 0;
    connection.#sent += 1;
    connection.#segment(TCP_FLAGS.ack);
    return connection;
  }

  static async accept(station: Station, port: number): Promise<TestConnection> {
    const { bytes } = await station.take(({ bytes: frame }) => {
      const packet = ipPacket(frame);
      if (packet?.protocol !== IP_PROTOCOL.tcp || u16(frame, packet.transportAt + 2) !== port) return false;
      return ((frame[packet.transportAt + 13] ?? 0) & TCP_FLAGS.syn) !== 0;
    });
    station.routerMac = macAt(bytes, 6);
    const connection = new TestConnection(station, { ip: u32(bytes, 26), port: u16(bytes, 34) }, port);
    connection.#received = (u32(bytes, 38) + 1) >>> 0;
    connection.#segment(TCP_FLAGS.syn | TCP_FLAGS.ack, Uint8Array.of(2, 4, 5, 0xb4));
    connection.#sent += 1;
    return connection;
  }

  write(data: Uint8Array, rest: Partial<EthernetFrame> = {}): void {
    this.#segment(TCP_FLAGS.ack | TCP_FLAGS.psh, undefined, data, rest);
    this.#sent += data.length;
  }

  /** Reads until so many bytes have come, or the other side has closed. */
  async read(bytes: number): Promise<Buffer> {
    while (!this.#ended && this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0) < bytes) {
      const frame = await this.#take();
      const packet = ipPacket(frame.bytes);
      const headerBytes = packet && tcpHeaderBytes(frame.bytes, packet);
      if (!packet || headerBytes === undefined) throw new Error('no TCP');
      const flags = frame.bytes[packet.transportAt + 13] ?? 0;
      if ((flags & TCP_FLAGS.rst) !== 0) throw new Error('reset');
      const data = frame.bytes.subarray(packet.transportAt + headerBytes, packet.end);
      if (u32(frame.bytes, packet.transportAt + 4) !== this.#received) continue;
      if (frame.gso) this.gsoSizes.add(frame.gso.size);
      this.largest = Math.max(this.largest, data.length);
      this.#chunks.push(Buffer.from(data));
      this.#received = (this.#received + data.length) >>> 0;
      if ((flags & TCP_FLAGS.fin) !== 0) {
        this.#ended = true;
        this.#received = (this.#received + 1) >>> 0;
      }
      if (data.length > 0 || this.#ended) this.#segment(TCP_FLAGS.ack);
    }
    return Buffer.concat(this.#chunks);
  }

  close(): void {
    this.#segment(TCP_FLAGS.ack | TCP_FLAGS.fin);
  }

  #take(timeoutMs?: number): Promise<EthernetFrame> {
    return this.#station.take(({ bytes: frame }) => {
      const packet = ipPacket(frame);
      if (packet?.protocol !== IP_PROTOCOL.tcp) return false;
      return u16(frame, packet.transportAt + 2) === this.#port && u16(frame, packet.transportAt) === this.#peer.port;
    }, timeoutMs);
  }

  #segment(
    flags: number,
    options: Uint8Array = new Uint8Array(0),
    data: Uint8Array = new Uint8Array(0),
    rest: Partial<EthernetFrame> = {},
  ): void {
    const tcp = new Uint8Array(20 + options.length + data.length);
    putU16(tcp, 0, this.#port);
    putU16(tcp, 2, this.#peer.port);
    putU32(tcp, 4, this.#sent);
    putU32(tcp, 8, this.#received);
    tcp[12] = ((20 + options.length) / 4) << 4;
    tcp[13] = flags;
    putU16(tcp, 14, WINDOW);
    tcp.set(options, 20);
    tcp.set(data, 20 + options.length);
    const bytes = this.#station.packet(this.#peer.ip, IP_PROTOCOL.tcp, tcp);
    const packet = ipPacket(bytes);
    if (packet) writeTransportChecksum(bytes, packet, packet.transportAt + 16);
    this.#station.send(bytes, rest);
  }
}
