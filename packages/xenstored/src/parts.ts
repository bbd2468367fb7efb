/** What a running daemon is made of, and how guests' rings are connected again by whoever comes after another daemon. */
import type { Logger } from '@xenhost/daemon-kit';
import type { XenstoreCore } from './core/core.ts';
import type { Journal } from './journal/index.ts';
import type { DomainChecker, HypervisorLink } from './server/domain-checker.ts';
import type { MetricsServer } from './server/metrics-server.ts';
import type { RingServer } from './server/ring-server.ts';
import type { RingState } from './server/ring.ts';
import type { SocketServer } from './server/socket-server.ts';

export interface DaemonParts {
  readonly core: XenstoreCore;
  readonly sockets: SocketServer;
  readonly journal: Journal | undefined;
  /** The three with a hypervisor only. */
  readonly hypervisor: HypervisorLink | undefined;
  readonly rings: RingServer | undefined;
  readonly checker: DomainChecker | undefined;
  readonly metrics: MetricsServer;
  readonly log: Logger;
}

/** What is known of a ring besides its page. */
export interface RingMemory {
  /** One of them is true, or none. */
  readonly states: readonly RingState[];
  readonly done: readonly number[];
}

/** Connects the rings of all introduced domains; they go on with RingServer.resume(). */
export async function reconnectRings(
  { core, rings, log }: Pick<DaemonParts, 'core' | 'rings' | 'log'>,
  memoryOf: (domid: number) => RingMemory,
): Promise<void> {
  if (!rings) return;
  const connectOne = async (domid: number): Promise<void> => {
    const domain = core.domains.get(domid);
    if (!domain || domain.connection.ignored) return;
    const { connection, mfn, port } = domain;
    try {
      await rings.reconnect(connection, /^\d+$/.test(mfn) ? BigInt(mfn) : 0n, port, memoryOf(domid));
    } catch (error) {
      // It has died meanwhile, which the hypervisor will say, or its toolstack introduces it again.
      log.warn({ domid, err: error }, 'ring cannot be connected again');
    }
  };
  await Promise.all(Array.from(core.domains.keys(), connectOne));
}
