/** Input on its way to a guest: bounded, movements of the pointer joined, and no key that went down stays down. */
import { MAX_INPUT_EVENTS } from '../limits.ts';
import type { InputEvent } from './events.ts';

export class InputQueue {
  readonly #events: InputEvent[] = [];
  /** Keys that the guest has been told are down, or will be. */
  readonly #down = new Set<number>();

  push(event: InputEvent): void {
    if (event.kind === 'key') {
      if (event.pressed) {
        // A guest that takes nothing gets no more; a key held down repeats, which the guest does itself.
        if (this.#events.length >= MAX_INPUT_EVENTS || this.#down.has(event.keycode)) return;
        this.#down.add(event.keycode);
      } else if (!this.#down.delete(event.keycode)) return;
      this.#events.push(event);
      return;
    }
    const last = this.#events.at(-1);
    const joined = last && join(last, event);
    if (joined) this.#events.splice(-1, 1, joined);
    else if (this.#events.length < MAX_INPUT_EVENTS) this.#events.push(event);
  }

  take(count: number): InputEvent[] {
    return this.#events.splice(0, count);
  }

  /** For a guest that starts anew. */
  clear(): void {
    this.#events.length = 0;
    this.#down.clear();
  }
}

function join(last: InputEvent, next: InputEvent): InputEvent | undefined {
  if (last.kind === 'position' && next.kind === 'position') return { ...next, z: last.z + next.z };
  if (last.kind === 'motion' && next.kind === 'motion') {
    return { kind: 'motion', x: last.x + next.x, y: last.y + next.y, z: last.z + next.z };
  }
  return undefined;
}
