/**
 * Compiled code that one pCPU's engine made, for the engines of the others. A broadcast channel carries it; words in
 * shared memory say how much was sent and how much each has taken, so that a pCPU that sleeps keeps nothing alive.
 */
import { BroadcastChannel, receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import type { EngineHost, SharedRegions } from '@xenhost/cpu';

/** Messages that the slowest pCPU may be behind; then nothing more is sent until it takes some. */
const MAX_BEHIND = 32;
const CHANNEL = 'xenhost compiled code';

/** Words: sent, then one a pCPU: taken. */
export const sharedCodeWords = (nrPcpus: number): SharedArrayBuffer => new SharedArrayBuffer(4 * (nrPcpus + 1));

export class SharedCode implements Required<Pick<EngineHost, 'shareRegions' | 'takeRegions'>> {
  readonly #words: Int32Array;
  readonly #mine: number;
  readonly #channel: BroadcastChannel;

  constructor(options: { pcpu: number; words: SharedArrayBuffer }) {
    this.#words = new Int32Array(options.words);
    this.#mine = options.pcpu + 1;
    this.#channel = new BroadcastChannel(CHANNEL);
    this.#channel.unref();
  }

  shareRegions(shared: SharedRegions): void {
    const sent = Atomics.load(this.#words, 0);
    for (let n = 1; n < this.#words.length; n++)
      if (n !== this.#mine && sent - Atomics.load(this.#words, n) >= MAX_BEHIND) return;
    this.#channel.postMessage(shared);
    Atomics.add(this.#words, 0, 1);
    // Nobody gets what he has sent himself.
    Atomics.add(this.#words, this.#mine, 1);
  }

  close(): void {
    this.#channel.close();
  }

  takeRegions(): SharedRegions | undefined {
    if (Atomics.load(this.#words, 0) === Atomics.load(this.#words, this.#mine)) return undefined;
    // Documented for broadcast channels too, which the type does not say.
    const received = receiveMessageOnPort(this.#channel as unknown as MessagePort);
    if (!received) return undefined;
    Atomics.add(this.#words, this.#mine, 1);
    const message: unknown = received.message;
    return message as SharedRegions;
  }
}
