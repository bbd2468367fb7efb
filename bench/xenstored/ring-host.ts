/**
 * Twenty guests that ask as fast as they are answered, and the hypervisor's end of privcmd for them: one process, as the
 * hypervisor is, its guests' pages in its memory. Prints the client's line of JSON (client.c).
 *   ring-host.ts DIRECTORY SECONDS read|write      serves DIRECTORY/privcmd.sock; `go` on standard input begins
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { Errno, bytesOf, evtchnPort } from '@xenhost/base';
import { runSteps, servePrivcmd } from '@xenhost/privcmd';
import type { Arena, EventSink, MemoryOp, MemoryResult, PrivcmdBackend } from '@xenhost/privcmd';
import { answerDomainList } from '@xenhost/privcmd/testing';
import { advance, appendToRing, copyFromRing } from '@xenhost/pv-ring';
import { XENSTORE_RING_SIZE, XenstoreDomainInterface as Page } from '@xenhost/xen-abi';
import { XsOp, XsPacketParser, encodeXsPacket } from '@xenhost/xs-wire';
import { RINGS } from './rings.ts';

const FIRST_PORT = 1000;
const VIRQ_PORT = 1;
const PAGE_BYTES = 4096;
const DOMIDS = Array.from({ length: RINGS }, (_, i) => i + 1);
const REQ_RING = { base: Page.offsets.req, size: XENSTORE_RING_SIZE, prodOffset: Page.offsets.req_prod };

class Guest {
  readonly bytes = new Uint8Array(PAGE_BYTES);
  readonly #view = Page.view(bytesOf(this.bytes), 0);
  readonly #parser = new XsPacketParser();
  /** When the request under way was put. */
  #sentAt = 0;
  answered = 0;

  put(request: Uint8Array): void {
    this.#sentAt = performance.now();
    for (const { offset, data } of appendToRing(REQ_RING, this.#view.req_prod, request)) this.bytes.set(data, offset);
  }

  /** Microseconds that the request took, when its answer has come. */
  take(): number | undefined {
    const cons = this.#view.rsp_cons;
    const used = (this.#view.rsp_prod - cons) >>> 0;
    if (used === 0) return undefined;
    const ring = this.bytes.subarray(Page.offsets.rsp, Page.offsets.rsp + XENSTORE_RING_SIZE);
    const packets = this.#parser.push(copyFromRing(ring, cons, used));
    this.#view.rsp_cons = advance(cons, used);
    if (packets.length === 0) return undefined;
    if (packets[0]?.op === XsOp.ERROR) throw new Error(`answered ${packets[0].payload.toString()}`);
    this.answered += packets.length;
    return (performance.now() - this.#sentAt) * 1000;
  }
}

class RingHost implements PrivcmdBackend {
  readonly #guests = Array.from({ length: RINGS }, () => new Guest());
  readonly #request: Uint8Array;
  readonly #latencies: number[] = [];
  #sink: EventSink = () => undefined;
  #state: 'waiting' | 'warming' | 'measuring' | 'done' = 'waiting';

  constructor(request: Uint8Array) {
    this.#request = request;
  }

  async run(seconds: number): Promise<void> {
    this.#state = 'warming';
    for (const [i, guest] of this.#guests.entries()) this.#ask(guest, i);
    await new Promise((done) => setTimeout(done, 100 * seconds));
    this.#state = 'measuring';
    const start = performance.now();
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    const rate = this.#latencies.length / ((performance.now() - start) / 1000);
    this.#state = 'done';
    const operations = this.#guests.reduce((sum, { answered }) => sum + answered, 0);
    if (this.#guests.some(({ answered }) => answered === 0)) throw new Error('a guest was never answered');
    const sorted = this.#latencies.sort((a, b) => a - b);
    const [p50, p99] = [0.5, 0.99].map((part) => sorted[Math.floor(part * sorted.length)]);
    process.stdout.write(`${JSON.stringify({ rate, operations, p50, p99 })}\n`);
  }

  hypercall(_connection: number, op: number, args: bigint[], memory: Arena): number {
    return answerDomainList(op, args, { memory, domids: DOMIDS });
  }

  memory(_connection: number, ops: readonly MemoryOp[]): MemoryResult[] {
    return runSteps(ops, {
      read: ({ page, offset }, target) => {
        const guest = this.#guests[page.domid - 1];
        target.set(guest?.bytes.subarray(offset, offset + target.length) ?? []);
        return guest ? 0 : -Errno.ESRCH;
      },
      write: ({ page, offset }, data) => {
        const guest = this.#guests[page.domid - 1];
        guest?.bytes.set(data, offset);
        return guest ? 0 : -Errno.ESRCH;
      },
      notify: (port) => this.notify(0, port),
    });
  }

  bindUnbound(): number {
    return -Errno.ENOSYS;
  }

  bindInterdomain(_connection: number, remote: number): number {
    return this.#guests[remote - 1] ? FIRST_PORT + remote : -Errno.ESRCH;
  }

  bindVirq(): number {
    return VIRQ_PORT;
  }

  /** The guest runs at once: it takes its answer and asks again. */
  notify(_connection: number, port: number): number {
    const guest = this.#guests[port - FIRST_PORT - 1];
    if (!guest) return 0;
    const microseconds = guest.take();
    if (microseconds === undefined) return 0;
    if (this.#state === 'measuring') this.#latencies.push(microseconds);
    if (this.#state !== 'done') this.#ask(guest, port - FIRST_PORT - 1);
    return 0;
  }

  unbind(): number {
    return 0;
  }

  connectionClosed(): void {
    // Nothing is held for a connection.
  }

  setEventSink(sink: EventSink): void {
    this.#sink = sink;
  }

  #ask(guest: Guest, index: number): void {
    guest.put(this.#request);
    this.#sink(evtchnPort(FIRST_PORT + 1 + index));
  }
}

const [directory = '.', seconds = '1', operation = 'read'] = process.argv.slice(2);
const host = new RingHost(
  operation === 'read' ? encodeXsPacket(XsOp.READ, 1, 0, 'data\0') : encodeXsPacket(XsOp.WRITE, 1, 0, 'data\0w'),
);
const server = await servePrivcmd(
  { path: join(directory, 'privcmd.sock'), log: (event) => void process.stderr.write(`${event.kind}\n`) },
  host,
);
process.stdout.write('ready\n');
await once(process.stdin, 'data');
await host.run(Number(seconds));
await server.close();
process.exit(0);
