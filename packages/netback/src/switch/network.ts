/** All virtual networks of the daemon, made from their configuration: what vifs attach to. */
import { type Clock, systemClock } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { Gateway } from '../uplink/gateway.ts';
import { Links } from '../link/link.ts';
import { openPasst, type Uplink } from '../uplink/passt-uplink.ts';
import { openTap } from '../uplink/tap.ts';
import { Bridge } from './bridge.ts';
import type { BridgeConfig, NetworkConfig } from './config.ts';
import type { AttachOptions, Switches, SwitchPort } from './frame.ts';
import { inIpv4Network, type Ipv4, parseIpv4Network } from './ip.ts';
import { MAC_AGE_MS, MAX_BRIDGES, MAX_MACS, STORM_FRAMES_PER_SECOND } from './limits.ts';
import { parseMac } from './mac.ts';

export interface NetworkModules {
  readonly log: Logger;
  readonly clock?: Clock;
}

interface Segment {
  readonly bridge: Bridge;
  readonly uplinks: readonly Uplink[];
  readonly links: Links;
  readonly gateway: Gateway | undefined;
  readonly network: { readonly address: Ipv4; readonly bits: number } | undefined;
}

export class Network implements Switches {
  readonly #config: NetworkConfig;
  readonly #modules: { log: Logger; clock: Clock };
  readonly #segments = new Map<string, Segment>();
  /** Bridges that stand in a list of others (made-networks.ts). */
  #made: ReadonlySet<string> = new Set();

  constructor(config: NetworkConfig, { log, clock = systemClock }: NetworkModules) {
    this.#config = config;
    this.#modules = { log, clock };
    for (const bridge of config.bridges) this.#segments.set(bridge.name, this.#open(bridge));
  }

  get bridges(): readonly Bridge[] {
    return [...this.#segments.values()].map(({ bridge }) => bridge);
  }

  /** The links of a bridge. */
  linksOf(name: string): Links | undefined {
    return this.#segments.get(name)?.links;
  }

  /** Helper processes of uplinks that run now. */
  get uplinkPids(): readonly number[] {
    return [...this.#segments.values()].flatMap(({ uplinks }) =>
      uplinks.flatMap(({ pid }) => (pid === undefined ? [] : [pid])),
    );
  }

  /** An empty name stands for the first bridge of the configuration. */
  attach({ bridge: name, name: portName, mac, accepts, filter }: AttachOptions): SwitchPort {
    const segment = this.#segment(name);
    const { bridge, gateway, network } = segment;
    const station = parseMac(mac);
    // An address in the vif's configuration is what its guest is told by DHCP.
    const own = filter?.ips
      ?.map(parseIpv4Network)
      .find((ip) => ip?.bits === 32 && network !== undefined && inIpv4Network(ip.address, network));
    const port = bridge.attach({
      kind: 'guest',
      name: portName,
      mac,
      accepts,
      ...(filter && { filter }),
      closed: () => {
        if (!gateway || station === undefined) return;
        gateway.leases.know(station, -1);
        if (own) gateway.leases.unreserve(station, own.address);
      },
    });
    if (gateway && station !== undefined) {
      gateway.leases.know(station, 1);
      if (own) gateway.leases.reserve(station, own.address);
    }
    return port;
  }

  async close(): Promise<void> {
    for (const { bridge } of this.#segments.values()) bridge.close();
    const parts = [...this.#segments.values()].flatMap(({ uplinks, links }) => [...uplinks, links]);
    await Promise.all(parts.map((part) => part.close()));
  }

  /** Bridges that there shall be besides those of the configuration; one that is no longer listed goes when it is empty. */
  setMade(names: readonly string[]): void {
    const before = this.#made;
    this.#made = new Set(names);
    for (const name of names) {
      try {
        if (!before.has(name)) this.#segment(name);
      } catch (error) {
        this.#modules.log.warn({ bridge: name, err: error }, 'no such network can be made');
      }
    }
    const isConfigured = (name: string): boolean => this.#config.bridges.some((bridge) => bridge.name === name);
    for (const [name, { bridge }] of this.#segments) {
      if (!before.has(name) || this.#made.has(name) || isConfigured(name) || bridge.ports().length > 0) continue;
      this.#segments.delete(name);
      bridge.close();
    }
  }

  #segment(name: string): Segment {
    const wanted = name === '' ? (this.#config.bridges[0]?.name ?? '') : name;
    const found = this.#segments.get(wanted);
    if (found) return found;
    const { file, anyBridge } = this.#config;
    if (!anyBridge && !this.#made.has(wanted)) {
      throw new Error(
        `Could not find bridge device ${wanted}: (bridge ${wanted}) or (any-bridge yes) in ${file} makes one`,
      );
    }
    if (!/^[\w][\w.-]{0,14}$/.test(wanted)) throw new Error(`not a bridge's name: ${wanted}`);
    if (this.#segments.size >= MAX_BRIDGES) throw new Error(`there are ${MAX_BRIDGES} bridges already`);
    const segment = this.#open({
      name: wanted,
      macAgeMs: MAC_AGE_MS,
      maxMacs: MAX_MACS,
      stormFramesPerSecond: STORM_FRAMES_PER_SECOND,
      antispoof: false,
      uplinks: [],
      links: [],
    });
    this.#segments.set(wanted, segment);
    return segment;
  }

  #open(config: BridgeConfig): Segment {
    const bridge = new Bridge(config, this.#modules);
    const modules = { bridge, ...this.#modules };
    const uplinks: Uplink[] = [];
    let network: Segment['network'];
    for (const uplink of config.uplinks) {
      if (uplink.kind === 'tap') {
        uplinks.push(openTap(uplink, modules));
        continue;
      }
      network = uplink.network;
      const opened = openPasst(uplink, modules);
      if (opened) uplinks.push(opened);
    }
    const gateway = uplinks.find((uplink) => uplink.gateway)?.gateway;
    return { bridge, uplinks, links: new Links(config.links, modules), gateway, network };
  }
}
