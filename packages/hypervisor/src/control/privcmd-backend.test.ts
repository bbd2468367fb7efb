import { domid as toDomid, Errno, evtchnPort, grantRef } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import { localPrivcmd } from '@xenhost/privcmd';
import type { EventChannels } from '../event/api.ts';
import type { GrantTables } from '../grant/api.ts';
import { HypercallDispatch } from '../hypercall/dispatch.ts';
import type { HypercallHandler } from '../hypercall/types.ts';
import type { MemoryManager } from '../mm/api.ts';
import { TestHost } from '../test-host.test-kit.ts';
import { ControlPauses } from './modules.ts';
import { HypervisorBackend } from './privcmd-backend.ts';

const FRAME = 900;
const GREF = grantRef(8);

function setup(handlers: Record<string, HypercallHandler> = {}) {
  const host = new TestHost({ pcpu: undefined });
  host.lifecycle.createDom0();
  const domain = host.domain();
  const done: string[] = [];
  const pending: EvtchnPort[] = [];
  const pauses = new ControlPauses({ lifecycle: host.lifecycle, scheduler: host.scheduler });
  const backend = new HypervisorBackend({
    core: host.core,
    lifecycle: host.lifecycle,
    scheduler: host.scheduler,
    pauses,
    traces: host.traces,
    dispatch: new HypercallDispatch(host.core, { table: host.table, handlers, hasOtherWork: () => false }),
    memory: {
      foreignFrame: (_d: unknown, gfn: number) => (gfn === FRAME ? FRAME : -Errno.EINVAL),
      frameWritten: (mfn: number) => done.push(`written ${mfn}`),
    } as unknown as MemoryManager,
    grants: {
      openAccess: (_g: unknown, _u: unknown, gref: number, write: boolean) =>
        gref === GREF && !write
          ? { kind: 'frame', mfn: FRAME, offset: 16, length: 32 }
          : { kind: 'refused', status: -3 },
      closeAccess: () => done.push('closed'),
    } as unknown as GrantTables,
    events: {
      send: (_d: unknown, port: EvtchnPort) => (done.push(`send ${port}`), 0),
      allocUnbound: () => 5,
      takeDom0Pending: () => pending.splice(0),
      close: () => 0,
    } as unknown as EventChannels,
  });
  const port = localPrivcmd({}, backend).open();
  return { host, domain, backend, port, done, pending, pauses };
}

const foreign = (gfn: number) => ({ space: 'foreign', domid: toDomid(1), gfn }) as const;
const granted = { space: 'grant', domid: toDomid(1), gref: GREF } as const;

test('a hypercall runs as Domain-0 over its arena', async () => {
  const { port } = setup({
    xen_version: (call) => {
      const bytes = call.memory.read(0x1000n, 4);
      if (!bytes) return -Errno.EFAULT;
      call.memory.write(
        0x1000n,
        bytes.map((b) => b + 1),
      );
      return call.domid;
    },
  });
  const arena = { address: 0x1000n, bytes: Uint8Array.of(1, 2, 3, 4), output: true };
  expect(await port.hypercall({ op: 17, args: [], arena: [arena] })).toBe(0n);
  expect([...arena.bytes]).toEqual([2, 3, 4, 5]);
});

test('a continuation is run again until it is done', async () => {
  const { port } = setup({
    memory_op: (call) => {
      const left = call.args[0] ?? 0n;
      if (left === 0n) return 7;
      call.args[0] = left - 1n;
      return 'continue';
    },
  });
  expect(await port.hypercall({ op: 12, args: [3n] })).toBe(7n);
});

test('the steps of a batch succeed and fail one by one', async () => {
  const { host, port, done } = setup();
  const results = await port.memory([
    { kind: 'write', page: foreign(FRAME), offset: 16, data: Uint8Array.of(9, 8, 7) },
    { kind: 'read', page: foreign(FRAME), offset: 17, length: 2 },
    { kind: 'read', page: foreign(FRAME + 1), offset: 0, length: 1 },
    { kind: 'read', page: { ...foreign(FRAME), domid: toDomid(9) }, offset: 0, length: 1 },
    { kind: 'read', page: granted, offset: 16, length: 2 },
    { kind: 'read', page: granted, offset: 47, length: 2 },
    { kind: 'write', page: granted, offset: 16, data: Uint8Array.of(1) },
  ]);
  expect(results.map((r) => r.status)).toEqual([0, 0, -Errno.EINVAL, -Errno.ESRCH, 0, -Errno.EINVAL, -Errno.EACCES]);
  expect([...(results[1]?.data ?? [])]).toEqual([8, 7]);
  expect([...(results[4]?.data ?? [])]).toEqual([9, 8]);
  expect(host.core.memory.u8[FRAME * 4096 + 18]).toBe(7);
  expect(done).toEqual(['written 900', 'closed', 'closed']);
});

test('pending ports of Domain-0 come to who bound them', async () => {
  const { backend, port, pending } = setup();
  const bound = await port.bindUnbound(toDomid(1));
  const events: EvtchnPort[] = [];
  const told = new Promise<void>((resolve) => {
    port.onEvent((raised) => {
      events.push(raised);
      resolve();
    });
  });
  pending.push(evtchnPort(5), evtchnPort(99));
  backend.drainEvents();
  await told;
  expect(events).toEqual([bound]);
});

test('the lock is free after a bug', async () => {
  const { host, port } = setup({
    memory_op: () => {
      throw new Error('bug');
    },
  });
  expect(await port.hypercall({ op: 12, args: [] })).toBe(BigInt(-Errno.EIO));
  host.core.lock.acquire();
  host.core.lock.release();
});
