/** Events: told to those who asked, whoever caused them; waited for; bounded. */
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { vmRecord, XenApiClient } from '../testing/xen-api-client.ts';
import { config, xendFixture } from '../testing/xend-fixture.ts';
import { EventHub } from './events.ts';
import { MAX_BLOCKED_CALLS, MAX_QUEUED_EVENTS } from './limits.ts';

const fixture = xendFixture();
const api = new XenApiClient(() => fixture.xend.xenApi);
beforeEach(() => api.login());

const create = (name: string) => api.ask<string>('VM.create', vmRecord(name));
/** What the next call tells, each as "operation class ref field". */
const next = async (): Promise<string[]> => {
  const events = await api.ask<XmlRpcStruct[]>('event.next');
  const shown = ['operation', 'class', 'ref', 'field'];
  return events.map((event) =>
    shown
      .map((key) => event[key] as string)
      .join(' ')
      .trim(),
  );
};
/** Calls event.next until it has told this. */
const until = async (wanted: string): Promise<string[]> => {
  const told: string[] = [];
  while (!told.includes(wanted)) told.push(...(await next()));
  return told;
};

test('who has not asked is told so', async () => {
  expect(await api.failure('event.next')).toEqual(['SESSION_NOT_REGISTERED', api.session]);
  expect(await api.ask('event.unregister', [])).toBe('');
});

test('an event has all that clients look for', async () => {
  await api.ask('event.register', ['VM']);
  const ref = await create('web');
  const [event] = await api.ask<XmlRpcStruct[]>('event.next');
  expect(event).toEqual({
    id: '1',
    timestamp: expect.any(Date) as Date,
    class: 'VM',
    operation: 'add',
    ref,
    obj_uuid: ref,
    field: '',
    snapshot: await api.ask('VM.get_record', ref),
  });
});

test('calls of the Xen-API are told with the field that was set', async () => {
  await api.ask('event.register', ['VM', 'VDI', 'SR']);
  const ref = await create('web');
  await next();
  await api.ask('VM.set_name_label', ref, 'shop');
  expect(await next()).toEqual([`mod VM ${ref} name_label`]);
  await api.ask('VM.add_to_other_config', ref, 'a', 'b');
  expect(await next()).toEqual([`mod VM ${ref} other_config`]);
  const [sr] = await api.ask<string[]>('SR.get_all');
  const vdi = await api.ask<string>('VDI.create', { SR: sr!, virtual_size: '4096' });
  await api.ask('SR.set_name_label', sr!, 'Disks');
  const snapshot = await api.ask<string>('VDI.snapshot', vdi);
  await api.ask('VDI.destroy', vdi);
  expect(await next()).toEqual([`add VDI ${vdi}`, `mod SR ${sr!} name_label`, `add VDI ${snapshot}`, `del VDI ${vdi}`]);
  await api.ask('VM.destroy', ref);
  expect(await next()).toEqual([`del VM ${ref}`]);
});

test('what the legacy methods and guests do is told to who waits', async () => {
  await api.ask('event.register', []);
  await fixture.call('xend.domain.create', config('old', ['device', ['vif', ['mac', '00:16:3e:00:00:01']]]));
  const [ref] = await api.ask<string[]>('VM.get_by_name_label', 'old');
  const [vif] = await api.ask<string[]>('VM.get_VIFs', ref!);
  const [console] = await api.ask<string[]>('VM.get_consoles', ref!);
  const told = await until(`add VM ${ref!}`);
  expect(told).toEqual(expect.arrayContaining([`add VIF ${vif!}`, `add console ${console!}`]));
  const waiting = until(`del VM ${ref!}`);
  await fixture.call('xend.domain.unpause', 'old');
  await fixture.end(1, 0);
  expect(await waiting).toEqual(expect.arrayContaining([`del VIF ${vif!}`, `del console ${console!}`]));
});

test('what is gone when it is told leaves an empty snapshot, one that went none', async () => {
  await api.ask('event.register', ['VM']);
  await api.ask('VM.destroy', await create('web'));
  const events = await api.ask<XmlRpcStruct[]>('event.next');
  expect(events.map(({ operation, snapshot }) => [operation, snapshot])).toEqual([
    ['add', {}],
    ['del', undefined],
  ]);
});

