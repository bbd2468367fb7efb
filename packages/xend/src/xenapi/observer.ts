/**
 * Tells what becomes of machines and their devices, whoever did it: the Xen-API, xm, the guest itself. It compares what the
 * domains' manager knows with what was told last; configurations are replaced and never changed, so identity decides.
 */
import { isDisk } from '../device/plan.ts';
import type { Vm } from '../domain/vm.ts';
import { messageOf } from '../errors.ts';
import { CONSOLES, consolesOf } from './consoles.ts';
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

/** A machine with its devices and consoles. */
interface Machine {
  readonly marks: readonly unknown[];
  readonly seen: readonly Seen[];
}

const keyOf = (className: string, ref: string): string => `${className} ${ref}`;
const CLASSES = ['VM', 'VBD', 'VIF', 'console'];

export class Observer {
  readonly #world: World;
  #told: Map<string, Seen> | undefined;
  /** What was seen of each machine last: most are as they were. */
  #machines: ReadonlyMap<Vm, Machine> = new Map();
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
    this.#machines = new Map();
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
      else if (known !== seen && !same(seen.marks, known.marks)) tell('mod', seen);
    }
    if (hint && !told.has(keyOf(hint.className, hint.ref)))
      this.#world.events.emit(hint.operation, hint.className, hint.ref, hint.field);
  }

  #see(): Map<string, Seen> {
    const { manager, state } = this.#world;
    const all = new Map<string, Seen>();
    const machines = new Map<Vm, Machine>();
    const nrConsoles = state.table(CONSOLES).size;
    for (const vm of manager.all()) {
      const marks = [vm.config, vm.state, vm.live, vm.managed, state.table('vm').get(vm.uuid), nrConsoles];
      const before = this.#machines.get(vm);
      const machine = before && same(marks, before.marks) ? before : { marks, seen: this.#seenOf(vm, marks) };
      machines.set(vm, machine);
      for (const seen of machine.seen) all.set(keyOf(seen.className, seen.ref), seen);
    }
    this.#machines = machines;
    return all;
  }

  /** A machine and what belongs to it. */
  #seenOf(vm: Vm, marks: readonly unknown[]): Seen[] {
    const devices = vm.config.devices.flatMap((device): Seen[] => {
      const className = isDisk(device) ? 'VBD' : device.class === 'vif' ? 'VIF' : undefined;
      return className === undefined ? [] : [{ className, ref: device.uuid, marks: [device, vm.live] }];
    });
    const consoles = consolesOf(this.#world, vm).map(({ ref, location }): Seen => {
      return { className: 'console', ref, marks: [location] };
    });
    return [{ className: 'VM', ref: vm.uuid, marks: marks.slice(0, -1) }, ...devices, ...consoles];
  }
}

const same = (a: readonly unknown[], b: readonly unknown[]): boolean => a.every((mark, index) => mark === b[index]);
