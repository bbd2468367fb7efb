/**
 * What a frontend says in its directory of xenstore, read once when it connects (netif.h; Linux's xen-netback, xenbus.c). The
 * guest owns the directory: everything is checked here.
 */
import type { XenstoreAccess } from '@xenhost/xenstore-client';
import { MAX_QUEUES } from './limits.ts';

export interface QueueKeys {
  readonly txRingRef: number;
  readonly rxRingRef: number;
  /** The guest's ports; the same one twice without split event channels. */
  readonly txPort: number;
  readonly rxPort: number;
}

export interface FrontendKeys {
  readonly queues: readonly QueueKeys[];
  readonly control?: { readonly ringRef: number; readonly port: number };
  readonly rxNotify: boolean;
  readonly scatterGather: boolean;
  readonly gsoTcpv4: boolean;
  readonly gsoTcpv6: boolean;
  /** It takes frames whose checksum is left blank. */
  readonly checksumV4: boolean;
  readonly checksumV6: boolean;
  readonly multicastControl: boolean;
}

/** What is wrong with a frontend's keys, for its user. */
export class FrontendError extends Error {}

const MAX_U32 = 0xffffffff;

export async function readFrontend(store: XenstoreAccess, directory: string): Promise<FrontendKeys> {
  const flag = async (key: string, absent = false): Promise<boolean> => {
    const text = await store.tryRead(`${directory}/${key}`);
    return text === undefined ? absent : Number(text) !== 0;
  };
  const [rxCopy, rxNotify, scatterGather, gsoTcpv4, gsoTcpv6, noChecksumV4, checksumV6, multicastControl] =
    await Promise.all([
      flag('request-rx-copy'),
      flag('feature-rx-notify'),
      flag('feature-sg'),
      flag('feature-gso-tcpv4'),
      flag('feature-gso-tcpv6'),
      flag('feature-no-csum-offload'),
      flag('feature-ipv6-csum-offload'),
      flag('request-multicast-control'),
    ]);
  if (!rxCopy)
    throw new FrontendError(`${directory}/request-rx-copy is not 1: receiving by page flipping is not served`);
  const queues = await readQueues(store, directory);
  const control = await readControl(store, directory);
  return {
    queues,
    ...(control ? { control } : {}),
    rxNotify,
    scatterGather,
    gsoTcpv4: gsoTcpv4 && scatterGather,
    gsoTcpv6: gsoTcpv6 && scatterGather,
    checksumV4: !noChecksumV4,
    checksumV6,
    multicastControl,
  };
}

async function readQueues(store: XenstoreAccess, directory: string): Promise<readonly QueueKeys[]> {
  const text = await store.tryRead(`${directory}/multi-queue-num-queues`);
  const count = text === undefined ? 1 : Number(text);
  if (!Number.isInteger(count) || count < 1 || count > MAX_QUEUES) {
    throw new FrontendError(
      `${directory}/multi-queue-num-queues is ${text ?? ''}: 1 to ${MAX_QUEUES} queues are served`,
    );
  }
  if (count === 1) return [await readQueue(store, directory)];
  return Promise.all(Array.from({ length: count }, (_, queue) => readQueue(store, `${directory}/queue-${queue}`)));
}

async function readQueue(store: XenstoreAccess, directory: string): Promise<QueueKeys> {
  const [txRingRef, rxRingRef, both, tx, rx] = await Promise.all([
    number(store, `${directory}/tx-ring-ref`),
    number(store, `${directory}/rx-ring-ref`),
    optionalNumber(store, `${directory}/event-channel`),
    optionalNumber(store, `${directory}/event-channel-tx`),
    optionalNumber(store, `${directory}/event-channel-rx`),
  ]);
  const [txPort, rxPort] = tx !== undefined && rx !== undefined ? [tx, rx] : [both, both];
  if (txPort === undefined || rxPort === undefined) {
    throw new FrontendError(`${directory} has neither event-channel nor event-channel-tx and event-channel-rx`);
  }
  return { txRingRef, rxRingRef, txPort, rxPort };
}

async function readControl(store: XenstoreAccess, directory: string): Promise<FrontendKeys['control']> {
  const ringRef = await optionalNumber(store, `${directory}/ctrl-ring-ref`);
  if (ringRef === undefined) return undefined;
  return { ringRef, port: await number(store, `${directory}/event-channel-ctrl`) };
}

async function number(store: XenstoreAccess, path: string): Promise<number> {
  const value = await optionalNumber(store, path);
  if (value === undefined) throw new FrontendError(`${path} is missing`);
  return value;
}

async function optionalNumber(store: XenstoreAccess, path: string): Promise<number | undefined> {
  const text = await store.tryRead(path);
  if (text === undefined) return undefined;
  const value = /^\d{1,10}$/.test(text.trim()) ? Number(text) : NaN;
  if (!(value <= MAX_U32)) throw new FrontendError(`${path} is ${JSON.stringify(text.slice(0, 40))}, not a number`);
  return value;
}

/** Whether two readings name the same rings and channels. */
export const sameRings = (a: FrontendKeys, b: FrontendKeys): boolean =>
  JSON.stringify([a.queues, a.control]) === JSON.stringify([b.queues, b.control]);
