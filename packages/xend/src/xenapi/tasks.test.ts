/** Async. calls: what becomes of them, and that they do not pile up. */
import type { XmlRpcStruct } from '@xenhost/xmlrpc-codec';
import { vmRecord, XenApiClient } from '../testing/xen-api-client.ts';
import { xendFixture } from '../testing/xend-fixture.ts';
import { MAX_PENDING_TASKS, MAX_TASK_RESULTS, MAX_TASKS, TASK_KEEP_S } from './limits.ts';
import { Tasks, type Outcome } from './tasks.ts';

const fixture = xendFixture();
const api = new XenApiClient(() => fixture.xend.xenApi);
beforeEach(() => api.login());

/** Waits as clients do: by events. */
const finished = async (task: string): Promise<XmlRpcStruct> => {
  while ((await api.ask('task.get_status', task)) === 'pending') await api.ask('event.next');
  return api.ask<XmlRpcStruct>('task.get_record', task);
};

test('a call that succeeds', async () => {
  await api.ask('event.register', ['task']);
  const task = await api.ask<string>('Async.VM.create', vmRecord('web'));
  const record = await finished(task);
  const [vm] = await api.ask<string[]>('VM.get_by_name_label', 'web');
  expect(record).toEqual({
    uuid: task,
    name_label: 'VM.create',
    name_description: '',
    status: 'success',
    progress: '100',
    type: 'VM',
    result: vm,
    error_info: [],
    allowed_operations: {},
    session: api.session,
    created: expect.any(Date) as Date,
    finished: expect.any(Date) as Date,
  });
  expect(await api.ask('task.get_by_name_label', 'VM.create')).toEqual([task]);
  expect(await api.failure('task.cancel', task)).toEqual(['OPERATION_NOT_ALLOWED']);
  expect(await api.failure('task.cancel', 'x')).toEqual(['HANDLE_INVALID', 'task', 'x']);
  await api.ask('task.destroy', task);
  expect(await api.failure('task.get_status', task)).toEqual(['HANDLE_INVALID', 'task', task]);
});

test('a call that fails', async () => {
  await api.ask('event.register', ['task']);
  const vm = await api.ask<string>('VM.create', vmRecord('web'));
  const record = await finished(await api.ask<string>('Async.VM.pause', vm));
  expect(record).toMatchObject({
    status: 'failure',
    type: '',
    error_info: ['VM_BAD_POWER_STATE', vm, 'Running', 'Halted'],
  });
  const failed = await finished(await api.ask<string>('Async.debug.return_failure'));
  expect(failed['error_info']).toEqual(['DEBUG_FAIL', api.session]);
});

test('one that takes its time says how far it is', async () => {
  await api.ask('event.register', ['task']);
  const task = await api.ask<string>('Async.debug.wait', 4);
  const seen = new Set<string>();
  while ((await api.ask('task.get_status', task)) === 'pending') {
    seen.add(await api.ask<string>('task.get_progress', task));
    await api.ask('event.next');
  }
  expect(await api.ask('task.get_progress', task)).toBe('100');
  for (const progress of seen) expect(['0', '25', '50', '75', '100']).toContain(progress);
});

test('its work outlives the session, not xend', async () => {
  const ports = fixture.xend.manager.ports as { sleep: (ms: number) => Promise<void> };
  const sleep = jest.spyOn(ports, 'sleep').mockImplementation(() => new Promise((resolve) => setTimeout(resolve, 1)));
  const task = await api.ask<string>('Async.debug.wait', 3_000);
  await api.ask('session.logout');
  await api.login();
  expect(await api.ask('task.get_status', task)).toBe('pending');
  await fixture.xend.xenApi.close();
  expect(sleep.mock.calls.length).toBeLessThan(3_000);
});

describe('bounds', () => {
  let now: Date;
  const told: string[] = [];
  const tasks = (): Tasks => {
    now = new Date(0);
    told.length = 0;
    return new Tasks({ now: () => now, told: (operation, ref) => told.push(`${operation} ${ref}`) });
  };
  const options = { label: 'x', type: '', session: 's' };
  const done = (): Promise<Outcome> => Promise.resolve({ status: 'success', value: '' });

  test('tasks that are not done', () => {
    const all = tasks();
    for (let i = 0; i < MAX_PENDING_TASKS; i += 1) all.start(options, () => new Promise(() => undefined));
    expect(() => all.start(options, done)).toThrow('LIMIT_REACHED: pending tasks');
  });

  test('what their results take', async () => {
    const all = tasks();
    const half = (): Promise<Outcome> =>
      Promise.resolve({ status: 'success', value: 'x'.repeat(MAX_TASK_RESULTS / 2) });
    const refs: string[] = [];
    for (let i = 0; i < 4; i += 1) {
      refs.push(all.start(options, half).ref);
      await all.settle();
    }
    expect(all.all().map(({ ref }) => ref)).toEqual(refs.slice(-1));
    all.remove(refs[3]!);
    all.start(options, done);
    await all.settle();
    expect(all.all()).toHaveLength(1);
  });

  test('tasks that are done go by number and by age', async () => {
    const all = tasks();
    const first = all.start(options, done);
    await all.settle();
    for (let i = 0; i < MAX_TASKS; i += 1) {
      all.start(options, done);
      await all.settle();
    }
    expect(all.all().length).toBeLessThanOrEqual(MAX_TASKS);
    expect(all.get(first.ref)).toBeUndefined();
    expect(told).toContain(`del ${first.ref}`);
    now = new Date(TASK_KEEP_S * 1000 + 1);
    expect(all.all()).toEqual([]);
  });
});
