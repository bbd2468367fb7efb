/**
 * What the toolstack in the page's control worker takes from Node's globals, and only that: bytes compared and read as
 * text by libxenctrl, turns of the event loop by privcmd's sessions. The engine and the hypervisor have none of it.
 */
import { scope } from './scope.ts';

const latin1 = (bytes: Uint8Array): string => Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');

class Bytes extends Uint8Array {
  compare(other: Uint8Array, otherStart: number, otherEnd: number, start: number, end: number): number {
    const [a, b] = [this.subarray(start, end), other.subarray(otherStart, otherEnd)];
    for (let i = 0; i < Math.min(a.length, b.length); i++) {
      const difference = (a[i] ?? 0) - (b[i] ?? 0);
      if (difference !== 0) return Math.sign(difference);
    }
    return Math.sign(a.length - b.length);
  }
  override toString(): string {
    return latin1(this);
  }
}

export const Buffer = {
  alloc: (length: number): Bytes => new Bytes(length),
  from(source: string | Uint8Array): Bytes {
    const bytes = new Bytes(source.length);
    bytes.set(typeof source === 'string' ? Array.from(source, (char) => char.charCodeAt(0) & 0xff) : source);
    return bytes;
  },
};

const { port1, port2 } = new scope.MessageChannel();
const waiting: (() => void)[] = [];
port1.onmessage = () => waiting.shift()?.();

/** A turn of its own for `body`, without the pause of a nested timeout. */
export function setImmediate(body: () => void): void {
  waiting.push(body);
  port2.postMessage(0);
}
