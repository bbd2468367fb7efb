/**
 * privcmd over its Unix socket: what daemons use. Requests are pipelined; batches over the limits of a frame are split
 * and sent as several. When the link breaks every waiting request rejects with ENOTCONN and `onClose` tells why.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { Errno, evtchnPort, XenError } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import { DEFAULT_LIMITS } from './limits.ts';
import type {
  EventListener,
  HypercallRequest,
  MemoryOp,
  MemoryResult,
  PageRange,
  PrivcmdPort,
  Restriction,
} from './port.ts';
import { fromWireU64, toSigned } from './protocol/convert.ts';
import { encodeFrame, FrameReader } from './protocol/frames.ts';
import type { Frame } from './protocol/frames.ts';
import { decodeEvents, encodable, encodeHypercall, encodeMemory, memoryResults } from './protocol/messages.ts';
import { BindKind, RequestCodec, RestrictKind, ServerMessageCodec } from './protocol/schema.ts';
import type { WireEvents, WireReply, WireRequest } from './protocol/schema.ts';
import type { PrivcmdLimits } from './server.ts';
import { CANCELLED } from './steps.ts';

export interface ConnectPrivcmdOptions {
  /** Keep trying for this long while nobody listens yet; 0 (default): one try. */
  readonly waitMs?: number;
  /** The server's limits when they are not the default ones. */
  readonly limits?: Partial<PrivcmdLimits>;
}

const RETRY_MS = 10;
const CHUNK_BYTES = 256 * 1024;
const NOTHING = new Uint8Array(0);
/** Batches on their way at once, of one call of `memory`. */
const MEMORY_WINDOW = 3;

