/**
 * The one who reads the trace buffers: Xen gives VIRQ_TBUF, which says that a buffer fills up, to one tool at a time. Claim it
 * before anything about tracing is changed.
 */
import { Errno, XenError } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { Xenctrl } from '@xenhost/libxenctrl';
import { VIRQ } from '@xenhost/xen-abi';

export interface PollOptions {
  /** Time between two looks when nothing fills up. */
  readonly pollMs: number;
  /** Undefined: until a signal. */
  readonly seconds: number | undefined;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class TraceConsumer {
  readonly #xc: Xenctrl;
  readonly #port: EvtchnPort;

  private constructor(xc: Xenctrl, port: EvtchnPort) {
    this.#xc = xc;
    this.#port = port;
  }

  /** Rejects when another tool reads the buffers. */
  static async claim(xc: Xenctrl): Promise<TraceConsumer> {
    try {
      return new TraceConsumer(xc, await xc.privcmd.bindVirq(VIRQ.TBUF));
    } catch (error) {
      if (error instanceof XenError && error.errno === Errno.EEXIST)
        throw new Error('another tool reads the trace buffers', { cause: error });
      throw error;
    }
  }

  async release(): Promise<void> {
    await this.#xc.privcmd.unbind(this.#port);
  }

  /**
   * Calls `body` when a buffer fills up or `pollMs` are over, until `seconds` are over or SIGINT, SIGTERM or SIGHUP comes;
   * then once more, for the last time.
   */
  async poll({ pollMs, seconds }: PollOptions, body: (last: boolean) => Promise<void>): Promise<void> {
    const ended = Promise.withResolvers<'ended'>();
    const end = (): void => {
      ended.resolve('ended');
    };
    let wake: () => void = () => undefined;
    let pause: NodeJS.Timeout | undefined;
    const forget = this.#xc.privcmd.onEvent((port) => {
      if (port === this.#port) wake();
    });
    for (const name of SIGNALS) process.once(name, end);
    const timer = seconds === undefined ? undefined : setTimeout(end, seconds * 1000);
    try {
      for (;;) {
        await body(false);
        const next = new Promise<'next'>((resolve) => {
          wake = () => {
            resolve('next');
          };
          pause = setTimeout(wake, pollMs);
        });
        const what = await Promise.race([ended.promise, next]);
        clearTimeout(pause);
        if (what === 'ended') break;
      }
      await body(true);
    } finally {
      clearTimeout(timer);
      for (const name of SIGNALS) process.removeListener(name, end);
      forget();
    }
  }
}
