/** Bodies of requests, received within bounds: of one, and of all that are under way at a time. */
import type { Readable } from 'node:stream';
import { MAX_DISCARDED_BYTES, MAX_REQUEST_BYTES, MAX_REQUESTS_BYTES } from '../limits.ts';

/** A body that is too long, or one too many. */
export class BodyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BodyError';
  }
}

export interface BodyLimits {
  readonly one: number;
  readonly all: number;
  readonly discarded: number;
}

const LIMITS: BodyLimits = { one: MAX_REQUEST_BYTES, all: MAX_REQUESTS_BYTES, discarded: MAX_DISCARDED_BYTES };

/** What one request holds of the memory for all. */
export interface Hold {
  /** Call it when the request is answered or its connection gone. */
  release(): void;
  /** Receives a body. Rejects with BodyError; what is over the limit has been read by then, so that the sender listens. */
  read(stream: Readable): Promise<Buffer>;
}

/** The memory that bodies may take; one for all servers. */
export class BodyBudget {
  readonly #limits: BodyLimits;
  #held = 0;

  constructor(limits: BodyLimits = LIMITS) {
    this.#limits = limits;
  }

  /** Bytes held at present. */
  get held(): number {
    return this.#held;
  }

  hold(): Hold {
    let held = 0;
    let released = false;
    const release = (): void => {
      this.#held -= held;
      held = 0;
    };
    const take = (bytes: number): void => {
      if (released) return;
      held += bytes;
      this.#held += bytes;
    };
    return {
      release: () => {
        released = true;
        release();
      },
      read: async (stream) => {
        const { one, all, discarded } = this.#limits;
        const chunks: Buffer[] = [];
        let refusal: BodyError | undefined;
        let excess = 0;
        for await (const chunk of stream as AsyncIterable<Buffer>) {
          if (refusal === undefined) {
            take(chunk.length);
            chunks.push(chunk);
            if (held > one) refusal = new BodyError(`a request may have ${one} bytes`);
            else if (this.#held > all) refusal = new BodyError('too many large requests at a time');
            if (refusal === undefined) continue;
            chunks.length = 0;
            release();
          }
          excess += chunk.length;
          if (excess > discarded) stream.destroy();
        }
        if (refusal) throw refusal;
        return Buffer.concat(chunks);
      },
    };
  }
}
