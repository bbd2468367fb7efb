/** Calls that go on behind their caller: what `Async.` ones become (Xen 4.4 `XendTask.py`, `XendTaskManager.py`). */
import { randomUUID } from 'node:crypto';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { limitReached } from './errors.ts';
import { MAX_PENDING_TASKS, MAX_TASK_RESULTS, MAX_TASKS, TASK_KEEP_S } from './limits.ts';

export type Outcome =
  | { readonly status: 'success'; readonly value: XmlRpcValue }
  | { readonly status: 'failure'; readonly description: readonly string[] };

export interface Task {
  readonly ref: string;
  /** The method's name. */
  readonly label: string;
  /** Class or kind of the result; '' when there is none. */
  readonly type: string;
  readonly session: string;
  readonly created: Date;
  finished: Date | undefined;
  /** Hundredths that are done. */
  progress: number;
  outcome: Outcome | undefined;
  /** Characters that the outcome takes, about. */
  size: number;
}

export class Tasks {
  readonly #tasks = new Map<string, Task>();
  readonly #running = new Set<Promise<unknown>>();
  /** Characters that outcomes take, all together. */
  #kept = 0;
  readonly #now: () => Date;
  readonly #told: (operation: 'add' | 'mod' | 'del', ref: string, field: string) => void;

  constructor(modules: { now(): Date; told(operation: 'add' | 'mod' | 'del', ref: string, field: string): void }) {
    this.#now = () => modules.now();
    this.#told = (operation, ref, field) => {
      modules.told(operation, ref, field);
    };
  }

  /** Starts work that never rejects. Throws LIMIT_REACHED. */
  start(
    options: { readonly label: string; readonly type: string; readonly session: string },
    work: (progress: (percent: number) => void) => Promise<Outcome>,
  ): Task {
    if (this.#running.size >= MAX_PENDING_TASKS) throw limitReached('pending tasks', MAX_PENDING_TASKS);
    this.#forget();
    const task: Task = {
      ...options,
      ref: randomUUID(),
      created: this.#now(),
      finished: undefined,
      progress: 0,
      outcome: undefined,
      size: 0,
    };
    this.#tasks.set(task.ref, task);
    this.#told('add', task.ref, '');
    const progress = (percent: number): void => {
      const next = Math.min(100, Math.max(task.progress, Math.floor(percent)));
      if (next === task.progress || task.outcome) return;
      task.progress = next;
      this.#told('mod', task.ref, 'progress');
    };
    const running = work(progress).then((outcome) => {
      task.outcome = outcome;
      task.size = JSON.stringify(outcome).length;
      this.#kept += this.#tasks.has(task.ref) ? task.size : 0;
      task.progress = 100;
      task.finished = this.#now();
      this.#running.delete(running);
      this.#told('mod', task.ref, 'status');
    });
    this.#running.add(running);
    return task;
  }

  get(ref: string): Task | undefined {
    this.#forget();
    return this.#tasks.get(ref);
  }

  all(): Task[] {
    this.#forget();
    return [...this.#tasks.values()];
  }

  /** Forgets a task; its work goes on. */
  remove(ref: string): void {
    const task = this.#tasks.get(ref);
    if (!task) return;
    this.#tasks.delete(ref);
    this.#kept -= task.size;
    this.#told('del', ref, '');
  }

  /** Resolves when nothing runs. */
  async settle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all([...this.#running]);
  }

  #forget(): void {
    const oldest = this.#now().getTime() - TASK_KEEP_S * 1000;
    for (const task of this.#tasks.values()) {
      if (!task.finished) continue;
      const fits = this.#tasks.size < MAX_TASKS && this.#kept <= MAX_TASK_RESULTS;
      if (fits && task.finished.getTime() >= oldest) continue;
      this.remove(task.ref);
    }
  }
}
