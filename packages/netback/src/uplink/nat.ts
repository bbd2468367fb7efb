/**
 * The gateway's table of translations: many guests' addresses and ports behind the one address that passt serves. Mappings do not
 * depend on the far end (RFC 4787 REQ-1, RFC 5382 REQ-1). Keeps no packets: addresses in, addresses out.
 */
import type { Ipv4 } from '../switch/ip.ts';
import { MAX_NAT_ENTRIES, MAX_NAT_ENTRIES_PER_GUEST, NAT_CLOSING_MS, NAT_IDLE_MS, NAT_SWEEP_MS } from './limits.ts';

/** What is translated; `icmp` by the identifier of an echo. */
export type NatProtocol = 'tcp' | 'udp' | 'icmp';

export interface NatEntry {
  readonly protocol: NatProtocol;
  readonly guestIp: Ipv4;
  readonly guestPort: number;
  /** The port under which passt knows it. */
  readonly port: number;
  /** The largest TCP payload that the guest announced; large frames for it are marked to be cut so. */
  mss: number;
  /** The scale of the guest's windows (RFC 7323). */
  windowShift: number;
  seenMs: number;
  closing: boolean;
  /** Ports of this machine's own that have sent to it by UDP: these it may answer. */
  readonly callers: Set<number>;
}

const PROTOCOL_INDEX: Readonly<Record<NatProtocol, number>> = { tcp: 0, udp: 1, icmp: 2 };
const DEFAULT_MSS = 536;
const PORTS = 0x10000;
/**
 * passt binds UDP ports and echo identifiers of its guest on the machine itself: those above Linux' range for clients are
 * tried first. TCP connections get ports of the machine's own choice there.
 */
const FIRST_PORT = { tcp: 1024, udp: 61_000, icmp: 1 } as const;
const FALLBACK_PORT = 1024;
const PORT_GUESSES = 32;

export class Nat {
  readonly #byGuest = new Map<Ipv4, Map<number, NatEntry>>();
  readonly #byPort = new Map<number, NatEntry>();
  readonly #reserved = new Set<number>();
  readonly #random: () => number;
  #sweptMs = 0;

  /** `random` as Math.random. */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  get size(): number {
    return this.#byPort.size;
  }

  /** Keeps a port for a forward: only `bind` gives it to a guest. */
  reserve(protocol: NatProtocol, port: number): void {
    this.#reserved.add(portKey(protocol, port));
  }

  /** What the guest's packets are translated to; made when it is new. Undefined when no port is free. */
  outbound(protocol: NatProtocol, guestIp: Ipv4, guestPort: number, nowMs: number): NatEntry | undefined {
    if (nowMs - this.#sweptMs > NAT_SWEEP_MS) this.#sweep(nowMs);
    const found = this.#byGuest.get(guestIp)?.get(portKey(protocol, guestPort));
    if (found) {
      found.seenMs = nowMs;
      return found;
    }
    this.#makeRoom(guestIp);
    const port = this.#freePort(protocol, guestPort);
    return port === undefined ? undefined : this.#add(protocol, guestIp, guestPort, port, nowMs);
  }

  /** What a guest's port is translated to already. */
  known(protocol: NatProtocol, guestIp: Ipv4, guestPort: number): NatEntry | undefined {
    return this.#byGuest.get(guestIp)?.get(portKey(protocol, guestPort));
  }

  /** Whose packet this is that came for `port`. */
  inbound(protocol: NatProtocol, port: number, nowMs: number): NatEntry | undefined {
    const entry = this.#byPort.get(portKey(protocol, port));
    if (entry) entry.seenMs = nowMs;
    return entry;
  }

  /** A forward: packets for `port` go to this guest, and its answers come from there. */
  bind(protocol: NatProtocol, guestIp: Ipv4, guestPort: number, port: number, nowMs: number): NatEntry {
    const bound = this.#byPort.get(portKey(protocol, port));
    if (bound?.guestIp === guestIp && bound.guestPort === guestPort) return bound;
    if (bound) this.#remove(bound);
    const other = this.#byGuest.get(guestIp)?.get(portKey(protocol, guestPort));
    if (other) this.#remove(other);
    this.#makeRoom(guestIp);
    return this.#add(protocol, guestIp, guestPort, port, nowMs);
  }

  #add(protocol: NatProtocol, guestIp: Ipv4, guestPort: number, port: number, nowMs: number): NatEntry {
    const entry: NatEntry = {
      protocol,
      guestIp,
      guestPort,
      port,
      mss: DEFAULT_MSS,
      windowShift: 0,
      seenMs: nowMs,
      closing: false,
      callers: new Set<number>(),
    };
    let entries = this.#byGuest.get(guestIp);
    if (!entries) this.#byGuest.set(guestIp, (entries = new Map<number, NatEntry>()));
    entries.set(portKey(protocol, guestPort), entry);
    this.#byPort.set(portKey(protocol, port), entry);
    return entry;
  }

  #remove(entry: NatEntry): void {
    this.#byPort.delete(portKey(entry.protocol, entry.port));
    const entries = this.#byGuest.get(entry.guestIp);
    entries?.delete(portKey(entry.protocol, entry.guestPort));
    if (entries?.size === 0) this.#byGuest.delete(entry.guestIp);
  }

  /** The guest's own oldest mapping goes first; when the whole table is full, the oldest of the guest that has most. */
  #makeRoom(guestIp: Ipv4): void {
    const own = this.#byGuest.get(guestIp);
    if (own && own.size >= MAX_NAT_ENTRIES_PER_GUEST) this.#removeOldest(own);
    if (this.#byPort.size < MAX_NAT_ENTRIES) return;
    let most = own;
    for (const entries of this.#byGuest.values()) if (entries.size > (most?.size ?? 0)) most = entries;
    if (most) this.#removeOldest(most);
  }

  #removeOldest(entries: Map<number, NatEntry>): void {
    for (const entry of entries.values()) {
      this.#remove(entry);
      return;
    }
  }

  #freePort(protocol: NatProtocol, wanted: number): number | undefined {
    const free = (port: number): boolean => {
      const key = portKey(protocol, port);
      return !this.#byPort.has(key) && !this.#reserved.has(key);
    };
    if (protocol !== 'udp' && wanted >= FIRST_PORT[protocol] && free(wanted)) return wanted;
    for (const first of [FIRST_PORT[protocol], FALLBACK_PORT]) {
      const span = PORTS - first;
      // The table is never more than half full: a guess of many is right, and a guest cannot make us search.
      for (let i = 0; i < PORT_GUESSES; i += 1) {
        const port = first + ((Math.floor(this.#random() * span) + i) % span);
        if (free(port)) return port;
      }
    }
    return undefined;
  }

  #sweep(nowMs: number): void {
    this.#sweptMs = nowMs;
    for (const entry of this.#byPort.values()) {
      const idleMs = entry.closing ? NAT_CLOSING_MS : NAT_IDLE_MS[entry.protocol];
      if (nowMs - entry.seenMs > idleMs) this.#remove(entry);
    }
  }
}

const portKey = (protocol: NatProtocol, port: number): number => PROTOCOL_INDEX[protocol] * PORTS + port;
