/**
 * One domain's ring (docs/misc/xenstore-ring.txt), without I/O: it says which steps the next batch has to make in the guest's page, and
 * takes their results. The indices that this end owns (req_cons, rsp_prod) are kept here and never read back; those that the guest
 * owns are checked, and a wild one costs the guest its session until it is introduced again.
 *
 * A whole request stays in the ring until it has been run, and leaves it in the step that puts its reply there: a daemon that was
 * killed finds in the page what its successor has to run again. What does not fit that rule is `RingState`: the head of a request that is
 * not whole yet, and the tail of a reply longer than the room for it.
 */
import { bytesOf } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PageRange, RemotePage } from '@xenhost/privcmd';
import { advance, appendToRing, copyFromRing, ringUsed, u32Bytes } from '@xenhost/pv-ring';
import { XENSTORE_RING_SIZE, XenstoreDomainInterface as Page, XenstoreRingError } from '@xenhost/xen-abi';
import type { XenstoreRingErrorCode } from '@xenhost/xen-abi';
import { XS_HEADER_SIZE, XsPacketReader } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from '../core/connection.ts';
import type { OutputQueue } from '../core/output.ts';
import { ACK } from '../core/request.ts';

const { offsets } = Page;
const RSP_RING = { base: offsets.rsp, size: XENSTORE_RING_SIZE, prodOffset: offsets.rsp_prod };
/** req_cons, req_prod, rsp_cons, rsp_prod, which follow one another. */
const INDEX_BYTES = offsets.server_features - offsets.req_cons;
const EMPTY = Buffer.alloc(0);
const LENGTH_OFFSET = 12;

/** Where a ring stands between two batches. */
export interface RingState {
  readonly reqCons: number;
  readonly rspProd: number;
  /** Bytes of a request taken from the ring before it was whole. */
  readonly head: Buffer;
  /** Bytes of replies to requests that have left the ring. */
  readonly tail: Buffer;
}

export interface RingModules {
  /** Whether the next request may be run now. */
  readonly mayRun: () => boolean;
  /** `end` is the index behind the request. */
  readonly handle: (packet: XsPacket, end: number) => void;
}

/** How a batch went: on, or the domain's session is over. */
export type RingOutcome = 'ok' | 'gone' | XenstoreRingErrorCode;

export class Ring {
  readonly connection: StoreConnection;
  readonly page: RemotePage;
  readonly port: EvtchnPort;
  readonly #modules: RingModules;
  /** Bytes up to which requests have been run, or taken into `#head`. */
  #reqCons: number;
  /** As the page has it. */
  #reqConsTold: number;
  #rspProd: number;
  /** As last read; the guest can only have freed more room since. */
  #rspCons: number;
  #head: Buffer;
  #tail: Buffer;
  /** The guest has sent an event, or added requests, since the ring was last read. */
  #toRead = false;
  /** Requests were seen and left in the ring: there was no room for replies, or an earlier one waits. */
  #left = false;
  readonly #done = new Set<number>();
  /** What the batch under way reads: nothing, the indices, or the requests too. */
  #reading: 'no' | 'indices' | 'all' = 'no';

  constructor(
    { connection, page, port }: Pick<Ring, 'connection' | 'page' | 'port'>,
    state: RingState & { readonly rspCons: number },
    modules: RingModules,
  ) {
    this.connection = connection;
    this.page = page;
    this.port = port;
    this.#modules = modules;
    this.#reqCons = state.reqCons;
    this.#reqConsTold = state.reqCons;
    this.#rspProd = state.rspProd;
    this.#rspCons = state.rspCons;
    this.#head = state.head;
    this.#tail = state.tail;
  }

