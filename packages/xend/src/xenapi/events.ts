/**
 * Who listens to what, and what waits for them (Xen 4.4 `XendAPI.py`, event_register and event_next). There an event that
 * finds a full queue blocks whoever caused it; here the queue is given up and its session told with EVENTS_LOST.
 */
import { eventsLost, limitReached, sessionInvalid, sessionNotRegistered } from './errors.ts';
import { MAX_BLOCKED_CALLS, MAX_QUEUED_EVENTS } from './limits.ts';

export type EventOperation = 'add' | 'mod' | 'del';

export interface ApiEvent {
  readonly id: number;
  readonly at: Date;
  readonly class: string;
  readonly operation: EventOperation;
  readonly ref: string;
  /** The field that was set, or ''. */
  readonly field: string;
}

interface Waiter {
  resolve(events: ApiEvent[]): void;
  reject(error: Error): void;
}

interface Registration {
  readonly classes: Set<string>;
  /** By what makes two events the same to a listener: the later one adds nothing. */
  queue: Map<string, ApiEvent>;
  lost: boolean;
  nextId: number;
  readonly waiters: Set<Waiter>;
}

export class EventHub {
  readonly #registrations = new Map<string, Registration>();
  /** All classes, by their names in lower case, as XenServer's clients write them. */
  readonly #classes: ReadonlyMap<string, string>;
  readonly #now: () => Date;

  constructor(classes: readonly string[], now: () => Date) {
    this.#classes = new Map(classes.map((name) => [name.toLowerCase(), name]));
    this.#now = now;
  }

  get listening(): boolean {
    return this.#registrations.size > 0;
  }

  /** Adds classes; none or `*` means all. */
  register(session: string, classes: readonly string[]): void {
    const registration = this.#registrations.get(session) ?? {
      classes: new Set<string>(),
      queue: new Map<string, ApiEvent>(),
      lost: false,
      nextId: 1,
      waiters: new Set<Waiter>(),
    };
    this.#registrations.set(session, registration);
    for (const name of this.#named(classes)) registration.classes.add(name);
  }

  /** Takes classes away; none or `*` means all. */
  unregister(session: string, classes: readonly string[]): void {
    const registration = this.#registrations.get(session);
    if (!registration) return;
    for (const name of this.#named(classes)) registration.classes.delete(name);
    if (registration.classes.size === 0) this.#drop(session, sessionNotRegistered(session));
  }

  #named(classes: readonly string[]): Iterable<string> {
    if (classes.length === 0 || classes.includes('*')) return this.#classes.values();
    return classes.flatMap((name) => this.#classes.get(name.toLowerCase()) ?? []);
  }

  /** The session is no more. */
  end(session: string): void {
    this.#drop(session, sessionInvalid(session));
  }

  #drop(session: string, why: Error): void {
    const registration = this.#registrations.get(session);
    this.#registrations.delete(session);
    for (const waiter of registration?.waiters ?? []) waiter.reject(why);
  }

  emit(operation: EventOperation, className: string, ref: string, field = ''): void {
    for (const registration of this.#registrations.values()) {
      if (!registration.classes.has(className) || registration.lost) continue;
      const key = JSON.stringify([operation, className, ref, field]);
      // A later one takes the place of an earlier: its order among the others is the later's.
      registration.queue.delete(key);
      const id = registration.nextId++;
      registration.queue.set(key, { id, at: this.#now(), class: className, operation, ref, field });
      if (registration.queue.size > MAX_QUEUED_EVENTS) {
        registration.queue.clear();
        registration.lost = true;
      }
      const [waiter] = registration.waiters;
      if (waiter) {
        registration.waiters.delete(waiter);
        // Once what happens now has been told whole.
        queueMicrotask(() => {
          waiter.resolve(this.#take(registration));
        });
      }
    }
  }

  #take(registration: Registration): ApiEvent[] {
    const events = [...registration.queue.values()];
    registration.queue = new Map();
    return events;
  }

  /** The events since the last call; waits for one when there is none. An aborted wait resolves to none. */
  async next(session: string, signal?: AbortSignal): Promise<ApiEvent[]> {
    const registration = this.#registrations.get(session);
    if (!registration) throw sessionNotRegistered(session);
    if (registration.lost) {
      registration.lost = false;
      throw eventsLost();
    }
    if (registration.queue.size > 0) return this.#take(registration);
    if (signal?.aborted) return [];
    if (registration.waiters.size >= MAX_BLOCKED_CALLS) throw limitReached('blocked calls', MAX_BLOCKED_CALLS);
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        registration.waiters.delete(waiter);
        signal?.removeEventListener('abort', gone);
      };
      const gone = (): void => {
        finish();
        resolve([]);
      };
      const waiter: Waiter = {
        resolve: (events) => {
          finish();
          resolve(events);
        },
        reject: (error) => {
          finish();
          reject(error);
        },
      };
      registration.waiters.add(waiter);
      signal?.addEventListener('abort', gone);
    });
  }
}
