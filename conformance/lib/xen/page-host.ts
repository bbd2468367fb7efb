/**
 * What stands for the hypervisor below our xenstored where Debian's have fakexen.c: privcmd over the pages and FIFOs of a
 * directory (fakexen.h). A process of its own, as the hypervisor is.
 *   page-host.ts DIRECTORY      serves DIRECTORY/privcmd.sock
 */
import { closeSync, constants, existsSync, openSync, readSync, readdirSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Errno, evtchnPort } from '@xenhost/base';
import { runSteps, servePrivcmd } from '@xenhost/privcmd';
import type { Arena, EventSink, MemoryOp, MemoryResult, PrivcmdBackend } from '@xenhost/privcmd';
import { answerDomainList } from '@xenhost/privcmd/testing';

const FIRST_PORT = 1000;
const VIRQ_PORT = 1;
const PORT_BYTES = 4;

class PageBackend implements PrivcmdBackend {
  readonly #directory: string;
  readonly #pages = new Map<number, number>();
  readonly #doorbells = new Map<number, number>();
  #sink: EventSink = () => undefined;
  #rest = Buffer.alloc(0);

  constructor(directory: string) {
    this.#directory = directory;
    const fd = openSync(join(directory, 'events'), constants.O_RDWR | constants.O_NONBLOCK);
    new Socket({ fd, readable: true, writable: false }).on('data', (chunk) => {
      this.#ring(chunk);
    });
  }

  hypercall(_connection: number, op: number, args: bigint[], memory: Arena): number {
    return answerDomainList(op, args, { memory, domids: this.#living() });
  }

  memory(_connection: number, ops: readonly MemoryOp[]): MemoryResult[] {
    return runSteps(ops, {
      read: ({ page, offset }, target) => {
        const fd = this.#page(page.domid);
        if (fd !== undefined) readSync(fd, target, 0, target.length, offset);
        return fd === undefined ? -Errno.ESRCH : 0;
      },
      write: ({ page, offset }, data) => {
        const fd = this.#page(page.domid);
        if (fd !== undefined) writeSync(fd, data, 0, data.length, offset);
        return fd === undefined ? -Errno.ESRCH : 0;
      },
      notify: (port) => this.notify(0, port),
    });
  }

  bindUnbound(): number {
    return -Errno.ENOSYS;
  }

  bindInterdomain(_connection: number, remote: number): number {
    return this.#page(remote) === undefined ? -Errno.ESRCH : FIRST_PORT + remote;
  }

  bindVirq(): number {
    return VIRQ_PORT;
  }

  notify(_connection: number, port: number): number {
    const domid = port - FIRST_PORT;
    if (domid < 0) return 0;
    let fd = this.#doorbells.get(domid);
    if (fd === undefined) {
      fd = openSync(join(this.#directory, `events.${domid}`), constants.O_RDWR | constants.O_NONBLOCK);
      this.#doorbells.set(domid, fd);
    }
    try {
      writeSync(fd, '\0');
    } catch (error) {
      // A full one has told it already.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    return 0;
  }

  unbind(_connection: number, port: number): number {
    const domid = port - FIRST_PORT;
    for (const fds of [this.#doorbells, this.#pages]) {
      const fd = fds.get(domid);
      if (fd !== undefined) closeSync(fd);
      fds.delete(domid);
    }
    return 0;
  }

  connectionClosed(): void {
    // Ports were unbound; nothing else is held for a connection.
  }

  setEventSink(sink: EventSink): void {
    this.#sink = sink;
  }

  #ring(chunk: Buffer): void {
    const bytes = Buffer.concat([this.#rest, chunk]);
    const ports = new Set<number>();
    let at = 0;
    for (; at + PORT_BYTES <= bytes.length; at += PORT_BYTES) ports.add(bytes.readUInt32LE(at));
    this.#rest = bytes.subarray(at);
    for (const port of ports) this.#sink(evtchnPort(port));
  }

  #living(): number[] {
    return readdirSync(this.#directory)
      .map((name) => Number(/^page\.(\d+)$/.exec(name)?.[1] ?? NaN))
      .filter((domid) => domid >= 0 && !existsSync(join(this.#directory, `dead.${domid}`)))
      .sort((a, b) => a - b);
  }

  #page(domid: number): number | undefined {
    let fd = this.#pages.get(domid);
    const path = join(this.#directory, `page.${domid}`);
    if (fd === undefined && existsSync(path)) this.#pages.set(domid, (fd = openSync(path, 'r+')));
    return fd;
  }
}

const directory = process.argv[2] ?? '.';
await servePrivcmd(
  {
    path: join(directory, 'privcmd.sock'),
    log: (event) => void process.stderr.write(`page-host: ${inspect(event)}\n`),
  },
  new PageBackend(directory),
);
process.stdout.write('ready\n');
