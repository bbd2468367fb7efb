/** What a block backend and its frontend tell each other in xenstore (`xen/include/public/io/blkif.h`, head). */
import { BLKIF_PROTOCOL, BLKIF_SECTOR_BYTES, VDISK } from '@xenhost/xen-abi';
import type { XenstoreAccess } from '@xenhost/xenstore-client';
import type { Medium } from '../image/medium.ts';
import { DISCARD_BYTES, MAX_INDIRECT_SEGMENTS, MAX_QUEUES, MAX_RING_PAGE_ORDER } from '../limits.ts';
import type { AbiWidth } from '../ring/requests.ts';

export type Nodes = Readonly<Record<string, string | number>>;

/** The backend's own directory as it stands. */
export interface BackendNodes {
  readonly state: number;
  readonly online: boolean;
  readonly frontend: string;
  readonly type: string;
  readonly params: string;
  readonly mode: string;
  readonly hotplugStatus: string | undefined;
  readonly mayDiscard: boolean;
}

/** Undefined when there is no such device any more. */
export async function readBackend(t: XenstoreAccess, path: string): Promise<BackendNodes | undefined> {
  const keys = ['state', 'online', 'frontend', 'type', 'params', 'mode', 'hotplug-status', 'discard-enable'];
  const [state, online, frontend, type, params, mode, hotplugStatus, discard] = await Promise.all(
    keys.map((key) => t.tryRead(`${path}/${key}`)),
  );
  if (state === undefined || frontend === undefined) return undefined;
  return {
    state: Number(state),
    online: online !== '0',
    frontend,
    type: type ?? '',
    params: params ?? '',
    mode: mode ?? 'r',
    hotplugStatus,
    mayDiscard: discard !== '0',
  };
}

export interface DiskKind {
  readonly cdrom: boolean;
  readonly persistentGrants: boolean;
  readonly mayDiscard: boolean;
}

/** What is told before a frontend chooses its ring, and of the medium: frontends that know no features read all of it at once. */
export function backendFeatures(medium: Medium, kind: DiskKind): Nodes {
  const discard: Nodes =
    medium.canDiscard && kind.mayDiscard
      ? { 'feature-discard': 1, 'discard-granularity': DISCARD_BYTES, 'discard-alignment': 0, 'discard-secure': 0 }
      : { 'feature-discard': 0 };
  return {
    'feature-max-indirect-segments': MAX_INDIRECT_SEGMENTS,
    'feature-persistent': kind.persistentGrants ? 1 : 0,
    'feature-flush-cache': 1,
    'feature-barrier': 1,
    'max-ring-page-order': MAX_RING_PAGE_ORDER,
    'max-ring-pages': 2 ** MAX_RING_PAGE_ORDER,
    'multi-queue-max-queues': MAX_QUEUES,
    ...discard,
    ...mediumNodes(medium, kind),
  };
}

/** What changes with the medium. */
export function mediumNodes(medium: Medium, { cdrom }: DiskKind): Nodes {
  return {
    sectors: medium.sizeBytes / BLKIF_SECTOR_BYTES,
    'sector-size': BLKIF_SECTOR_BYTES,
    'physical-sector-size': medium.physicalSectorBytes,
    info: (cdrom ? VDISK.CDROM | VDISK.REMOVABLE : 0) | (medium.readOnly ? VDISK.READONLY : 0),
    'physical-device-path': medium.path,
    ...(medium.device === undefined ? {} : { 'physical-device': medium.device }),
  };
}

export interface FrontendRing {
  readonly ringRefs: readonly number[];
  readonly port: number;
}

export interface FrontendParameters {
  readonly width: AbiWidth;
  readonly rings: readonly FrontendRing[];
}

/** What a frontend wrote about its rings, or what is wrong with it. Read it in one transaction: the frontend may be writing. */
export async function readFrontend(t: XenstoreAccess, path: string): Promise<FrontendParameters | string> {
  const read = (key: string): Promise<string | undefined> => t.tryRead(`${path}/${key}`);
  const [protocol, order, pages, queues] = await Promise.all(
    ['protocol', 'ring-page-order', 'num-ring-pages', 'multi-queue-num-queues'].map(read),
  );
  const width = widthOf(protocol);
  if (width === undefined) return `unknown fe protocol ${protocol ?? ''}`;
  const pageOrder = order === undefined ? Math.log2(number(pages) ?? 1) : number(order);
  if (pageOrder === undefined || !Number.isInteger(pageOrder) || pageOrder > MAX_RING_PAGE_ORDER) {
    return `requested ring page order ${order ?? pages ?? ''} exceed max:${MAX_RING_PAGE_ORDER}`;
  }
  const count = queues === undefined ? 1 : number(queues);
  if (count === undefined || count < 1 || count > MAX_QUEUES) {
    return `guest requested ${queues ?? ''} queues, exceeding the maximum of ${MAX_QUEUES}.`;
  }
  const rings: FrontendRing[] = [];
  for (let queue = 0; queue < count; queue++) {
    const ring = await readRing(read, count === 1 ? '' : `queue-${queue}/`, 2 ** pageOrder);
    if (typeof ring === 'string') return ring;
    rings.push(ring);
  }
  return { width, rings };
}

async function readRing(
  read: (key: string) => Promise<string | undefined>,
  prefix: string,
  pages: number,
): Promise<FrontendRing | string> {
  const names = Array.from({ length: pages }, (_, i) => `${prefix}ring-ref${i}`);
  const [channel, single, ...numbered] = await Promise.all(
    [`${prefix}event-channel`, `${prefix}ring-ref`, ...names].map(read),
  );
  const values = pages === 1 && single !== undefined ? [single] : numbered;
  const ringRefs = values.map(number);
  const port = number(channel);
  const missing = ringRefs.findIndex((gref) => gref === undefined);
  if (missing >= 0) return `reading ${pages === 1 ? `${prefix}ring-ref` : (names[missing] ?? '')}`;
  if (port === undefined || port === 0) return `reading ${prefix}event-channel`;
  return { ringRefs: ringRefs.flatMap((gref) => gref ?? []), port };
}

function widthOf(protocol: string | undefined): AbiWidth | undefined {
  if (protocol === undefined || protocol === BLKIF_PROTOCOL.x86_64) return 64;
  return protocol === BLKIF_PROTOCOL.x86_32 ? 32 : undefined;
}

/** A decimal number of 32 bits, as frontends print them. */
function number(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= 0xffff_ffff ? value : undefined;
}

/** The backend's part of a device's path, by which Linux names it: `backend/vbd/1/51712`. */
export const nodeName = (path: string): string => path.slice(path.indexOf('/backend/') + 1);
