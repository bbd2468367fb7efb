/**
 * Which port a MAC is behind. Learned entries age; guests' own addresses are pinned: no other port can take them over, so that
 * a guest hears what is meant for it and nobody else does. Bounded, as a whole and for each port.
 */
import type { MacNumber } from './mac.ts';

export interface MacTableOptions {
  readonly maxMacs: number;
  readonly ageMs: number;
}

/** What a frame's source told: `foreign` is an address pinned to another port, `full` one there was no room for. */
export type Learned = 'known' | 'new' | 'moved' | 'foreign' | 'full';

interface Entry<P> {
  port: P;
  seenMs: number;
}

export interface MacRow<P> {
  readonly mac: MacNumber;
  readonly port: P;
  readonly pinned: boolean;
  /** 0 for pinned ones. */
  readonly ageMs: number;
}

/** Sweeps of a full table are at least this far apart. */
const SWEEP_MS = 1000;

export class MacTable<P extends object> {
  readonly #options: MacTableOptions;
  readonly #learned = new Map<MacNumber, Entry<P>>();
  /** Several ports may hold one address for a moment (a guest that migrates within the host): the last one counts. */
  readonly #pinned = new Map<MacNumber, P[]>();
  readonly #counts = new Map<P, number>();
  #sweptMs = Number.NEGATIVE_INFINITY;

  constructor(options: MacTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#learned.size;
  }

  pin(mac: MacNumber, port: P): void {
    this.#forget(mac);
    this.#pinned.set(mac, [...(this.#pinned.get(mac) ?? []), port]);
  }

  /** Forgets all that is behind a port. */
  remove(port: P): void {
    for (const [mac, ports] of this.#pinned) {
      const rest = ports.filter((other) => other !== port);
      if (rest.length === 0) this.#pinned.delete(mac);
      else if (rest.length < ports.length) this.#pinned.set(mac, rest);
    }
    for (const [mac, entry] of this.#learned) if (entry.port === port) this.#learned.delete(mac);
    this.#counts.delete(port);
  }

  /** A frame from `mac` came in at `port`, which may have `portLimit` learned addresses. */
  learn(mac: MacNumber, port: P, portLimit: number, nowMs: number): Learned {
    const pins = this.#pinned.get(mac);
    if (pins) return pins.at(-1) === port ? 'known' : 'foreign';
    const entry = this.#learned.get(mac);
    if (entry?.port === port) {
      entry.seenMs = nowMs;
      return 'known';
    }
    if (entry && nowMs - entry.seenMs > this.#options.ageMs) this.#forget(mac);
    const moved = this.#learned.has(mac);
    if ((this.#counts.get(port) ?? 0) >= portLimit || (!moved && this.#learned.size >= this.#options.maxMacs)) {
      this.#sweep(nowMs);
      const full = (this.#counts.get(port) ?? 0) >= portLimit || this.#learned.size >= this.#options.maxMacs;
      if (full) return 'full';
    }
    this.#forget(mac);
    this.#learned.set(mac, { port, seenMs: nowMs });
    this.#counts.set(port, (this.#counts.get(port) ?? 0) + 1);
    return moved ? 'moved' : 'new';
  }

  lookup(mac: MacNumber, nowMs: number): P | undefined {
    const pin = this.#pinned.get(mac)?.at(-1);
    if (pin) return pin;
    const entry = this.#learned.get(mac);
    if (!entry) return undefined;
    if (nowMs - entry.seenMs <= this.#options.ageMs) return entry.port;
    this.#forget(mac);
    return undefined;
  }

  rows(nowMs: number): MacRow<P>[] {
    const rows: MacRow<P>[] = [];
    for (const [mac, ports] of this.#pinned) {
      const port = ports.at(-1);
      if (port) rows.push({ mac, port, pinned: true, ageMs: 0 });
    }
    for (const [mac, { port, seenMs }] of this.#learned) {
      const ageMs = nowMs - seenMs;
      if (ageMs <= this.#options.ageMs) rows.push({ mac, port, pinned: false, ageMs });
    }
    return rows;
  }

  #forget(mac: MacNumber): void {
    const entry = this.#learned.get(mac);
    if (!entry) return;
    this.#learned.delete(mac);
    const count = (this.#counts.get(entry.port) ?? 1) - 1;
    if (count > 0) this.#counts.set(entry.port, count);
    else this.#counts.delete(entry.port);
  }

  #sweep(nowMs: number): void {
    if (nowMs - this.#sweptMs < SWEEP_MS) return;
    this.#sweptMs = nowMs;
    for (const [mac, { seenMs }] of this.#learned) if (nowMs - seenMs > this.#options.ageMs) this.#forget(mac);
  }
}
