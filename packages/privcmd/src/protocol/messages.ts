/**
 * Between the port's values and the protocol's messages, both ways. Decoding trusts nothing: counts, lengths and kinds
 * are checked against limits and against the payload; what is wrong becomes a `BadRequest`, not an exception out of
 * some arithmetic.
 */
import { domid, Errno, evtchnPort, grantRef } from '@xenhost/base';
import { arenaProblem } from '../arena.ts';
import { MAX_HYPERCALL_ARGS } from '../limits.ts';
import type { ArenaSegment, HypercallRequest, MemoryOp, MemoryResult, RemotePage } from '../port.ts';
import type { PrivcmdLimits } from '../server.ts';
import { fromWireU64, toWireU64 } from './convert.ts';
import { MemoryKind } from './schema.ts';
import type { WireHypercall, WireMemory, WireReply } from './schema.ts';

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

const pageKind = { foreign: { read: 0, write: 1 }, grant: { read: 2, write: 3 } } as const;

export function encodeMemory(ops: readonly MemoryOp[]): { wire: WireMemory; payload: Uint8Array[] } {
  const wire: WireMemory = { kind: [], domid: [], frame: [], offset: [], length: [] };
  const payload: Uint8Array[] = [];
  for (const op of ops) {
    if (op.kind === 'notify') {
      push(wire, MemoryKind.notify, 0, op.port, 0, 0);
      continue;
    }
    const frame = op.page.space === 'foreign' ? op.page.gfn : op.page.gref;
    const length = op.kind === 'read' ? op.length : op.data.length;
    push(wire, pageKind[op.page.space][op.kind], op.page.domid, frame, op.offset, length);
    if (op.kind === 'write') payload.push(op.data);
  }
  return { wire, payload };
}

function push(wire: WireMemory, kind: number, dom: number, frame: number, offset: number, length: number): void {
  wire.kind.push(kind);
  wire.domid.push(dom);
  wire.frame.push(frame);
  wire.offset.push(offset);
  wire.length.push(length);
}

/** Whether a step's numbers survive the encoding; if not it fails alone with EINVAL on the caller's side. */
export function encodable(op: MemoryOp): boolean {
  if (op.kind === 'notify') return isU32(op.port);
  const frame = op.page.space === 'foreign' ? op.page.gfn : op.page.gref;
  return isU32(frame) && isU32(op.page.domid) && isU32(op.offset) && (op.kind === 'write' || isU32(op.length));
}

const isU32 = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= MAX_FRAME_NUMBER;

/** @throws BadRequest */
export function decodeMemory(wire: WireMemory, payload: Uint8Array, limits: PrivcmdLimits): MemoryOp[] {
  const count = wire.kind.length;
  if (count > limits.maxMemoryOps) throw new BadRequest(Errno.E2BIG, `${count} memory steps`);
  for (const column of [wire.domid, wire.frame, wire.offset, wire.length]) {
    if (column.length !== count) throw new BadRequest(Errno.EINVAL, 'memory columns of different lengths');
  }
  const take = taker(payload, limits);
  const ops: MemoryOp[] = [];
  for (let i = 0; i < count; i++) {
    const kind = wire.kind[i];
    const frame = wire.frame[i] ?? 0;
    const offset = wire.offset[i] ?? 0;
    const length = wire.length[i] ?? 0;
    if (kind === MemoryKind.notify) {
      ops.push({ kind: 'notify', port: evtchnPort(frame) });
      continue;
    }
    const dom = domid(wire.domid[i] ?? 0);
    const foreign = kind === MemoryKind.readForeign || kind === MemoryKind.writeForeign;
    const page: RemotePage = foreign
      ? { space: 'foreign', domid: dom, gfn: frame }
      : { space: 'grant', domid: dom, gref: grantRef(frame) };
    if (kind === MemoryKind.readForeign || kind === MemoryKind.readGrant) {
      take.reserve(length);
      ops.push({ kind: 'read', page, offset, length });
    } else if (kind === MemoryKind.writeForeign || kind === MemoryKind.writeGrant) {
      ops.push({ kind: 'write', page, offset, data: take(length) });
    } else {
      throw new BadRequest(Errno.EINVAL, `memory step of kind ${kind ?? 'none'}`);
    }
  }
  take.end();
  return ops;
}

export const emptyReply = (id: number): WireReply => ({ id, errno: 0, reason: '', status: [], length: [] });

export function memoryReply(id: number, results: readonly MemoryResult[]): { wire: WireReply; payload: Uint8Array[] } {
  const wire = emptyReply(id);
  const payload: Uint8Array[] = [];
  for (const { status, data } of results) {
    wire.status.push(status);
    wire.length.push(data?.length ?? 0);
    if (data) payload.push(data);
  }
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
