/**
 * A learning bridge (IEEE 802.1D without its spanning tree): frames go to the port behind which their destination was seen,
 * else to all. What answers to Linux' bridge module under Xen's vif-bridge.
 *
 * No frame goes back to its port, and none from one link to another: links between hosts form a full mesh, in which no frame can
 * go round. Between links and uplinks frames pass only where the link says so.
 */
import type { Clock } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import { frameTest, type FrameTest } from './filter.ts';
import { FlapGuard } from './flap.ts';
import type { EthernetFrame, FrameHead, FrameReceiver, PortFilter, PortOffloads, SwitchPort } from './frame.ts';
import { ETHERNET_HEADER_BYTES } from './headers.ts';
import { FLAP_HOLD_MS, MAX_FRAME_BYTES, MAX_MACS_PER_GUEST, MAX_PORTS, STORM_BURST_FRAMES } from './limits.ts';
import { isGroup, isGroupAt, macAt, type MacNumber, macText, parseMac } from './mac.ts';
import { MacTable } from './mac-table.ts';
import { OffloadedFrame } from './offload.ts';
import { TokenBucket } from './storm.ts';

export interface BridgeOptions {
  readonly name: string;
  readonly macAgeMs: number;
  readonly maxMacs: number;
  /** Floods that each port may cause. */
  readonly stormFramesPerSecond: number;
  /** Guests send from their own MAC only. */
  readonly antispoof: boolean;
}

export interface BridgeModules {
  readonly clock: Clock;
  readonly log: Logger;
}

/** Guests have one MAC of their own; uplinks and links stand for many. */
export type PortKind = 'guest' | 'uplink' | 'link';

export interface BridgePortOptions {
  readonly kind: PortKind;
  readonly name: string;
  readonly accepts: PortOffloads;
  /** Pinned to this port: a guest's own address, a gateway's. */
  readonly mac?: string;
  readonly filter?: PortFilter;
  /** Of a link: frames pass between it and uplinks. */
  readonly transit?: boolean;
  /** When the port has left. */
  readonly closed?: () => void;
}

/** Why frames were dropped, counted for each port. */
export const DROP_REASONS = ['malformed', 'spoofed', 'storm', 'held', 'offload', 'full'] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** Seen from the bridge: `in` is what the port's owner sent. */
export interface PortCounters {
  inFrames: number;
  inBytes: number;
  outFrames: number;
  outBytes: number;
  readonly dropped: Record<DropReason, number>;
}

/** Sees frames as they enter the bridge, or as they pass one port. */
export type FrameObserver = (frame: Uint8Array) => void;

export interface PortStatus {
  readonly name: string;
  readonly kind: PortKind;
  readonly mac: string | undefined;
  readonly counters: Readonly<PortCounters>;
}

const NS_PER_MS = 1_000_000n;
/** 01:80:c2:00:00:0X: what bridges say to each other is not for those behind them (IEEE 802.1Q 8.6.3). */
const RESERVED_GROUP = parseMac('01:80:c2:00:00:00') ?? 0;
const RESERVED_GROUPS = 16;

export class Bridge {
  readonly options: BridgeOptions;
  readonly #modules: BridgeModules;
  readonly #ports = new Set<Port>();
  readonly #macs: MacTable<Port>;
  readonly #flaps = new FlapGuard<Port>();
  readonly #observers = new Set<FrameObserver>();

  constructor(options: BridgeOptions, modules: BridgeModules) {
    this.options = options;
    this.#modules = modules;
    this.#macs = new MacTable({ maxMacs: options.maxMacs, ageMs: options.macAgeMs });
  }

  get name(): string {
    return this.options.name;
  }

