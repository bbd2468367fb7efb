/**
 * Between the port's values and the protocol's messages, both ways. Decoding trusts nothing: counts, lengths and kinds
 * are checked against limits and against the payload; what is wrong becomes a `BadRequest`, not an exception out of
 * some arithmetic.
 */
import { domid, Errno, evtchnPort, grantRef } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import { arenaProblem } from '../arena.ts';
import { MAX_HYPERCALL_ARGS } from '../limits.ts';
import type {
  ArenaSegment,
  HypercallRequest,
  MemoryOp,
  MemoryResult,
  PagePlace,
  PageRange,
  RemotePage,
} from '../port.ts';
import type { PrivcmdLimits } from '../server.ts';
import { fromWireU64, toWireU64 } from './convert.ts';
import { MemoryKind, PageSpace } from './schema.ts';
import type { WireEvents, WireHypercall, WireMemory, WireReply } from './schema.ts';

/** A request that cannot be run: answered with this errno and reason, the connection goes on. */
export class BadRequest extends Error {
  readonly errno: number;
  constructor(errno: number, reason: string) {
    super(reason);
    this.errno = errno;
  }
}

const MAX_FRAME_NUMBER = 0xffff_ffff;

const ZEROS = Buffer.alloc(65536);

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const end = Math.min(at + ZEROS.length, bytes.length);
    if (ZEROS.compare(bytes, at, end, 0, end - at) !== 0) return false;
  }
  return true;
}

export function encodeHypercall(request: HypercallRequest): { wire: WireHypercall; payload: Uint8Array[] } {
  const payload: Uint8Array[] = [];
  const arena = (request.arena ?? []).map(({ address, bytes, output }) => {
    const stored = !(output && isZero(bytes));
    if (stored) payload.push(bytes);
    return { address: toWireU64(address), length: bytes.length, stored, output };
  });
  return { wire: { op: request.op, args: request.args.map(toWireU64), arena }, payload };
}

/** @throws BadRequest */
export function decodeHypercall(wire: WireHypercall, payload: Uint8Array, limits: PrivcmdLimits): HypercallRequest {
  if (wire.args.length > MAX_HYPERCALL_ARGS) throw new BadRequest(Errno.EINVAL, `${wire.args.length} arguments`);
  if (wire.arena.length > limits.maxArenaSegments) throw new BadRequest(Errno.E2BIG, `${wire.arena.length} segments`);
  const take = taker(payload, limits);
  const arena: ArenaSegment[] = wire.arena.map(({ address, length, stored, output }) => ({
    address: fromWireU64(address),
    bytes: stored ? take(length) : take.zeros(length),
    output,
  }));
  take.end();
  const problem = arenaProblem(arena);
  if (problem) throw new BadRequest(Errno.EINVAL, problem);
  return { op: wire.op, args: wire.args.map(fromWireU64), arena };
}

/** Takes lengths off a payload; both what is in it and what is asked for stay under the payload's limit. */
function taker(payload: Uint8Array, limits: PrivcmdLimits) {
  let at = 0;
  let asked = 0;
  const take = (length: number): Uint8Array => {
    if (at + length > payload.length) throw new BadRequest(Errno.EINVAL, 'payload shorter than its message says');
    at += length;
    return payload.subarray(at - length, at);
  };
  take.reserve = (length: number): void => {
    asked += length;
    if (asked > limits.maxPayloadBytes)
      throw new BadRequest(Errno.E2BIG, `answer over ${limits.maxPayloadBytes} bytes`);
  };
  take.zeros = (length: number): Uint8Array => {
    take.reserve(length);
    return new Uint8Array(length);
  };
  take.end = (): void => {
    if (at !== payload.length) throw new BadRequest(Errno.EINVAL, 'payload longer than its message says');
  };
  return take;
}

const KINDS = {
  read: { foreign: MemoryKind.readForeign, grant: MemoryKind.readGrant },
  write: { foreign: MemoryKind.writeForeign, grant: MemoryKind.writeGrant },
  push: { foreign: MemoryKind.pushForeign, grant: MemoryKind.pushGrant },
  copy: { foreign: MemoryKind.copyForeign, grant: MemoryKind.copyGrant },
} as const;

