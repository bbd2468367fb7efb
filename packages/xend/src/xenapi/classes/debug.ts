/** debug: calls that do nothing, to try clients with (Xen 4.4 `XendAPI.py`, debug_*). There never was an object of it. */
import { debugFail, valueNotSupported } from '../errors.ts';
import { MAX_DEBUG_WAIT_S } from '../limits.ts';
import { defineClass, writer } from '../table.ts';

const { func, method } = writer<never>();
const STEP_MS = 1_000;

export const debug = defineClass<never>({
  name: 'debug',
  doc: 'Nothing in particular.',
  lacks: ['get_all'],
  all: () => [],
  find: () => undefined,
  refOf: () => '',
  fields: [],
  operations: [
    func({
      name: 'wait',
      doc: 'Takes some seconds.',
      reads: true,
      params: [{ name: 'seconds', kind: 'int' }],
      async run(world, call, seconds) {
        if (seconds < 0 || seconds > MAX_DEBUG_WAIT_S) {
          throw valueNotSupported('debug.wait seconds', String(seconds), `0 to ${MAX_DEBUG_WAIT_S} are allowed`);
        }
        for (let done = 0; done < seconds && !call.peer.signal?.aborted; done += 1) {
          call.progress((done * 100) / seconds);
          await world.manager.ports.sleep(STEP_MS);
        }
      },
    }),
    func({
      name: 'return_failure',
      doc: 'Fails.',
      reads: true,
      run(_, call) {
        throw debugFail(call.session.ref);
      },
    }),
    method({ name: 'destroy', doc: 'Takes the object away.', run: () => undefined }),
  ],
});