test('only the classes that were asked for, by any spelling, and * for all', async () => {
  await api.ask('event.register', ['vm', 'nothing']);
  await api.ask('event.register', ['VDI']);
  const [sr] = await api.ask<string[]>('SR.get_all');
  await api.ask('SR.set_name_label', sr!, 'a');
  const ref = await create('web');
  expect(await next()).toEqual([`add VM ${ref}`]);
  await api.ask('event.register', ['*']);
  await api.ask('SR.set_name_label', sr!, 'b');
  expect(await next()).toEqual([`mod SR ${sr!} name_label`]);
  await api.ask('event.unregister', ['SR']);
  await api.ask('SR.set_name_label', sr!, 'c');
  await api.ask('VM.destroy', ref);
  expect(await next()).toEqual([`del VM ${ref}`]);
  await api.ask('event.unregister', ['*']);
  expect(await api.failure('event.next')).toEqual(['SESSION_NOT_REGISTERED', api.session]);
});

test('each session has its own', async () => {
  const other = new XenApiClient(() => fixture.xend.xenApi);
  await api.ask('event.register', ['VM']);
  const ref = await create('web');
  await other.ask('event.register', ['VM']);
  await api.ask('VM.set_user_version', ref, '2');
  const events = await other.ask<XmlRpcStruct[]>('event.next');
  expect(events.map((event) => [event['id'], event['field']])).toEqual([['1', 'user_version']]);
  expect(await next()).toEqual([`add VM ${ref}`, `mod VM ${ref} user_version`]);
});

test('a wait ends with its connection, its session, its registration, and xend', async () => {
  await api.ask('event.register', ['SR']);
  const { session } = api;
  const gone = new AbortController();
  const { xenApi } = fixture.xend;
  const wait = (): Promise<XmlRpcValue> =>
    xenApi.call('event.next', [session], { local: true, auth: 'none', signal: gone.signal });
  const closed = wait();
  gone.abort();
  expect(await closed).toEqual({ Status: 'Success', Value: [] });
  const unregistered = api.failure('event.next');
  await api.ask('event.unregister', []);
  expect(await unregistered).toEqual(['SESSION_NOT_REGISTERED', session]);
  await api.ask('event.register', ['SR']);
  const loggedOut = api.failure('event.next');
  await api.ask('session.logout');
  expect(await loggedOut).toEqual(['SESSION_INVALID', session]);
  await api.login();
  await api.ask('event.register', ['SR']);
  const stopped = api.failure('event.next');
  await xenApi.close();
  expect(await stopped).toEqual(['SESSION_INVALID', api.session]);
});

describe('bounds', () => {
  const hub = (): EventHub => new EventHub(['VM'], () => new Date(0));

  test('the same change that nobody has fetched yet is told once', async () => {
    const events = hub();
    events.register('s', []);
    for (let i = 0; i < 10; i += 1) events.emit('mod', 'VM', 'a', 'x');
    events.emit('mod', 'VM', 'b', 'x');
    events.emit('mod', 'VM', 'a', 'x');
    expect((await events.next('s')).map(({ id, ref }) => [id, ref])).toEqual([
      [11, 'b'],
      [12, 'a'],
    ]);
  });

  test('a session that never fetches loses its events and is told so', async () => {
    const events = hub();
    events.register('s', ['*']);
    for (let i = 0; i <= MAX_QUEUED_EVENTS; i += 1) events.emit('add', 'VM', String(i));
    await expect(events.next('s')).rejects.toMatchObject({ description: ['EVENTS_LOST'] });
    events.emit('add', 'VM', 'after');
    expect((await events.next('s')).map(({ ref }) => ref)).toEqual(['after']);
  });

  test('waits of one session', async () => {
    const events = hub();
    events.register('s', []);
    const waits = Array.from({ length: MAX_BLOCKED_CALLS }, () => events.next('s').catch((error: unknown) => error));
    await expect(events.next('s')).rejects.toMatchObject({
      description: ['LIMIT_REACHED', 'blocked calls', String(MAX_BLOCKED_CALLS)],
    });
    events.end('s');
    for (const ended of await Promise.all(waits))
      expect(ended).toMatchObject({ description: ['SESSION_INVALID', 's'] });
    expect(events.listening).toBe(false);
  });
});
