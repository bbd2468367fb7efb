/** A journal read back: which of its bytes count, and what they say. */
import { MAGIC, FRAME_BYTES, changesOf, payloadAt } from './record.ts';
import type { JournalChange, SessionChange, WatchRecord } from './record.ts';
import type { StoreChange } from '../core/journal.ts';
import { DONE_KEPT, RING_STATES_KEPT } from './limits.ts';

type RingChange = Extract<SessionChange, { op: 'ring' }>;

/** Guests' sessions as the changes so far leave them. */
export class Sessions {
  readonly watches = new Map<number, readonly WatchRecord[]>();
  /** The last few of each domain: which is true, the ring's indices tell. */
  readonly rings = new Map<number, readonly RingChange[]>();

  /** Ends of the last requests of each domain that have been run and changed something. */
  readonly done = new Map<number, number[]>();

  /** Notes what concerns sessions; true for a change that is nothing else. */
  note(change: JournalChange): change is SessionChange {
    switch (change.op) {
      case 'incarnation':
        return true;
      case 'watches':
        this.watches.set(change.domid, change.watches);
        return true;
      case 'ring':
        this.rings.set(change.domid, [...(this.rings.get(change.domid) ?? []), change].slice(-RING_STATES_KEPT));
        return true;
      case 'done':
        this.#noteDone(change.domid, change.reqCons);
        return true;
      case 'introduce':
      case 'release':
        // Both end the session that was.
        this.watches.delete(change.domid);
        this.rings.delete(change.domid);
        this.done.delete(change.domid);
        return false;
      case 'reset':
        this.watches.clear();
        this.rings.clear();
        this.done.clear();
        return false;
      default:
        return false;
    }
  }

  #noteDone(domid: number, reqCons: number): void {
    const ends = this.done.get(domid);
    if (!ends) this.done.set(domid, [reqCons]);
    else if (ends.push(reqCons) > DONE_KEPT) ends.shift();
  }

  /** Changes that make these sessions, behind the domains' introductions. */
  *changes(): Generator<SessionChange> {
    for (const [domid, watches] of this.watches) if (watches.length > 0) yield { op: 'watches', domid, watches };
    for (const states of this.rings.values()) yield* states;
    for (const [domid, ends] of this.done) for (const reqCons of ends) yield { op: 'done', domid, reqCons };
  }
}

export interface Replay {
  /** Of the hypervisor whose domains these are; undefined: this is no journal. */
  readonly incarnation: string | undefined;
  /** Bytes up to the last whole record. */
  readonly validBytes: number;
}

/** Looks through a journal without decoding more than its first record. */
export function measureJournal(bytes: Buffer): Replay {
  if (bytes.compare(MAGIC, 0, MAGIC.length, 0, Math.min(MAGIC.length, bytes.length)) !== 0) {
    return { incarnation: undefined, validBytes: 0 };
  }
  const first = payloadAt(bytes, MAGIC.length);
  const [change] = first ? changesOf(first) : [];
  if (change?.op !== 'incarnation') return { incarnation: undefined, validBytes: 0 };
  let at = MAGIC.length;
  for (let payload = first; payload; payload = payloadAt(bytes, at)) at += FRAME_BYTES + payload.length;
  return { incarnation: change.id, validBytes: at };
}

/** The store's changes in a measured journal, in order; those of sessions go to `sessions`. */
export function* storeChanges(bytes: Buffer, validBytes: number, sessions: Sessions): Generator<StoreChange> {
  let at = MAGIC.length;
  while (at < validBytes) {
    const payload = payloadAt(bytes, at);
    if (!payload) return;
    for (const change of changesOf(payload)) if (!sessions.note(change)) yield change;
    at += FRAME_BYTES + payload.length;
  }
}