  /** Throws when the filter cannot be read or the bridge is full; the message is for people. */
  attach(options: BridgePortOptions): SwitchPort {
    if (this.#ports.size >= MAX_PORTS) throw new Error(`bridge ${this.name} has ${MAX_PORTS} ports already`);
    const mac = options.mac === undefined ? undefined : parseMac(options.mac);
    if (options.mac !== undefined && (mac === undefined || isGroup(mac))) {
      throw new Error(`not a MAC address of one station: ${options.mac}`);
    }
    const spoofTest =
      this.options.antispoof && options.kind === 'guest' && options.mac !== undefined ? { mac: options.mac } : {};
    const test = frameTest({ ...options.filter, ...spoofTest });
    const storm = new TokenBucket(this.options.stormFramesPerSecond, STORM_BURST_FRAMES, this.#now());
    const port = new Port(options, mac, test, storm, {
      forward: (from, frame) => {
        this.#forward(from, frame);
      },
      direct: (from, head, hand) => this.#direct(from, head, hand),
      closed: (gone) => {
        this.#ports.delete(gone);
        this.#macs.remove(gone);
        this.#flaps.remove(gone);
        options.closed?.();
      },
    });
    this.#ports.add(port);
    if (mac !== undefined) this.#macs.pin(mac, port);
    return port;
  }

  ports(): PortStatus[] {
    return [...this.#ports].map((port) => ({
      name: port.name,
      kind: port.kind,
      mac: port.mac === undefined ? undefined : macText(port.mac),
      counters: port.counters,
    }));
  }

  macs(): { mac: string; port: string; pinned: boolean; ageMs: number }[] {
    return this.#macs.rows(this.#now()).map((row) => ({ ...row, mac: macText(row.mac), port: row.port.name }));
  }

  /** Calls `observer` with every frame that enters the bridge, or passes a port of it, until the result is called. */
  observe(observer: FrameObserver, portName?: string): (() => void) | undefined {
    const observers =
      portName === undefined ? this.#observers : [...this.#ports].find(({ name }) => name === portName)?.observers;
    if (!observers) return undefined;
    observers.add(observer);
    return () => {
      observers.delete(observer);
    };
  }

