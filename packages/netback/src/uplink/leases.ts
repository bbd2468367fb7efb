/**
 * Who has which address: by reservation, by lease, or by a number made of the MAC, so that a guest gets the same address again
 * after a restart of this daemon and on another host.
 */
import type { Ipv4 } from '../switch/ip.ts';
import type { MacNumber } from '../switch/mac.ts';
import { LEASE_SECONDS, MAX_LEASE_GUESSES, OFFER_MS } from './limits.ts';

export interface LeaseOptions {
  /** First and last address that are handed out. */
  readonly range: readonly [Ipv4, Ipv4];
}

interface Lease {
  readonly ip: Ipv4;
  readonly untilMs: number;
}

/** Knuth's multiplicative hash: 2^32 divided by the golden ratio. */
const HASH_FACTOR = 2_654_435_761;

export class Leases {
  readonly #options: LeaseOptions;
  readonly #reserved = new Map<MacNumber, Ipv4>();
  /** Guests of this host: theirs are not taken away for strangers. */
  readonly #known = new Map<MacNumber, number>();
  readonly #byMac = new Map<MacNumber, Lease>();
  readonly #byIp = new Map<Ipv4, MacNumber>();

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** This MAC gets this address and nobody else does. */
  reserve(mac: MacNumber, ip: Ipv4): void {
    const holder = this.#byIp.get(ip);
    if (holder !== undefined && holder !== mac) this.#release(holder);
    this.#release(mac);
    this.#reserved.set(mac, ip);
    this.#byIp.set(ip, mac);
  }

  unreserve(mac: MacNumber, ip: Ipv4): void {
    if (this.#reserved.get(mac) !== ip) return;
    this.#reserved.delete(mac);
    this.#byIp.delete(ip);
  }

  /** A guest with this MAC has come or gone; several may have one for a moment. */
  know(mac: MacNumber, change: 1 | -1): void {
    const count = (this.#known.get(mac) ?? 0) + change;
    if (count > 0) this.#known.set(mac, count);
    else this.#known.delete(mac);
  }

  /** The address this MAC holds now. */
  addressOf(mac: MacNumber, nowMs: number): Ipv4 | undefined {
    const reserved = this.#reserved.get(mac);
    if (reserved !== undefined) return reserved;
    const lease = this.#byMac.get(mac);
    return lease && lease.untilMs > nowMs ? lease.ip : undefined;
  }

  /** Who holds this address now. */
  holderOf(ip: Ipv4, nowMs: number): MacNumber | undefined {
    const mac = this.#byIp.get(ip);
    if (mac === undefined || this.#reserved.has(mac)) return mac;
    return (this.#byMac.get(mac)?.untilMs ?? 0) > nowMs ? mac : undefined;
  }

  /** An address for DHCPDISCOVER: the one it has, the one it asks for, or a new one. Undefined when all are taken. */
  offer(mac: MacNumber, wanted: Ipv4 | undefined, nowMs: number): Ipv4 | undefined {
    const ip = this.#choose(mac, wanted, nowMs);
    if (ip !== undefined && !this.#reserved.has(mac)) {
      const lease = this.#byMac.get(mac);
      this.#hold(mac, ip, Math.max(nowMs + OFFER_MS, lease?.ip === ip ? lease.untilMs : 0));
    }
    return ip;
  }

  /** DHCPREQUEST: true when the MAC may have this address from now on. */
  take(mac: MacNumber, ip: Ipv4, nowMs: number): boolean {
    if (this.#reserved.has(mac)) return this.#reserved.get(mac) === ip;
    if (!this.#inRange(ip) || !this.#isFree(mac, ip, nowMs)) return false;
    this.#hold(mac, ip, nowMs + LEASE_SECONDS * 1000);
    return true;
  }

  /** DHCPRELEASE, DHCPDECLINE. */
  release(mac: MacNumber): void {
    this.#release(mac);
  }

  #choose(mac: MacNumber, wanted: Ipv4 | undefined, nowMs: number): Ipv4 | undefined {
    const reserved = this.#reserved.get(mac);
    if (reserved !== undefined) return reserved;
    const held = this.#byMac.get(mac)?.ip;
    if (held !== undefined && this.#isFree(mac, held, nowMs)) return held;
    if (wanted !== undefined && this.#inRange(wanted) && this.#isFree(mac, wanted, nowMs)) return wanted;
    const [first, last] = this.#options.range;
    const size = last - first + 1;
    const start = (Math.imul(mac % 2 ** 32, HASH_FACTOR) >>> 0) % size;
    for (let i = 0; i < Math.min(size, MAX_LEASE_GUESSES); i += 1) {
      const ip = first + ((start + i) % size);
      if (this.#isFree(mac, ip, nowMs)) return ip;
    }
    return this.#fromStranger();
  }

  /** The oldest address of a MAC that is no guest's of this host. */
  #fromStranger(): Ipv4 | undefined {
    for (const [mac, { ip }] of this.#byMac) {
      if (this.#known.has(mac)) continue;
      this.#release(mac);
      return ip;
    }
    return undefined;
  }

  #inRange(ip: Ipv4): boolean {
    const [first, last] = this.#options.range;
    return ip >= first && ip <= last;
  }

  #isFree(mac: MacNumber, ip: Ipv4, nowMs: number): boolean {
    const holder = this.#byIp.get(ip);
    if (holder === undefined || holder === mac) return true;
    if (this.#reserved.has(holder)) return false;
    return (this.#byMac.get(holder)?.untilMs ?? 0) <= nowMs;
  }

  #hold(mac: MacNumber, ip: Ipv4, untilMs: number): void {
    const before = this.#byIp.get(ip);
    if (before !== undefined && before !== mac) this.#release(before);
    this.#release(mac);
    this.#byMac.set(mac, { ip, untilMs });
    this.#byIp.set(ip, mac);
  }

  #release(mac: MacNumber): void {
    const lease = this.#byMac.get(mac);
    if (!lease) return;
    this.#byMac.delete(mac);
    if (this.#byIp.get(lease.ip) === mac) this.#byIp.delete(lease.ip);
  }
}
