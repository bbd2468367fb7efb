/** session: logging in and out (Xen 4.4 `XendAPI.py`, session_*). A session sees itself and no other. */
import { handleInvalid, permissionDenied } from '../errors.ts';
import type { Session } from '../sessions.ts';
import { defineClass, writer, type Call } from '../table.ts';

const { ro, func } = writer<Session>();

function own(ref: string, call: Call | undefined): Session {
  if (call === undefined) throw handleInvalid('session', ref);
  if (call.session.ref !== ref) throw permissionDenied();
  return call.session;
}

export const session = defineClass<Session>({
  name: 'session',
  doc: 'A client that has logged in.',
  lacks: ['get_all_records'],
  all: (_, call) => (call ? [call.session] : []),
  find: (_, ref, call) => own(ref, call),
  refOf: ({ ref }) => ref,
  fields: [
    ro('this_host', 'ref', (world) => world.hostRef),
    ro('this_user', 'string', (_, { user }) => user),
    ro('last_active', 'datetime', (_, { lastActive }) => lastActive),
  ],
  operations: [
    func({
      name: 'login_with_password',
      doc: 'Logs in; the result is the first argument of every other call.',
      session: false,
      returns: 'session',
      params: [
        { name: 'user', kind: 'string' },
        { name: 'password', kind: 'string' },
        { name: 'version', kind: 'any', optional: true },
        { name: 'originator', kind: 'any', optional: true },
      ],
      async run(world, call, user, password) {
        const { authenticate } = world.ports;
        const allow = async (): Promise<boolean> =>
          call.peer.auth === 'none' || ((await authenticate?.(user, password)) ?? false);
        return (await world.sessions.login(user, allow)).ref;
      },
    }),
    func({
      name: 'logout',
      doc: 'Ends the session of the caller.',
      run(world, call) {
        world.sessions.logout(call.session.ref);
        world.observer.update();
      },
    }),
  ],
});
