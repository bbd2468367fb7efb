/** event: what changes, told to those who asked (Xen 4.4 `XendAPI.py`, event_*). */
import { defineClass, writer } from '../table.ts';
import type { Answer } from '../values.ts';

const { func } = writer<never>();
const CLASSES = { name: 'classes', kind: 'set' } as const;

export const event = defineClass<never>({
  name: 'event',
  doc: 'What has changed.',
  lacks: ['get_all', 'get_record'],
  all: () => [],
  find: () => undefined,
  refOf: () => '',
  fields: [],
  operations: [
    func({
      name: 'register',
      doc: 'Asks for the events of classes; of all, when none or * is named.',
      reads: true,
      params: [CLASSES],
      run(world, call, classes) {
        world.events.register(call.session.ref, classes);
        world.observer.update();
      },
    }),
    func({
      name: 'unregister',
      doc: 'Asks no more for the events of classes; of any, when none or * is named.',
      reads: true,
      params: [CLASSES],
      run(world, call, classes) {
        world.events.unregister(call.session.ref, classes);
        world.observer.update();
      },
    }),
    func({
      name: 'next',
      doc: 'The events since the last call; waits while there is none.',
      reads: true,
      returns: 'set',
      async run(world, call) {
        const events = await world.events.next(call.session.ref, call.peer.signal);
        const told: Answer[] = [];
        for (const { id, at, class: className, operation, ref, field } of events) {
          // XenServer's clients put it into their caches as it is: of what is gone by now nothing is left.
          const snapshot = operation === 'del' ? undefined : ((await world.snapshot(className, ref)) ?? {});
          told.push({
            id,
            timestamp: at,
            class: className,
            operation,
            ref,
            obj_uuid: ref,
            field,
            ...(snapshot ? { snapshot } : {}),
          });
        }
        return told;
      },
    }),
  ],
});
