/**
 * The server half of privcmd: a Unix socket, one session for each connection. Requests of a connection are run one after
 * the other in the order of arrival; connections take turns. What a client sends or fails to read costs at most the
 * limits: no more is read while requests wait, none is run while answers wait to be read.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { domid, Errno, evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import { ArenaMemory } from './arena.ts';
import { DEFAULT_LIMITS, MAX_EVENTS_PER_MESSAGE } from './limits.ts';
import { toWireU64 } from './protocol/convert.ts';
import { encodeFrame, FrameReader } from './protocol/frames.ts';
import type { Frame } from './protocol/frames.ts';
import {
  BadRequest,
  decodeEventReads,
  decodeHypercall,
  decodeMemory,
  emptyReply,
  encodeEvents,
  memoryReply,
} from './protocol/messages.ts';
import { BindKind, RequestCodec, RestrictKind, ServerMessageCodec } from './protocol/schema.ts';
import type { WireReply, WireRequest } from './protocol/schema.ts';
import type { PrivcmdBackend, PrivcmdServer, ServePrivcmdOptions } from './server.ts';
import { SessionHub } from './session.ts';
import type { Session } from './session.ts';

interface Answer {
  readonly wire: WireReply;
  readonly payload?: readonly Uint8Array[];
}

/** Listens; resolves when clients may connect. The backend gets its event sink here: one server for one backend. */
export async function servePrivcmd(options: ServePrivcmdOptions, backend: PrivcmdBackend): Promise<PrivcmdServer> {
  const hub = new SessionHub({ limits: { ...DEFAULT_LIMITS, ...options.limits }, log: options.log }, backend);
  const connections = new Set<Connection>();
  const server = createServer((socket) => {
    if (connections.size >= hub.limits.maxConnections) {
      hub.log({ kind: 'refused', reason: `more than ${hub.limits.maxConnections} connections` });
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, hub, () => connections.delete(connection));
    connections.add(connection);
  });
  mkdirSync(dirname(options.path), { recursive: true });
  rmSync(options.path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.path, () => {
      server.off('error', reject);
      server.on('error', (error) => {
        hub.log({ kind: 'refused', reason: error.message });
      });
      resolve();
    });
  });
  return {
    path: options.path,
    get connections() {
      return connections.size;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        for (const connection of connections) connection.end();
      }),
  };
}

class Connection {
  readonly #socket: Socket;
  readonly #hub: SessionHub;
  readonly #session: Session;
  readonly #reader: FrameReader;
  readonly #queue: Frame[] = [];
  #queuedBytes = 0;
  #running = false;
  readonly #raised = new Set<EvtchnPort>();