  /** What a new daemon has to know beyond the page once the batch made by the last `collect` has been run. */
  get state(): RingState {
    return { reqCons: this.#reqCons, rspProd: this.#rspProd, head: this.#head, tail: this.#tail };
  }

  /** Whether `state` is more than what the page itself tells. */
  get hasState(): boolean {
    return this.#head.length > 0 || this.#tail.length > 0;
  }

  /** Requests with these ends have been run, with success: only their replies are missing. */
  skip(ends: readonly number[]): void {
    for (const end of ends) {
      const ahead = (end - this.#reqCons) >>> 0;
      if (ahead > 0 && ahead <= XENSTORE_RING_SIZE) this.#done.add(end);
    }
  }

  /** Ends of requests that will be skipped. */
  get toSkip(): Iterable<number> {
    return this.#done;
  }

  /** The guest has sent an event. */
  event(): void {
    this.#toRead = true;
  }

  /** What is to come with an event: what `collect` has read when the guest has sent one. */
  get eventReads(): PageRange[] {
    const { page } = this;
    return [
      { page, offset: offsets.req_cons, length: INDEX_BYTES },
      { page, offset: offsets.req, length: XENSTORE_RING_SIZE },
    ];
  }

  /** The guest has sent an event, and this came with it. Not while a batch is under way. */
  eventWith(reads: readonly MemoryResult[]): RingOutcome {
    this.#reading = 'all';
    this.#toRead = false;
    this.#left = false;
    return this.settle(reads);
  }

  /** Requests have been run that the page does not know to be taken: the next batch tells it, with their replies. */
  get untold(): boolean {
    return this.#reqCons !== this.#reqConsTold;
  }

  /** Requests wait in the ring that may not be run now. */
  get holdsBack(): boolean {
    return this.#left;
  }

  /** Whether a batch would do something for this ring. */
  get due(): boolean {
    if (this.#toRead || this.untold) return true;
    if (this.#waitingBytes > 0) return this.#room > 0;
    return this.#left && this.#modules.mayRun();
  }

  /** Appends the steps of the next batch. */
  collect(ops: MemoryOp[]): void {
    const { page } = this;
    const before = ops.length;
    const data = this.#takeOutput();
    if (data.length > 0) {
      for (const write of appendToRing(RSP_RING, this.#rspProd, data)) ops.push({ kind: 'write', page, ...write });
      this.#rspProd = advance(this.#rspProd, data.length);
    }
    if (this.untold) {
      ops.push({ kind: 'write', page, offset: offsets.req_cons, data: u32Bytes(this.#reqCons) });
      this.#reqConsTold = this.#reqCons;
    }
    const wrote = ops.length > before;
    if (wrote) ops.push({ kind: 'notify', port: this.port });
    const all = this.#toRead || (this.#left && this.#modules.mayRun());
    this.#reading = all ? 'all' : wrote ? 'indices' : 'no';
    // The indices come first: what they announce is then in the ring for sure. After a write they are read because a guest that saw
    // the old req_cons sends no event for what it appended meanwhile.
    if (this.#reading !== 'no') ops.push({ kind: 'read', page, offset: offsets.req_cons, length: INDEX_BYTES });
    if (all) {
      ops.push({ kind: 'read', page, offset: offsets.req, length: XENSTORE_RING_SIZE });
      this.#toRead = false;
      this.#left = false;
    }
  }

  /** Takes the results of the steps that `collect` appended, and runs requests. */
  settle(results: readonly MemoryResult[]): RingOutcome {
    const reading = this.#reading;
    if (reading === 'no') return 'ok';
    const ring = reading === 'all' ? results.at(-1)?.data : undefined;
    const indices = results.at(reading === 'all' ? -2 : -1)?.data;
    if (indices?.length !== INDEX_BYTES) return 'gone';
    const { dv } = bytesOf(indices);
    const reqProd = dv.getUint32(offsets.req_prod - offsets.req_cons, true);
    const rspCons = dv.getUint32(offsets.rsp_cons - offsets.req_cons, true);
    const pending = ringUsed(reqProd, this.#reqCons, XENSTORE_RING_SIZE);
    if (pending === undefined || ringUsed(this.#rspProd, rspCons, XENSTORE_RING_SIZE) === undefined) {
      return XenstoreRingError.RINGIDX;
    }
    this.#rspCons = rspCons;
    if (reading === 'indices') {
      if (pending > 0 && !this.#left) this.#toRead = true;
      return 'ok';
    }
    if (ring?.length !== XENSTORE_RING_SIZE) return 'gone';
    return pending === 0 ? 'ok' : this.#run(copyFromRing(ring, this.#reqCons, pending));
  }

  get #room(): number {
    return XENSTORE_RING_SIZE - ((this.#rspProd - this.#rspCons) >>> 0);
  }

  get #waitingBytes(): number {
    return this.#tail.length + this.connection.output.bytes;
  }

  #run(bytes: Uint8Array): RingOutcome {
    const reader = new XsPacketReader();
    const headBytes = this.#head.length;
    if (headBytes > 0) reader.push(this.#head);
    reader.push(bytes);
    while (reader.ready) {
      // A request is run only when all that waits has room: with its reply it leaves the ring.
      if (!this.#modules.mayRun() || this.#waitingBytes > this.#room) {
        this.#left = true;
        break;
      }
      const packet = reader.next();
      if (!packet) return XenstoreRingError.PROTO;
      const end = advance(this.#reqCons, bytes.length - reader.pendingBytes);
      if (this.#done.delete(end)) this.connection.output.reply(packet.op, packet.reqId, packet.txId, ACK);
      else this.#modules.handle(packet, end);
    }
    const { rest } = reader;
    if (reader.ready) {
      // What has not been run stays where it is: in the ring, its beginning perhaps in the head.
      const isUntouched = rest.length === headBytes + bytes.length;
      if (!isUntouched) this.#head = EMPTY;
      this.#reqCons = advance(this.#reqCons, isUntouched ? 0 : bytes.length - rest.length);
    } else {
      // Linux writes header and payload apart, and sends no event for what it appends to bytes that have not been taken.
      this.#head = Buffer.from(rest);
      this.#reqCons = advance(this.#reqCons, bytes.length);
    }
    return 'ok';
  }

  /** What goes into the ring now. Of a packet that is cut the rest comes into `#tail`, and so do all replies behind it. */
  #takeOutput(): Buffer {
    const room = this.#room;
    if (this.#tail.length > room) {
      const data = this.#tail.subarray(0, room);
      this.#tail = Buffer.from(this.#tail.subarray(room));
      return data;
    }
    const { output } = this.connection;
    const fresh = output.take(room - this.#tail.length);
    const data = this.#tail.length > 0 ? Buffer.concat([this.#tail, fresh]) : fresh;
    const late = restOfPacket(output, beginningOfLast(fresh));
    while (output.replies > 0) {
      const first = output.take(1);
      late.push(first, ...restOfPacket(output, first));
    }
    this.#tail = late.length > 0 ? Buffer.concat(late) : EMPTY;
    return data;
  }
}

/** The bytes of the last of these packets if it is cut; none when all are whole. */
function beginningOfLast(packets: Buffer): Buffer {
  let at = 0;
  while (packets.length - at >= XS_HEADER_SIZE) {
    const end = at + XS_HEADER_SIZE + packets.readUInt32LE(at + LENGTH_OFFSET);
    if (end > packets.length) break;
    at = end;
  }
  return packets.subarray(at);
}

/** Takes the rest of a packet of which `begun` has been taken; nothing when nothing has. */
function restOfPacket(output: OutputQueue, begun: Buffer): Buffer[] {
  if (begun.length === 0) return [];
  const pieces: Buffer[] = [];
  let header = begun;
  if (begun.length < XS_HEADER_SIZE) {
    pieces.push(output.take(XS_HEADER_SIZE - begun.length));
    header = Buffer.concat([begun, ...pieces]);
  }
  const size = XS_HEADER_SIZE + header.readUInt32LE(LENGTH_OFFSET);
  pieces.push(output.take(size - header.length));
  return pieces;
}
