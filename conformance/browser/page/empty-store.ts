/** Requests of a guest to a xenstore that holds nothing: reads fail with ENOENT, all else is OK. */
import { appendToRing, copyFromRing, ringUsed, u32Bytes } from '@xenhost/pv-ring';
import type { PageWrite } from '@xenhost/pv-ring';
import { XENSTORE_RING_SIZE, XenstoreDomainInterface } from '@xenhost/xen-abi';

const { offsets } = XenstoreDomainInterface;
/** Of `struct xsd_sockmsg`: type, req_id, tx_id, len. */
const HEADER_BYTES = 16;
const OP_READ = 2;
const OP_ERROR = 16;
const text = (value: string): Uint8Array => Uint8Array.from(`${value}\0`, (char) => char.charCodeAt(0));

/** What to write into the ring page to answer the request that stands in it whole; nothing when there is none. */
export function answerStore(page: DataView): readonly PageWrite[] {
  const cons = page.getUint32(offsets.req_cons, true);
  const used = ringUsed(page.getUint32(offsets.req_prod, true), cons, XENSTORE_RING_SIZE) ?? 0;
  if (used < HEADER_BYTES) return [];
  const ring = new Uint8Array(page.buffer, offsets.req, XENSTORE_RING_SIZE);
  const header = copyFromRing(ring, cons, HEADER_BYTES);
  const view = new DataView(header.buffer);
  const length = HEADER_BYTES + view.getUint32(12, true);
  if (used < length) return [];
  const isRead = view.getUint32(0, true) === OP_READ;
  const body = text(isRead ? 'ENOENT' : 'OK');
  const reply = new Uint8Array(HEADER_BYTES + body.length);
  if (isRead) view.setUint32(0, OP_ERROR, true);
  view.setUint32(12, body.length, true);
  reply.set(header);
  reply.set(body, HEADER_BYTES);
  const answers = { base: offsets.rsp, size: XENSTORE_RING_SIZE, prodOffset: offsets.rsp_prod };
  return [
    ...appendToRing(answers, page.getUint32(offsets.rsp_prod, true), reply),
    { offset: offsets.req_cons, data: u32Bytes((cons + length) >>> 0) },
  ];
}
