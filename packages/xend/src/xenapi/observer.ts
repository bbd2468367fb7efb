/**
 * Tells what becomes of machines and their devices, whoever did it: the Xen-API, xm, the guest itself. It compares what the
 * domains' manager knows with what was told last; configurations are replaced and never changed, so identity decides.
 */
import { isDisk } from '../device/plan.ts';
import { messageOf } from '../errors.ts';
import { consoleRecord, consolesOf } from './consoles.ts';
import type { EventOperation } from './events.ts';
import { OBSERVE_INTERVAL_MS, REFRESH_INTERVAL_MS } from './limits.ts';
import type { World } from './world.ts';

/** A change that the caller knows more about. */
export interface Hint {
  readonly operation: EventOperation;
  readonly className: string;
  readonly ref: string;
  readonly field: string;
}

interface Seen {
  readonly className: string;
  readonly ref: string;
  /** What must be the same for nothing to have happened. */
  readonly marks: readonly unknown[];
}

const keyOf = (className: string, ref: string): string => `${className} ${ref}`;
const CLASSES = ['VM', 'VBD', 'VIF', 'console'];

export class Observer {
  readonly #world: World;
  #told: Map<string, Seen> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #refreshedAt = 0;

  constructor(world: World) {
    this.#world = world;
  }

  watches(className: string): boolean {
    return CLASSES.includes(className);
  }

  /** Somebody began to listen, or stopped. */
  update(): void {
    const { listening } = this.#world.events;
    if (!listening) {
      this.close();
      return;
    }
    this.#told ??= this.#see();
    this.#timer ??= setInterval(() => {
      this.#tick();
    }, OBSERVE_INTERVAL_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#told = undefined;
  }

  #tick(): void {
    if (!this.#world.events.listening) {
      this.close();
      return;
    }
    this.look();
    const now = performance.now();
    if (now - this.#refreshedAt < REFRESH_INTERVAL_MS) return;
    this.#refreshedAt = now;
    const { manager } = this.#world;
    manager.refresh().catch((error: unknown) => {
      manager.ports.log.error('XendAPI', `Cannot list domains: ${messageOf(error)}`);
    });
  }

  /** Tells what is new. The hint is told even when nothing else shows it. */
  look(hint?: Hint): void {
    const before = this.#told;
    if (!before) return;
    const after = this.#see();
    this.#told = after;
    const told = new Set<string>();
    const tell = (operation: EventOperation, { className, ref }: Seen): void => {
      const same = hint?.className === className && hint.ref === ref;
      told.add(keyOf(className, ref));
      this.#world.events.emit(operation, className, ref, same ? hint.field : '');
    };
    for (const [key, seen] of before) if (!after.has(key)) tell('del', seen);
    for (const [key, seen] of after) {
      const known = before.get(key);
      if (!known) tell('add', seen);
      else if (seen.marks.some((mark, index) => mark !== known.marks[index])) tell('mod', seen);
    }
    if (hint && !told.has(keyOf(hint.className, hint.ref)))
      this.#world.events.emit(hint.operation, hint.className, hint.ref, hint.field);
  }

  #see(): Map<string, Seen> {
    const { manager, state } = this.#world;
    const all = new Map<string, Seen>();
    const put = (seen: Seen): void => {
      all.set(keyOf(seen.className, seen.ref), seen);
    };
    for (const vm of manager.all()) {
      const extra = state.table('vm').get(vm.uuid);
      put({ className: 'VM', ref: vm.uuid, marks: [vm.config, vm.state, vm.live?.domid, vm.managed, extra] });
      for (const device of vm.config.devices) {
        const className = isDisk(device) ? 'VBD' : device.class === 'vif' ? 'VIF' : undefined;
        if (className !== undefined) put({ className, ref: device.uuid, marks: [device, vm.live?.domid] });
      }
      for (const { ref, location } of consolesOf(this.#world, vm)) {
        put({ className: 'console', ref, marks: [location, consoleRecord(this.#world, ref)] });
      }
    }
    return all;
  }
}
