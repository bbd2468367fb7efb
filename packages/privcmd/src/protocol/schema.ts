/**
 * The messages of privcmd as a protobuf descriptor, and their shapes in TypeScript. One `Request` goes to the server and
 * is answered by one `Reply` with the same id; `Events` come unasked. Bulk bytes are not in here: they travel in the
 * frame's payload, in the order in which the message names their lengths.
 */
import protobuf from 'protobufjs/light.js';
import type { WireU64 } from './convert.ts';

const field = (id: number, type: string): { id: number; type: string } => ({ id, type });
const repeated = (id: number, type: string): { id: number; type: string; rule: string } => ({
  id,
  type,
  rule: 'repeated',
});

const descriptor = {
  nested: {
    /** `stored`: the contents are in the payload; else they are zeros. `output`: they go back with the reply. */
    Segment: {
      fields: {
        address: field(1, 'uint64'),
        length: field(2, 'uint32'),
        stored: field(3, 'bool'),
        output: field(4, 'bool'),
      },
    },
    Hypercall: {
      fields: { op: field(1, 'uint32'), args: repeated(2, 'uint64'), arena: repeated(3, 'Segment') },
    },
    /**
     * Columns of equal length; `kind` is a `MemoryKind`. For notify `frame` is the port, a check has nothing. `more` has the rest of the steps that need more
     * than a row, one after the other: a push its port and two indices, a copy its target (space, domid, frame, offset).
     */
    Memory: {
      fields: {
        kind: repeated(1, 'uint32'),
        domid: repeated(2, 'uint32'),
        frame: repeated(3, 'uint32'),
        offset: repeated(4, 'uint32'),
        length: repeated(5, 'uint32'),
        more: repeated(6, 'uint32'),
      },
    },
    /** `memory` has reads only. */
    EventReads: { fields: { port: field(1, 'uint32'), memory: field(2, 'Memory') } },
    Bind: { fields: { kind: field(1, 'uint32'), remote: field(2, 'uint32'), port: field(3, 'uint32') } },
    Port: { fields: { port: field(1, 'uint32') } },
    Restrict: { fields: { kind: field(1, 'uint32'), domid: field(2, 'uint32') } },
    Request: {
      oneofs: { body: { oneof: ['hypercall', 'memory', 'bind', 'notify', 'unbind', 'restrict', 'eventReads'] } },
      fields: {
        id: field(1, 'uint32'),
        hypercall: field(2, 'Hypercall'),
        memory: field(3, 'Memory'),
        bind: field(4, 'Bind'),
        notify: field(5, 'Port'),
        unbind: field(6, 'Port'),
        restrict: field(7, 'Restrict'),
        eventReads: field(8, 'EventReads'),
      },
    },
    /** `errno` 0: done. `value`: RAX or a port. `status`: one for each memory step. `length`: of what is in the payload. */
    Reply: {
      fields: {
        id: field(1, 'uint32'),
        errno: field(2, 'uint32'),
        reason: field(3, 'string'),
        value: field(4, 'uint64'),
        status: repeated(5, 'sint32'),
        length: repeated(6, 'uint32'),
      },
    },
    /** `reads`: for each port the number of results that come with it; `status` and `length` as in a reply. */
    Events: {
      fields: {
        port: repeated(1, 'uint32'),
        reads: repeated(2, 'uint32'),
        status: repeated(3, 'sint32'),
        length: repeated(4, 'uint32'),
      },
    },
    ServerMessage: {
      oneofs: { body: { oneof: ['reply', 'events'] } },
      fields: { reply: field(1, 'Reply'), events: field(2, 'Events') },
    },
  },
};

export interface WireSegment {
  address: WireU64;
  length: number;
  stored: boolean;
  output: boolean;
}
export interface WireHypercall {
  op: number;
  args: WireU64[];
  arena: WireSegment[];
}
export interface WireMemory {
  kind: number[];
  domid: number[];
  frame: number[];
  offset: number[];
  length: number[];
  more: number[];
}
export interface WireRequest {
  id: number;
  hypercall?: WireHypercall;
  memory?: WireMemory;
  bind?: { kind: number; remote: number; port: number };
  notify?: { port: number };
  unbind?: { port: number };
  restrict?: { kind: number; domid: number };
  eventReads?: { port: number; memory?: WireMemory };
}
export interface WireReply {
  id: number;
  errno: number;
  reason: string;
  value?: WireU64;
  status: number[];
  length: number[];
}
export interface WireServerMessage {
  reply?: WireReply;
  events?: WireEvents;
}
export interface WireEvents {
  port: number[];
  reads: number[];
  status: number[];
  length: number[];
}

export const MemoryKind = {
  readForeign: 0,
  writeForeign: 1,
  readGrant: 2,
  writeGrant: 3,
  notify: 4,
  pushForeign: 5,
  pushGrant: 6,
  copyForeign: 7,
  copyGrant: 8,
  check: 9,
} as const;
/** `RemotePage.space` where it is a number of its own. */
export const PageSpace = { foreign: 0, grant: 1 } as const;
export const BindKind = { unbound: 0, interdomain: 1, virq: 2 } as const;
export const RestrictKind = { domain: 0, backend: 1 } as const;

const root = protobuf.Root.fromJSON(descriptor);

/** An encoder and decoder of one message; the shape is ours to promise, by the descriptor above. */
export interface Codec<T> {
  encode(message: T): Uint8Array;
  /** @throws Error when the bytes are no such message */
  decode(bytes: Uint8Array): T;
}

function codec<T extends object>(name: string): Codec<T> {
  const type = root.lookupType(name);
  return {
    encode: (message) => type.encode(message).finish(),
    decode: (bytes) => type.decode(bytes) as unknown as T,
  };
}

export const RequestCodec = codec<WireRequest>('Request');
export const ServerMessageCodec = codec<WireServerMessage>('ServerMessage');