const frameOf = (page: RemotePage): number => (page.space === 'foreign' ? page.gfn : page.gref);

export function encodeMemory(ops: readonly MemoryOp[]): { wire: WireMemory; payload: Uint8Array[] } {
  const wire: WireMemory = { kind: [], domid: [], frame: [], offset: [], length: [], more: [] };
  const payload: Uint8Array[] = [];
  const row = (kind: keyof typeof KINDS, { page, offset }: PagePlace, length: number): void => {
    wire.kind.push(KINDS[kind][page.space]);
    wire.domid.push(page.domid);
    wire.frame.push(frameOf(page));
    wire.offset.push(offset);
    wire.length.push(length);
  };
  for (const op of ops) {
    switch (op.kind) {
      case 'read':
        row('read', op, op.length);
        break;
      case 'write':
        row('write', op, op.data.length);
        payload.push(op.data);
        break;
      case 'copy':
        row('copy', op.from, op.length);
        wire.more.push(PageSpace[op.to.page.space], op.to.page.domid, frameOf(op.to.page), op.to.offset);
        break;
      case 'notify':
        if (op.push) {
          row('push', op.push, 0);
          wire.more.push(op.port, op.push.from, op.push.to);
          break;
        }
        wire.kind.push(MemoryKind.notify);
        wire.frame.push(op.port);
        for (const column of [wire.domid, wire.offset, wire.length]) column.push(0);
        break;
      case 'check':
        wire.kind.push(MemoryKind.check);
        for (const column of [wire.domid, wire.frame, wire.offset, wire.length]) column.push(0);
    }
  }
  return { wire, payload };
}

/** Whether a step's numbers survive the encoding; if not it fails alone with EINVAL on the caller's side. */
export function encodable(op: MemoryOp): boolean {
  switch (op.kind) {
    case 'notify':
      return isU32(op.port) && (!op.push || (isPlace(op.push) && isU32(op.push.from) && isU32(op.push.to)));
    case 'copy':
      return isPlace(op.from) && isPlace(op.to) && isU32(op.length);
    case 'read':
      return isPlace(op) && isU32(op.length);
    case 'write':
      return isPlace(op);
    case 'check':
      return true;
  }
}

const isU32 = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= MAX_FRAME_NUMBER;
const isPlace = ({ page, offset }: PagePlace): boolean => isU32(frameOf(page)) && isU32(page.domid) && isU32(offset);

const remotePage = (space: number, dom: number, frame: number): RemotePage =>
  space === PageSpace.foreign
    ? { space: 'foreign', domid: domid(dom), gfn: frame }
    : { space: 'grant', domid: domid(dom), gref: grantRef(frame) };

/** @throws BadRequest */
export function decodeMemory(wire: WireMemory, payload: Uint8Array, limits: PrivcmdLimits): MemoryOp[] {
  const count = wire.kind.length;
  if (count > limits.maxMemoryOps) throw new BadRequest(Errno.E2BIG, `${count} memory steps`);
  for (const column of [wire.domid, wire.frame, wire.offset, wire.length]) {
    if (column.length !== count) throw new BadRequest(Errno.EINVAL, 'memory columns of different lengths');
  }
  const take = taker(payload, limits);
  let more = 0;
  const next = (): number => {
    const value = wire.more[more++];
    if (value === undefined) throw new BadRequest(Errno.EINVAL, 'memory steps without their rest');
    return value;
  };
  const ops: MemoryOp[] = [];
  for (let i = 0; i < count; i++) {
    const kind = wire.kind[i] ?? 0;
    const frame = wire.frame[i] ?? 0;
    const length = wire.length[i] ?? 0;
    if (kind === MemoryKind.notify) {
      ops.push({ kind: 'notify', port: evtchnPort(frame) });
      continue;
    }
    if (kind === MemoryKind.check) {
      ops.push({ kind: 'check' });
      continue;
    }
    const space = SPACE_OF_KIND[kind];
    if (space === undefined) throw new BadRequest(Errno.EINVAL, `memory step of kind ${kind}`);
    const page = remotePage(space, wire.domid[i] ?? 0, frame);
    const place = { page, offset: wire.offset[i] ?? 0 };
    switch (kind) {
      case MemoryKind.readForeign:
      case MemoryKind.readGrant:
        take.reserve(length);
        ops.push({ kind: 'read', ...place, length });
        break;
      case MemoryKind.writeForeign:
      case MemoryKind.writeGrant:
        ops.push({ kind: 'write', ...place, data: take(length) });
        break;
      case MemoryKind.pushForeign:
      case MemoryKind.pushGrant:
        ops.push({ kind: 'notify', port: evtchnPort(next()), push: { ...place, from: next(), to: next() } });
        break;
      default:
        ops.push({
          kind: 'copy',
          from: place,
          to: { page: remotePage(next(), next(), next()), offset: next() },
          length,
        });
    }
  }
  take.end();
  if (more !== wire.more.length) throw new BadRequest(Errno.EINVAL, 'more than the memory steps need');
  return ops;
}