  constructor(socket: Socket, hub: SessionHub, onEnd: () => void) {
    this.#socket = socket;
    this.#hub = hub;
    this.#reader = new FrameReader(hub.limits);
    this.#session = hub.open((ports) => {
      for (const port of ports) this.#raised.add(port);
      this.#sendEvents();
    });
    socket.on('data', (chunk: Buffer) => {
      this.#receive(chunk);
    });
    socket.on('drain', () => {
      this.#sendEvents();
      this.#run();
    });
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => {
      this.#queue.length = 0;
      this.#session.close();
      onEnd();
    });
  }

  end(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const frame of this.#reader.push(chunk)) {
        this.#queue.push(frame);
        this.#queuedBytes += frame.header.length + frame.payload.length;
      }
    } catch (error) {
      this.#drop(error);
      return;
    }
    const { maxRequestsInFlight, maxPayloadBytes } = this.#hub.limits;
    if (this.#queue.length >= maxRequestsInFlight || this.#queuedBytes >= maxPayloadBytes) this.#socket.pause();
    this.#run();
  }

  #drop(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#hub.log({ kind: 'protocolError', connection: this.#session.id, reason });
    this.#socket.destroy();
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#work().finally(() => {
      this.#running = false;
    });
  }

  async #work(): Promise<void> {
    for (;;) {
      if (this.#socket.writableLength > this.#hub.limits.maxSendBacklogBytes) return; // 'drain' starts it again
      const frame = this.#queue.shift();
      if (!frame) return;
      this.#queuedBytes -= frame.header.length + frame.payload.length;
      let request: WireRequest;
      try {
        request = RequestCodec.decode(frame.header);
      } catch (error) {
        this.#drop(error);
        return;
      }
      const { wire, payload } = await this.#answer(request, frame.payload);
      if (this.#socket.destroyed) return;
      this.#send(ServerMessageCodec.encode({ reply: wire }), payload ?? []);
      // Its data has been copied into pages; the answer's bytes are others.
      if (request.memory) this.#reader.recycle(frame);
      if (this.#queue.length === 0 && this.#socket.isPaused()) this.#socket.resume();
    }
  }

  /** Never rejects: a bad request is an answer, our own bug is EIO and a log line. */
  async #answer(request: WireRequest, payload: Uint8Array): Promise<Answer> {
    try {
      return await this.#dispatch(request, payload);
    } catch (error) {
      if (error instanceof BadRequest) return failure(request.id, error.errno, error.message);
      this.#hub.log({ kind: 'backendError', connection: this.#session.id, request: 'dispatch', error });
      return failure(request.id, Errno.EIO, 'internal error');
    }
  }

  async #dispatch(request: WireRequest, payload: Uint8Array): Promise<Answer> {
    const { limits } = this.#hub;
    const session = this.#session;
    if (request.hypercall) {
      const { op, args, arena = [] } = decodeHypercall(request.hypercall, payload, limits);
      const value = await session.hypercall(op, args, new ArenaMemory(arena));
      const wire = { ...emptyReply(request.id), value: toWireU64(value) };
      return { wire, payload: arena.filter((part) => part.output).map((part) => part.bytes) };
    }
    if (request.memory) {
      return memoryReply(request.id, await session.memory(decodeMemory(request.memory, payload, limits)));
    }
    if (payload.length > 0) throw new BadRequest(Errno.EINVAL, 'payload without use');
    if (request.bind) return portAnswer(request.id, this.#bind(request.bind));
    if (request.notify) return portAnswer(request.id, session.notify(evtchnPort(request.notify.port)));
    if (request.unbind) return portAnswer(request.id, session.unbind(evtchnPort(request.unbind.port)));
    if (request.eventReads) {
      const { port, memory } = request.eventReads;
      return portAnswer(request.id, session.readOnEvent(evtchnPort(port), decodeEventReads(memory, limits)));
    }
    if (request.restrict) return portAnswer(request.id, this.#restrict(request.restrict));
    throw new BadRequest(Errno.ENOSYS, 'request of an unknown kind');
  }

  #bind({ kind, remote, port }: NonNullable<WireRequest['bind']>): number {
    if (kind === BindKind.unbound) return this.#session.bindUnbound(domid(remote));
    if (kind === BindKind.interdomain) return this.#session.bindInterdomain(domid(remote), evtchnPort(port));
    if (kind === BindKind.virq) return this.#session.bindVirq(port);
    return -Errno.EINVAL;
  }

  #restrict({ kind, domid: dom }: NonNullable<WireRequest['restrict']>): number {
    if (kind === RestrictKind.domain) return this.#session.restrict({ kind: 'domain', domid: domid(dom) });
    if (kind === RestrictKind.backend) return this.#session.restrict({ kind: 'backend' });
    return -Errno.EINVAL;
  }

  #sendEvents(): void {
    if (this.#socket.destroyed) return;
    // What does not fit now is sent with 'drain'.
    const { maxSendBacklogBytes } = this.#hub.limits;
    while (this.#raised.size > 0 && this.#socket.writableLength <= maxSendBacklogBytes) {
      const ports = [...this.#raised].slice(0, MAX_EVENTS_PER_MESSAGE);
      for (const port of ports) this.#raised.delete(port);
      const { wire, payload } = encodeEvents(ports.map((port) => this.#session.withReads(port)));
      this.#send(ServerMessageCodec.encode({ events: wire }), payload);
    }
  }

  #send(header: Uint8Array, payload: readonly Uint8Array[]): void {
    this.#socket.cork();
    for (const part of encodeFrame(header, payload)) this.#socket.write(part);
    this.#socket.uncork();
  }
}

const failure = (id: number, errno: number, reason: string): Answer => ({ wire: { ...emptyReply(id), errno, reason } });

const portAnswer = (id: number, result: number): Answer =>
  result < 0 ? failure(id, -result, '') : { wire: { ...emptyReply(id), value: toWireU64(BigInt(result)) } };
