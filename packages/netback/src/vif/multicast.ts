/**
 * The multicast filter that a frontend may ask for (netif.h: request-multicast-control and its extra infos): with it, frames
 * to groups that it has not named stay out.
 */
import { MULTICAST_ADDRESSES } from './limits.ts';
import { macText } from './tx-packets.ts';

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const GROUP_BIT = 1;

export class MulticastFilter {
  /** The list may change while it is not applied. */
  enabled = false;
  readonly #groups = new Set<string>();

  /** False when the list is full. */
  add(address: string): boolean {
    if (this.#groups.size >= MULTICAST_ADDRESSES && !this.#groups.has(address)) return false;
    this.#groups.add(address);
    return true;
  }

  remove(address: string): void {
    this.#groups.delete(address);
  }

  clear(): void {
    this.enabled = false;
    this.#groups.clear();
  }

  /** Whether a frame may pass to the guest. */
  passes(frame: Uint8Array): boolean {
    if (!this.enabled || ((frame[0] ?? 0) & GROUP_BIT) === 0) return true;
    const destination = macText(frame.subarray(0, 6));
    return destination === BROADCAST || this.#groups.has(destination);
  }
}