/** Of the kinds of steps with a page. */
const SPACE_OF_KIND: readonly (number | undefined)[] = Array.from(
  { length: 1 + Math.max(...Object.values(MemoryKind)) },
  (_, kind) => {
    const of = Object.values(KINDS).find(({ foreign, grant }) => foreign === kind || grant === kind);
    return of && (of.foreign === kind ? PageSpace.foreign : PageSpace.grant);
  },
);

/** The reads of an event as a request has them. @throws BadRequest */
export function decodeEventReads(wire: WireMemory | undefined, limits: PrivcmdLimits): PageRange[] {
  if (!wire) return [];
  return decodeMemory(wire, new Uint8Array(0), limits).map((op) => {
    if (op.kind !== 'read') throw new BadRequest(Errno.EINVAL, 'a step that is no read');
    return op;
  });
}

export const emptyReply = (id: number): WireReply => ({ id, errno: 0, reason: '', status: [], length: [] });

/** Columns of results, for a reply or for events; their bytes are added to `payload`. */
function putResults(
  wire: { status: number[]; length: number[] },
  payload: Uint8Array[],
  results: readonly MemoryResult[],
): void {
  for (const { status, data } of results) {
    wire.status.push(status);
    wire.length.push(data?.length ?? 0);
    if (data) payload.push(data);
  }
}

export function memoryReply(id: number, results: readonly MemoryResult[]): { wire: WireReply; payload: Uint8Array[] } {
  const wire = emptyReply(id);
  const payload: Uint8Array[] = [];
  putResults(wire, payload, results);
  return { wire, payload };
}

/** Puts a reply's bytes back where the caller wants them. @throws Error when the reply does not fit the request */
export function memoryResults(ops: readonly MemoryOp[], reply: WireReply, payload: Uint8Array): MemoryResult[] {
  if (reply.status.length !== ops.length) throw new Error('privcmd: reply with another number of memory steps');
  let at = 0;
  return ops.map((op, i) => {
    const status = reply.status[i] ?? -Errno.EIO;
    const length = reply.length[i] ?? 0;
    const data = payload.subarray(at, at + length);
    at += length;
    return op.kind === 'read' && status === 0 ? { status, data } : { status };
  });
}

/** A port that was raised, with what was read for it. */
export interface RaisedPort {
  readonly port: EvtchnPort;
  readonly reads?: readonly MemoryResult[];
}

export function encodeEvents(raised: readonly RaisedPort[]): { wire: WireEvents; payload: Uint8Array[] } {
  const wire: WireEvents = { port: [], reads: [], status: [], length: [] };
  const payload: Uint8Array[] = [];
  for (const { port, reads } of raised) {
    wire.port.push(port);
    wire.reads.push(reads?.length ?? 0);
    if (reads) putResults(wire, payload, reads);
  }
  return { wire, payload };
}

export function decodeEvents(wire: WireEvents, payload: Uint8Array): RaisedPort[] {
  let step = 0;
  let at = 0;
  return wire.port.map((port, i): RaisedPort => {
    const count = wire.reads[i] ?? 0;
    if (count === 0) return { port: evtchnPort(port) };
    const reads = Array.from({ length: count }, (): MemoryResult => {
      const status = wire.status[step] ?? -Errno.EIO;
      const length = wire.length[step] ?? 0;
      step++;
      at += length;
      return status === 0 ? { status, data: payload.subarray(at - length, at) } : { status };
    });
    return { port: evtchnPort(port), reads };
  });
}
