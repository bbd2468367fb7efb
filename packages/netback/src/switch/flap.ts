/**
 * Watches addresses that move between links and uplinks. One that does so again and again has two ways in, and frames may go
 * round: for a while it is heard on one of the ports only. It is the address that is held, not the port, so that a guest which
 * sends from addresses of others silences these at most.
 */
import { FLAP_HOLD_MS, FLAP_MOVES, FLAP_WINDOW_MS, MAX_FLAPPING_MACS } from './limits.ts';
import type { MacNumber } from './mac.ts';

interface Record<P> {
  port: P;
  sinceMs: number;
  moves: number;
  heldUntilMs: number;
}

export class FlapGuard<P extends object> {
  readonly #records = new Map<MacNumber, Record<P>>();

  /** False when the address is held on another port. */
  allows(mac: MacNumber, port: P, nowMs: number): boolean {
    if (this.#records.size === 0) return true;
    const record = this.#records.get(mac);
    return record === undefined || record.heldUntilMs <= nowMs || record.port === port;
  }

  /** The address has moved to `port`; true when it is held there from now on. */
  moved(mac: MacNumber, port: P, nowMs: number): boolean {
    let record = this.#records.get(mac);
    if (!record || nowMs - record.sinceMs > FLAP_WINDOW_MS) {
      record = { port, sinceMs: nowMs, moves: 0, heldUntilMs: Number.NEGATIVE_INFINITY };
      this.#records.delete(mac);
      this.#records.set(mac, record);
      if (this.#records.size > MAX_FLAPPING_MACS) this.#dropOldest();
    }
    record.port = port;
    record.moves += 1;
    if (record.moves < FLAP_MOVES) return false;
    record.sinceMs = nowMs;
    record.moves = 0;
    record.heldUntilMs = nowMs + FLAP_HOLD_MS;
    return true;
  }

  remove(port: P): void {
    for (const [mac, record] of this.#records) if (record.port === port) this.#records.delete(mac);
  }

  #dropOldest(): void {
    const [oldest] = this.#records.keys();
    if (oldest !== undefined) this.#records.delete(oldest);
  }
}
