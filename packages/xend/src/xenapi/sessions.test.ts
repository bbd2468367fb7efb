/** Logging in, wrong calls, sessions that end. */
import { XenApiClient, LOCAL } from '../testing/xen-api-client.ts';
import { xendFixture } from '../testing/xend-fixture.ts';
import { methods } from '../rpc/dispatch.ts';
import { createXenApi } from './index.ts';
import { MAX_SESSIONS, SESSION_IDLE_S } from './limits.ts';

const fixture = xendFixture();
const api = new XenApiClient(() => fixture.xend.xenApi);
beforeEach(() => api.login());

const failed = (...description: string[]) => ({ Status: 'Failure', ErrorDescription: description });

test('a session knows its host, its user and itself', async () => {
  const [host] = await api.ask<string[]>('host.get_all');
  const record = await api.ask('session.get_record', api.session);
  expect(record).toEqual({
    uuid: api.session,
    this_host: host,
    this_user: 'root',
    last_active: expect.any(Date) as Date,
  });
  expect(await api.ask('session.get_all')).toEqual([api.session]);
  expect(await api.ask('session.get_this_host', api.session)).toBe(host);
});

test('a session sees no other session', async () => {
  const mine = api.session;
  const { Value: other } = await api.raw('session.login_with_password', 'eve', 'x');
  expect(other).not.toBe(mine);
  for (const method of ['get_record', 'get_this_user', 'get_last_active', 'get_this_host'])
    expect(await api.failure(`session.${method}`, other!)).toEqual(['PERMISSION_DENIED']);
});

test('a session that was never there, has logged out, or is not even text', async () => {
  expect(await api.raw('VM.get_all', 'foreign')).toEqual(failed('SESSION_INVALID', 'foreign'));
  expect(await api.raw('VM.get_all', 7)).toEqual(failed('SESSION_INVALID', ''));
  const { session } = api;
  expect(await api.raw('session.logout', session)).toEqual({ Status: 'Success', Value: '' });
  expect(await api.raw('session.logout', session)).toEqual(failed('SESSION_INVALID', session));
  expect(await api.raw('Async.VM.get_all', session)).toEqual(failed('SESSION_INVALID', session));
});

test('argument counts include the session', async () => {
  const { session } = api;
  const name = 'MESSAGE_PARAMETER_COUNT_MISMATCH';
  expect(await api.raw('VM.get_all')).toEqual(failed(name, 'VM.get_all', '1', '0'));
  expect(await api.raw('VM.get_record', session)).toEqual(failed(name, 'VM.get_record', '2', '1'));
  expect(await api.raw('VM.pause', session, 'a', 'b')).toEqual(failed(name, 'VM.pause', '2', '3'));
  expect(await api.raw('Async.VM.pause', session)).toEqual(failed(name, 'Async.VM.pause', '2', '1'));
  const login = 'session.login_with_password';
  expect(await api.raw(login, 'root')).toEqual(failed(name, login, '2', '1'));
});

test('unknown methods', async () => {
  const { session } = api;
  for (const method of ['VM.fly', 'nothing', 'event.get_current_id', 'Async.VM.get_name_label', 'Async.', 'toString'])
    expect(await api.raw(method, session)).toEqual(failed('MESSAGE_METHOD_UNKNOWN', method));
  expect(await api.raw('xend.domains')).toEqual(failed('INTERNAL_ERROR', 'xend.domains is no method of the Xen-API'));
});

test('system.listMethods is answered bare and without a session', async () => {
  const names = await fixture.xend.xenApi.call('system.listMethods', [], LOCAL);
  expect(names).toEqual(
    expect.arrayContaining(['VM.start', 'event.next', 'pool.get_all_records', 'system.listMethods']),
  );
  expect(names).toEqual(fixture.xend.xenApi.methodNames());
  const signature = await fixture.xend.xenApi.call('system.methodSignature', ['VM.set_platform'], LOCAL);
  expect(signature).toEqual([['struct', 'string', 'string', 'struct']]);
});

test('a session ends when it was quiet for too long, not before', async () => {
  const second = 1_000_000_000n;
  fixture.clock.advance(BigInt(SESSION_IDLE_S) * second);
  expect(await api.ask('session.get_uuid', api.session)).toBe(api.session);
  fixture.clock.advance(BigInt(SESSION_IDLE_S) * second + 1n);
  expect(await api.raw('VM.get_all', api.session)).toEqual(failed('SESSION_INVALID', api.session));
});

test('one session too many ends the quietest', async () => {
  const quiet = api.session;
  for (let i = 0; i < MAX_SESSIONS; i += 1) await api.login();
  expect((await api.raw('VM.get_all', quiet))['Status']).toBe('Failure');
  expect((await api.raw('VM.get_all', api.session))['Status']).toBe('Success');
});

describe('a listener that asks for passwords', () => {
  const peer = { local: false, auth: 'pam' } as const;
  const login = ['session.login_with_password', ['root', 'secret']] as const;

  test('asks the authenticator', async () => {
    const asked: string[] = [];
    const guarded = createXenApi(
      { stateFolder: fixture.directory, storageFolder: fixture.directory },
      {
        context: fixture.xend.context,
        methods,
        authenticate: (user, password) => {
          asked.push(user, password);
          return Promise.resolve(password === 'secret');
        },
      },
    );
    expect(await guarded.call(...login, peer)).toMatchObject({ Status: 'Success' });
    const wrong = await guarded.call(login[0], ['root', 'guess'], peer);
    expect(wrong).toEqual(failed('SESSION_AUTHENTICATION_FAILED'));
    expect(asked).toEqual(['root', 'secret', 'root', 'guess']);
    await guarded.close();
  });

  test('lets nobody in without one', async () => {
    expect(await fixture.xend.xenApi.call(...login, peer)).toEqual(failed('SESSION_AUTHENTICATION_FAILED'));
  });
});
