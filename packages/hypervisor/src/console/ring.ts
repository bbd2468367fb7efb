/**
 * Xen's own log: a ring of 64 KiB in machine memory, read by `xm dmesg` through sysctl readconsole. Indexes run freely
 * and are cut to the size of the ring. Called with the hypervisor lock held.
 */
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { Core } from '../state/core.ts';
import { CONSOLE_RING_SIZE } from '../state/memory-map.ts';
import type { ConsolePort } from './api.ts';

export interface ConsoleModules {
  /** The ring has something new: VIRQ_CON_RING to Domain-0. */
  written(): void;
}

export interface ConsoleRead {
  readonly bytes: Uint8Array;
  /** Index to give to the next incremental read. */
  readonly next: number;
}

export class ConsoleRing implements ConsolePort {
  readonly #core: Core;
  readonly #modules: ConsoleModules;
  readonly #base: number;

  constructor(core: Core, modules: ConsoleModules) {
    this.#core = core;
    this.#modules = modules;
    this.#base = core.map.consoleRing * PAGE_SIZE;
  }

  log(line: string): void {
    this.write(new TextEncoder().encode(`(XEN) ${line}\n`));
  }

  write(bytes: Uint8Array): void {
    const { header, memory } = this.#core;
    let producer = header.consoleProducer;
    for (const byte of bytes) {
      memory.u8[this.#base + (producer % CONSOLE_RING_SIZE)] = byte;
      producer = (producer + 1) >>> 0;
    }
    header.consoleProducer = producer;
    if ((producer - header.consoleConsumer) >>> 0 > CONSOLE_RING_SIZE)
      header.consoleConsumer = (producer - CONSOLE_RING_SIZE) >>> 0;
    this.#modules.written();
  }

  /**
   * Up to `count` bytes: all there is, or (`incremental`) what came after `index` if that is still there. `clear` drops
   * what is in the ring afterwards.
   */
  read(options: { count: number; incremental: boolean; index: number; clear: boolean }): ConsoleRead {
    const { header, memory } = this.#core;
    const producer = header.consoleProducer;
    let from = header.consoleConsumer;
    if (options.incremental && (options.index - from) >>> 0 <= (producer - from) >>> 0) from = options.index;
    const length = Math.min(options.count, (producer - from) >>> 0);
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = memory.u8[this.#base + (((from + i) >>> 0) % CONSOLE_RING_SIZE)] ?? 0;
    if (options.clear) header.consoleConsumer = producer;
    return { bytes, next: (from + length) >>> 0 };
  }
}
