/**
 * Runs the steps of a memory batch over whatever the pages of a backend are: the hypervisor's machine memory, files or
 * arrays of tests. What a step means stands here, once.
 */
import { Errno } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import { PAGE_BYTES } from './limits.ts';
import type { MemoryOp, MemoryResult, PagePlace, RingPush } from './port.ts';

/** The pages that a backend's domains have, and their event channels. Answers are 0 or -errno. */
export interface StepPages {
  /** Fills `target` with what is at a place. */
  read(place: PagePlace, target: Uint8Array): number;
  write(place: PagePlace, data: Uint8Array): number;
  /** EVTCHNOP_send. */
  notify(port: EvtchnPort): number;
}

/** One result for each step. Offsets and lengths lie within a page. */
export function runSteps(ops: readonly MemoryOp[], pages: StepPages): MemoryResult[] {
  // Of this batch alone: what is not overwritten is not handed out.
  const room = Buffer.allocUnsafeSlow(ops.reduce((sum, op) => (op.kind === 'read' ? sum + op.length : sum), 0));
  let taken = 0;
  let written = false;
  /** A guest's CPU must not see what follows a write before the write (the barriers of ring.h). */
  const settle = (): void => {
    if (written) Atomics.exchange(barrier, 0, 0);
    written = false;
  };
  const step = (op: MemoryOp): MemoryResult => {
    switch (op.kind) {
      case 'read': {
        settle();
        const data = room.subarray(taken, taken + op.length);
        const status = pages.read(op, data);
        if (status !== 0) return { status };
        taken += op.length;
        return { status, data };
      }
      case 'write':
        written = true;
        return { status: pages.write(op, op.data) };
      case 'copy': {
        settle();
        const data = scratch.subarray(0, op.length);
        const status = pages.read(op.from, data);
        written = true;
        return { status: status === 0 ? pages.write(op.to, data) : status };
      }
      case 'notify':
        if (!op.push) return { status: pages.notify(op.port) };
        settle();
        return { status: push(pages, op.port, op.push) };
      case 'check':
        cancelled = failed;
        return cancelled ? CANCELLED : { status: 0 };
    }
  };
  let failed = false;
  let cancelled = false;
  return ops.map((op) => {
    if (cancelled) return CANCELLED;
    const result = step(op);
    failed ||= result.status !== 0;
    return result;
  });
}

/** Of steps that a check held back, and of the check itself. */
export const CANCELLED: MemoryResult = { status: -Errno.ECANCELED };

/** A ring's event index: u32. */
export const EVENT_INDEX_BYTES = 4;
const barrier = new Int32Array(new SharedArrayBuffer(4));
const scratch = new Uint8Array(PAGE_BYTES);
const eventIndex = new DataView(new ArrayBuffer(EVENT_INDEX_BYTES));
const eventIndexBytes = new Uint8Array(eventIndex.buffer);

/** RING_PUSH_..._AND_CHECK_NOTIFY of ring.h, behind the store of the producer index. */
function push(pages: StepPages, port: EvtchnPort, { page, offset, from, to }: RingPush): number {
  const status = pages.read({ page, offset }, eventIndexBytes);
  if (status !== 0) return status;
  return (to - eventIndex.getUint32(0, true)) >>> 0 < (to - from) >>> 0 ? pages.notify(port) : 0;
}
