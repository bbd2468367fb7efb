/**
 * console_io (18): guests write lines to Xen's log, as a debug build of Xen lets them; Domain-0 may read.
 * `xen/include/public/xen.h`, CONSOLEIO_*.
 */
import { Errno } from '@xenhost/base';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import { DomainFlag } from '../state/records.ts';
import type { ConsoleRing } from './ring.ts';

const CONSOLEIO_WRITE = 0;
const CONSOLEIO_READ = 1;
/** Bytes taken in one go, as Xen's buffer for a line of a guest. */
const CHUNK = 128;
/** A guest's line is cut at this many bytes, newline or not. */
const MAX_LINE = 512;

export class ConsoleIo {
  readonly #ring: ConsoleRing;
  /** Begun lines by domain. They are of this thread: a vCPU that moves in the middle of a line may see it cut. */
  readonly #lines = new Map<number, string>();

  constructor(ring: ConsoleRing) {
    this.#ring = ring;
  }

  readonly hypercall = (call: HypercallCall): HypercallResult => {
    const [cmd = 0n, count = 0n, buffer = 0n] = call.args;
    const privileged = (call.domain.v.flags & DomainFlag.privileged) !== 0;
    switch (Number(BigInt.asUintN(32, cmd))) {
      case CONSOLEIO_WRITE:
        return this.#write(call, Number(BigInt.asUintN(32, count)), buffer, privileged);
      case CONSOLEIO_READ:
        return privileged ? 0 : -Errno.EPERM;
      default:
        return privileged ? -Errno.ENOSYS : -Errno.EPERM;
    }
  };

  #write(call: HypercallCall, count: number, buffer: bigint, privileged: boolean): HypercallResult {
    for (let done = 0; done < count; done += CHUNK) {
      const bytes = call.memory.read(buffer + BigInt(done), Math.min(CHUNK, count - done));
      if (!bytes) return -Errno.EFAULT;
      if (privileged) this.#ring.write(bytes);
      else this.#guestBytes(call.domid, bytes);
      if (call.shouldPreempt() && done + CHUNK < count) {
        call.args[1] = BigInt(count - done - CHUNK);
        call.args[2] = buffer + BigInt(done + CHUNK);
        return 'continue';
      }
    }
    return 0;
  }

  #guestBytes(domid: number, bytes: Uint8Array): void {
    let line = this.#lines.get(domid) ?? '';
    for (const byte of bytes) {
      if (byte !== 10 && line.length < MAX_LINE) {
        if (isPrintable(byte)) line += String.fromCharCode(byte);
        continue;
      }
      this.#ring.write(new TextEncoder().encode(`(d${domid}) ${line}\n`));
      line = byte === 10 || !isPrintable(byte) ? '' : String.fromCharCode(byte);
    }
    if (line === '') this.#lines.delete(domid);
    else this.#lines.set(domid, line);
  }
}

const isPrintable = (byte: number): boolean => (byte >= 32 && byte < 127) || byte === 9;
