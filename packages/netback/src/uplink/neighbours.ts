/** Which station has which address, as the gateway has heard. Bounded: the one heard of first is forgotten first. */
import type { Ipv4 } from '../switch/ip.ts';
import type { MacNumber } from '../switch/mac.ts';
import { MAX_NEIGHBOURS } from './limits.ts';

export class Neighbours {
  readonly #macs = new Map<Ipv4, MacNumber>();
  readonly #ips = new Map<MacNumber, Ipv4>();

  heard(ip: Ipv4, mac: MacNumber): void {
    if (this.#macs.get(ip) === mac) return;
    this.#macs.delete(ip);
    this.#macs.set(ip, mac);
    this.#ips.delete(mac);
    this.#ips.set(mac, ip);
    for (const map of [this.#macs, this.#ips]) {
      if (map.size <= MAX_NEIGHBOURS) continue;
      const [oldest] = map.keys();
      if (oldest !== undefined) map.delete(oldest);
    }
  }

  macOf(ip: Ipv4): MacNumber | undefined {
    return this.#macs.get(ip);
  }

  ipOf(mac: MacNumber): Ipv4 | undefined {
    return this.#ips.get(mac);
  }
}
