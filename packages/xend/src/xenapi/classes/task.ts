/** task: what became of an `Async.` call (Xen 4.4 `XendTask.py`). */
import { handleInvalid, notAllowed } from '../errors.ts';
import { defineClass, writer } from '../table.ts';
import type { Task } from '../tasks.ts';

const { ro, func, method } = writer<Task>();

export const task = defineClass<Task>({
  name: 'task',
  doc: 'A call that goes on behind its caller.',
  all: (world) => world.tasks.all(),
  find: (world, ref) => world.tasks.get(ref),
  refOf: ({ ref }) => ref,
  label: ({ label }) => label,
  fields: [
    ro('name_label', 'string', (_, { label }) => label),
    ro('name_description', 'string', () => ''),
    ro('status', 'string', (_, { outcome }) => outcome?.status ?? 'pending'),
    ro('progress', 'int', (_, { progress }) => progress),
    ro('type', 'string', (_, { type }) => type),
    ro('result', 'any', (_, { outcome }) => (outcome?.status === 'success' ? (outcome.value as string) : '')),
    ro('error_info', 'set', (_, { outcome }) => (outcome?.status === 'failure' ? outcome.description : [])),
    ro('allowed_operations', 'map', () => ({})),
    ro('session', 'ref', (_, { session }) => session),
    ro('created', 'datetime', (_, { created }) => created, { original: false }),
    ro('finished', 'datetime', (_, { finished }) => finished ?? '', { original: false }),
  ],
  operations: [
    func({
      name: 'cancel',
      doc: 'Never was allowed.',
      params: [{ name: 'task', kind: 'ref' }],
      run(world, _, ref) {
        if (!world.tasks.get(ref)) throw handleInvalid('task', ref);
        throw notAllowed();
      },
    }),
    method({
      name: 'destroy',
      doc: 'Forgets a task; its work goes on.',
      original: false,
      run(world, _, { ref }) {
        world.tasks.remove(ref);
      },
    }),
  ],
});