/** @throws the connection error, or XenError ETIMEDOUT after `waitMs` */
export async function connectPrivcmd(path: string, options: ConnectPrivcmdOptions = {}): Promise<PrivcmdPort> {
  const deadline = performance.now() + (options.waitMs ?? 0);
  for (;;) {
    try {
      return new RemotePrivcmd(await open(path), { ...DEFAULT_LIMITS, ...options.limits });
    } catch (error) {
      if (!isAbsent(error) || performance.now() >= deadline) {
        throw new XenError(Errno.ECONNREFUSED, `privcmd: cannot reach the hypervisor at ${path}`, { cause: error });
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

const isAbsent = (error: unknown): boolean =>
  typeof error === 'object' &&
  error !== null &&
  'code' in error &&
  (error.code === 'ENOENT' || error.code === 'ECONNREFUSED');

/** What comes is read into one buffer: answers with a megabyte of pages come in few pieces, and none is allocated for. */
function open(path: string): Promise<Link> {
  return new Promise((resolve, reject) => {
    const chunk = new Uint8Array(CHUNK_BYTES);
    let onChunk: (bytes: Uint8Array) => void = () => undefined;
    const callback = (length: number): boolean => {
      onChunk(chunk.subarray(0, length));
      return true;
    };
    const socket = connect({ path, onread: { buffer: chunk, callback } });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve({
        socket,
        onChunk: (listener) => {
          onChunk = listener;
        },
      });
    });
  });
}

interface Link {
  readonly socket: Socket;
  /** Who gets what is received; the bytes are overwritten by what comes next. */
  readonly onChunk: (listener: (bytes: Uint8Array) => void) => void;
}

interface Waiting {
  readonly operation: string;
  resolve(reply: WireReply, payload: Uint8Array): void;
  reject(error: Error): void;
}

class RemotePrivcmd implements PrivcmdPort {
  readonly #socket: Socket;
  readonly #limits: PrivcmdLimits;
  readonly #reader: FrameReader;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<EventListener>();
  readonly #closeListeners = new Set<(error?: Error) => void>();
  readonly #inbox: Frame[] = [];
  /** A later turn goes on with the inbox. */
  #delayed = false;
  #nextId = 1;
  #closed = false;
  #error: Error | undefined;

  constructor({ socket, onChunk }: Link, limits: PrivcmdLimits) {
    this.#socket = socket;
    this.#limits = limits;
    this.#reader = new FrameReader(limits);
    onChunk((chunk) => {
      this.#receive(chunk);
    });
    socket.resume();
    socket.on('error', (error) => {
      this.#error = error;
    });
    socket.on('close', () => {
      this.#ended();
    });
  }

  async hypercall(request: HypercallRequest): Promise<bigint> {
    const { wire, payload } = encodeHypercall(request);
    let size = 0;
    for (const part of request.arena ?? []) size += part.bytes.length;
    if (size > this.#limits.maxPayloadBytes) throw new XenError(Errno.E2BIG, `hypercall ${request.op}`);
    return this.#call(`hypercall ${request.op}`, { hypercall: wire }, payload, (reply, bytes) => {
      let at = 0;
      for (const part of request.arena ?? []) {
        if (!part.output) continue;
        part.bytes.set(bytes.subarray(at, at + part.bytes.length));
        at += part.bytes.length;
      }
      return toSigned(replyValue(reply));
    });
  }

  async memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    const batches = this.#split(ops);
    const [only] = batches;
    if (only && batches.length === 1) return this.#memoryBatch(only);
    if (ops.some(({ kind }) => kind === 'check')) throw new XenError(Errno.E2BIG, 'memory: a check beyond one frame');
    const results: (readonly MemoryResult[])[] = [];
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let i = next++; i < batches.length; i = next++) results[i] = await this.#memoryBatch(batches[i] ?? []);
    };
    await Promise.all(Array.from({ length: Math.min(MEMORY_WINDOW, batches.length) }, worker));
    return results.flat();
  }

  async #memoryBatch(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    const unsound = ops.findIndex((op) => !encodable(op));
    // The server does not see what cannot be sent: its checks would find nothing amiss.
    const check = unsound < 0 ? -1 : ops.findIndex(({ kind }, i) => kind === 'check' && i > unsound);
    if (check >= 0) {
      return [...(await this.#memoryBatch(ops.slice(0, check))), ...ops.slice(check).map(() => CANCELLED)];
    }
    const sent = unsound < 0 ? ops : ops.filter(encodable);
    const { wire, payload } = encodeMemory(sent);
    const results = await this.#call('memory', { memory: wire }, payload, (reply, bytes) =>
      memoryResults(sent, reply, bytes),
    );
    if (sent === ops) return results;
    let next = 0;
    const absent: MemoryResult = { status: -Errno.EINVAL };
    return ops.map((op) => (encodable(op) ? (results[next++] ?? absent) : absent));
  }

  /** Cuts a batch where the server's limits demand it; order is kept, frames are answered in order. */
  #split(ops: readonly MemoryOp[]): (readonly MemoryOp[])[] {
    const batches: MemoryOp[][] = [];
    let batch: MemoryOp[] = [];
    let bytes = 0;
    for (const op of ops) {
      const size = op.kind === 'read' ? op.length : op.kind === 'write' ? op.data.length : 0;
      if (
        batch.length >= this.#limits.maxMemoryOps ||
        (bytes + size > this.#limits.maxPayloadBytes && batch.length > 0)
      ) {
        batches.push(batch);
        batch = [];
        bytes = 0;
      }
      batch.push(op);
      bytes += size;
    }
    if (batch.length > 0) batches.push(batch);
    return batches;
  }

  async bindUnbound(remote: Domid): Promise<EvtchnPort> {
    return this.#port('bindUnbound', { bind: { kind: BindKind.unbound, remote, port: 0 } });
  }

  async bindInterdomain(remote: Domid, remotePort: EvtchnPort): Promise<EvtchnPort> {
    return this.#port('bindInterdomain', { bind: { kind: BindKind.interdomain, remote, port: remotePort } });
  }

  async bindVirq(virq: number): Promise<EvtchnPort> {
    return this.#port('bindVirq', { bind: { kind: BindKind.virq, remote: 0, port: virq } });
  }

  async notify(port: EvtchnPort): Promise<void> {
    await this.#port('notify', { notify: { port } });
  }

  async unbind(port: EvtchnPort): Promise<void> {
    await this.#port('unbind', { unbind: { port } });
  }

  onEvent(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async readOnEvent(port: EvtchnPort, reads: readonly PageRange[]): Promise<void> {
    const ops = reads.map((read): MemoryOp => ({ kind: 'read', ...read }));
    if (!ops.every(encodable)) throw new XenError(Errno.EINVAL, 'readOnEvent');
    await this.#port('readOnEvent', { eventReads: { port, memory: encodeMemory(ops).wire } });
  }

  async restrict(restriction: Restriction): Promise<void> {
    const restrict =
      restriction.kind === 'domain'
        ? { kind: RestrictKind.domain, domid: restriction.domid }
        : { kind: RestrictKind.backend, domid: 0 };
    await this.#port('restrict', { restrict });
  }

  onClose(listener: (error?: Error) => void): () => void {
    this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#socket.closed) return;
    this.#closed = true;
    await new Promise<void>((resolve) => {
      this.#socket.once('close', () => {
        resolve();
      });
      this.#socket.destroy();
    });
  }

  #port(operation: string, body: Omit<WireRequest, 'id'>): Promise<EvtchnPort> {
    return this.#call(operation, body, [], (reply) => evtchnPort(Number(replyValue(reply))));
  }

  #call<T>(
    operation: string,
    body: Omit<WireRequest, 'id'>,
    payload: readonly Uint8Array[],
    read: (reply: WireReply, payload: Uint8Array) => T,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed || this.#socket.destroyed) {
        reject(new XenError(Errno.ENOTCONN, operation, { cause: this.#error }));
        return;
      }
      const id = this.#nextId;
      this.#nextId = (id % 0xffff_ffff) + 1;
      this.#waiting.set(id, {
        operation,
        reject,
        resolve: (reply, bytes) => {
          try {
            resolve(read(reply, bytes));
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      });
      this.#socket.cork();
      for (const part of encodeFrame(RequestCodec.encode({ id, ...body }), payload)) this.#socket.write(part);
      this.#socket.uncork();
    });
  }

  #receive(chunk: Uint8Array): void {
    try {
      this.#inbox.push(...this.#reader.push(chunk));
      if (!this.#delayed) this.#deliver();
    } catch (error) {
      this.#socket.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Messages in the order of their arrival. Events behind a reply have a turn of their own: who awaits it (a bind) has then seen it. */
  #deliver(): void {
    let replied = false;
    for (let frame = this.#inbox[0]; frame; frame = this.#inbox[0]) {
      const { reply, events } = ServerMessageCodec.decode(frame.header);
      if (events && replied) {
        this.#delayed = true;
        setImmediate(() => {
          this.#delayed = false;
          this.#receive(NOTHING);
        });
        return;
      }
      this.#inbox.shift();
      if (events) this.#events(events, frame.payload);
      replied ||= reply !== undefined;
      if (reply) this.#reply(reply, frame.payload);
    }
  }

  #events(events: WireEvents, payload: Uint8Array): void {
    for (const { port, reads } of decodeEvents(events, payload)) {
      for (const listener of [...this.#listeners]) listener(port, reads);
    }
  }

  #reply(reply: WireReply, payload: Uint8Array): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (!waiting) throw new Error(`privcmd: reply to request ${reply.id}, which nobody sent`);
    if (reply.errno === 0) waiting.resolve(reply, payload);
    else
      waiting.reject(
        new XenError(reply.errno, reply.reason ? `${waiting.operation} (${reply.reason})` : waiting.operation),
      );
  }

  #ended(): void {
    const cause = this.#error;
    for (const waiting of this.#waiting.values()) {
      waiting.reject(new XenError(Errno.ENOTCONN, `${waiting.operation}: privcmd link lost`, { cause }));
    }
    this.#waiting.clear();
    const error = this.#closed
      ? undefined
      : (cause ?? new XenError(Errno.ENOTCONN, 'privcmd: the hypervisor closed the link'));
    for (const listener of [...this.#closeListeners]) listener(error);
    this.#closed = true;
  }
}

const replyValue = (reply: WireReply): bigint => (reply.value ? fromWireU64(reply.value) : 0n);