  close(): void {
    for (const port of [...this.#ports]) port.close();
  }

  #now(): number {
    return Number(this.#modules.clock.monotonicNs() / NS_PER_MS);
  }

  #forward(from: Port, frame: EthernetFrame): void {
    const { bytes } = frame;
    const { counters } = from;
    counters.inFrames += 1;
    counters.inBytes += bytes.length;
    if (bytes.length < ETHERNET_HEADER_BYTES || bytes.length > MAX_FRAME_BYTES || isGroupAt(bytes, 6)) {
      counters.dropped.malformed += 1;
      return;
    }
    const now = this.#now();
    if (from.observers.size > 0) for (const observer of from.observers) observer(bytes);
    const refused = this.#refused(from, bytes, now);
    if (refused) {
      counters.dropped[refused] += 1;
      return;
    }
    if (this.#observers.size > 0) for (const observer of this.#observers) observer(bytes);
    const destination = macAt(bytes, 0);
    const group = isGroupAt(bytes, 0);
    const to = group ? undefined : this.#macs.lookup(destination, now);
    const offloaded = new OffloadedFrame(frame);
    if (to) {
      if (mayFollow(from, to)) to.put(offloaded);
      return;
    }
    if (group && destination >= RESERVED_GROUP && destination < RESERVED_GROUP + RESERVED_GROUPS) return;
    if (!from.storm.take(now)) {
      counters.dropped.storm += 1;
      return;
    }
    for (const port of this.#ports) if (mayFollow(from, port)) port.put(offloaded);
  }

  /** See SwitchPort: whoever would see, cut or refuse the frame has to have it whole. */
  #direct(from: Port, head: FrameHead, hand: (to: FrameReceiver) => boolean): boolean {
    const { bytes, length } = head;
    const watched = this.#observers.size > 0 || from.observers.size > 0;
    const readable = bytes.length >= ETHERNET_HEADER_BYTES && length <= MAX_FRAME_BYTES;
    if (watched || !readable || isGroupAt(bytes, 6) || isGroupAt(bytes, 0)) return false;
    const now = this.#now();
    const to = this.#macs.lookup(macAt(bytes, 0), now);
    const whole = to?.kind !== 'guest' || !mayFollow(from, to) || !OffloadedFrame.asItIs(head, to.accepts);
    if (whole || to.observers.size > 0 || this.#refused(from, bytes, now) || !to.putDirect(length, hand)) return false;
    from.counters.inFrames += 1;
    from.counters.inBytes += length;
    return true;
  }

  /** Learns where the frame came from; why it may not pass. */
  #refused(from: Port, bytes: Uint8Array, now: number): DropReason | undefined {
    const source = macAt(bytes, 6);
    if (!from.mayPass(bytes)) return 'spoofed';
    const guest = from.kind === 'guest';
    if (!guest && !this.#flaps.allows(source, from, now)) return 'held';
    const learned = this.#macs.learn(source, from, guest ? MAX_MACS_PER_GUEST : Infinity, now);
    if (learned === 'foreign') return 'spoofed';
    if (learned === 'moved' && !guest && this.#flaps.moved(source, from, now)) {
      this.#modules.log.warn(
        { bridge: this.name, port: from.name, mac: macText(source), holdMs: FLAP_HOLD_MS },
        'an address moves between links: is there a loop? It is heard on this port only for a while',
      );
    }
    return undefined;
  }
}

/** Which way frames may go; see the head of this file. */
function mayFollow(from: Port, to: Port): boolean {
  if (from === to) return false;
  if (from.kind === 'guest' || to.kind === 'guest') return true;
  return from.kind !== to.kind && (from.transit || to.transit);
}

interface PortEnds {
  forward(from: Port, frame: EthernetFrame): void;
  direct(from: Port, head: FrameHead, hand: (to: FrameReceiver) => boolean): boolean;
  closed(port: Port): void;
}

class Port implements SwitchPort {
  readonly name: string;
  readonly kind: PortKind;
  readonly accepts: PortOffloads;
  readonly transit: boolean;
  readonly mac: MacNumber | undefined;
  readonly mayPass: FrameTest;
  readonly storm: TokenBucket;
  readonly observers = new Set<FrameObserver>();
  readonly counters: PortCounters = {
    inFrames: 0,
    inBytes: 0,
    outFrames: 0,
    outBytes: 0,
    dropped: { malformed: 0, spoofed: 0, storm: 0, held: 0, offload: 0, full: 0 },
  };
  readonly #ends: PortEnds;
  #receiver: FrameReceiver | undefined;
  #closed = false;

  constructor(
    options: BridgePortOptions,
    mac: MacNumber | undefined,
    mayPass: FrameTest,
    storm: TokenBucket,
    ends: PortEnds,
  ) {
    this.name = options.name;
    this.kind = options.kind;
    this.accepts = options.accepts;
    this.transit = options.transit ?? false;
    this.mac = mac;
    this.mayPass = mayPass;
    this.storm = storm;
    this.#ends = ends;
  }

  send(frame: EthernetFrame): void {
    if (!this.#closed) this.#ends.forward(this, frame);
  }

  direct(head: FrameHead, hand: (to: FrameReceiver) => boolean): boolean {
    return !this.#closed && this.#ends.direct(this, head, hand);
  }

  setReceiver(receiver: FrameReceiver): void {
    this.#receiver = receiver;
  }

  /** A frame for the port's owner that does not pass through here. */
  putDirect(length: number, hand: (to: FrameReceiver) => boolean): boolean {
    if (!this.#receiver || !hand(this.#receiver)) return false;
    this.counters.outFrames += 1;
    this.counters.outBytes += length;
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#receiver = undefined;
    this.#ends.closed(this);
  }

  /** From the bridge to the port's owner. */
  put(offloaded: OffloadedFrame): void {
    const { counters } = this;
    const frames = offloaded.for(this.accepts);
    if (frames.length === 0) counters.dropped.offload += 1;
    for (const frame of frames) {
      if (this.observers.size > 0) for (const observer of this.observers) observer(frame.bytes);
      if (this.#receiver?.(frame) === true) {
        counters.outFrames += 1;
        counters.outBytes += frame.bytes.length;
      } else {
        counters.dropped.full += 1;
      }
    }
  }
}
