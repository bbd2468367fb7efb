/**
 * What a daemon and its successor tell each other while one takes over from the other (live update), and the process that started
 * first passes on. Over Node's channel between parent and child: JSON, with a socket beside it.
 */
import type { CoreState } from '../core/state.ts';
import type { RingState } from '../server/ring.ts';

/** Changes with the messages and with HandoverState. */
export const HANDOVER_VERSION = 1;

/** In the environment of a successor. */
export const TAKEOVER_VARIABLE = 'XENSTORED_TAKEOVER';

export type ToSuccessor =
  /** Everything but sockets and journal stands still from here on: the state is in this file. */
  | { readonly kind: 'state'; readonly file: string }
  /** With a client's socket. */
  | { readonly kind: 'socket'; readonly id: number }
  /** The predecessor has let go of everything. Bytes that a client has not been sent yet, latin1. */
  | {
      readonly kind: 'go';
      readonly unsent: readonly (readonly [id: number, bytes: string])[];
      readonly journalBytes: number | undefined;
    }
  /** With the socket of a new client. */
  | { readonly kind: 'connection' };

export type FromSuccessor =
  | { readonly kind: 'hello'; readonly version: number }
  | { readonly kind: 'restored' }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'serving' };

/** From a successor that is to be succeeded in its turn, to the process that started first. */
export type ToShell =
  | { readonly kind: 'start'; readonly command: string; readonly args: readonly string[] }
  | { readonly kind: 'pass'; readonly message: ToSuccessor }
  | { readonly kind: 'abandon' };

export type FromShell =
  | { readonly kind: 'said'; readonly message: FromSuccessor }
  | { readonly kind: 'ended'; readonly how: string }
  /** The one that was started serves: this process may end. */
  | { readonly kind: 'superseded' };

export interface HandoverState {
  readonly version: number;
  readonly core: CoreState;
  /** Of each client's socket: bytes of requests that have not been run (latin1). */
  readonly sockets: readonly (readonly [id: number, rest: string])[];
  readonly rings: readonly RingHandover[];
}

export interface RingHandover {
  readonly domid: number;
  readonly reqCons: number;
  readonly rspProd: number;
  readonly head: string;
  readonly tail: string;
  readonly toSkip: readonly number[];
}

export const ringHandover = (domid: number, state: RingState, toSkip: Iterable<number>): RingHandover => ({
  ...{ domid, reqCons: state.reqCons, rspProd: state.rspProd, toSkip: [...toSkip] },
  ...{ head: state.head.toString('latin1'), tail: state.tail.toString('latin1') },
});

export const ringStateFrom = ({ reqCons, rspProd, head, tail }: RingHandover): RingState => ({
  ...{ reqCons, rspProd },
  ...{ head: Buffer.from(head, 'latin1'), tail: Buffer.from(tail, 'latin1') },
});
