/**
 * What every way to a hypervisor must do: run over the remote port, the local port and (by whoever has one) a real
 * hypervisor. Uses jest's globals; a test file calls it with a way to make a world.
 */
import { domid, Errno, evtchnPort, grantRef } from '@xenhost/base';
import type { Domid, EvtchnPort, GrantRef } from '@xenhost/base';
import { Hypercall } from '@xenhost/xen-abi';
import type { MemoryOp, PrivcmdPort } from '../port.ts';

/** A hypervisor with one guest that the test plays. */
export interface ComplianceWorld {
  /** A new connection with full rights. */
  open(): Promise<PrivcmdPort>;
  readonly guest: {
    readonly domid: Domid;
    /** A frame of the guest that nothing else touches. */
    readonly gfn: number;
    /** Its grants of that frame to Domain-0: writable and read-only. */
    readonly gref: GrantRef;
    readonly readonlyGref: GrantRef;
    /** The guest offers a port to Domain-0. */
    offerPort(): EvtchnPort;
    /** The guest binds a port that Domain-0 offers to it. */
    bind(dom0Port: EvtchnPort): EvtchnPort | undefined;
    send(port: EvtchnPort): void;
    /** Whether the port was raised; forgets it. */
    received(port: EvtchnPort): boolean;
  };
  close(): Promise<void>;
}

const ABSENT_DOMID = domid(0x7fe0);

async function waitFor(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(condition()).toBe(true);
}

export function privcmdCompliance(name: string, makeWorld: () => Promise<ComplianceWorld>): void {
  describe(`privcmd compliance: ${name}`, () => {
    let world: ComplianceWorld;
    let port: PrivcmdPort;

    beforeEach(async () => {
      world = await makeWorld();
      port = await world.open();
    });
    afterEach(async () => {
      await port.close();
      await world.close();
    });

    const foreign = () => ({ space: 'foreign', domid: world.guest.domid, gfn: world.guest.gfn }) as const;
    const grant = (gref: GrantRef) => ({ space: 'grant', domid: world.guest.domid, gref }) as const;

    test('a hypercall answers RAX, negative errno included', async () => {
      expect(await port.hypercall({ op: Hypercall.xen_version, args: [0n, 0n] })).toBeGreaterThan(0n);
      expect(await port.hypercall({ op: 63, args: [] })).toBe(BigInt(-Errno.ENOSYS));
    });

    test('a hypercall writes to output segments, and faults outside of the arena', async () => {
      const bytes = new Uint8Array(16);
      const arena = [{ address: 0x1000n, bytes, output: true }];
      expect(await port.hypercall({ op: Hypercall.xen_version, args: [1n, 0x1000n], arena })).toBe(0n);
      expect(bytes.some((byte) => byte !== 0)).toBe(true);
      expect(await port.hypercall({ op: Hypercall.xen_version, args: [1n, 0x1001n], arena })).toBe(
        BigInt(-Errno.EFAULT),
      );
    });

    test('segments at address 0 or that overlap are refused', async () => {
      const at = (address: bigint) => ({ address, bytes: new Uint8Array(16), output: false });
      const call = (...arena: ReturnType<typeof at>[]) =>
        port.hypercall({ op: Hypercall.xen_version, args: [0n], arena });
      await expect(call(at(0n))).rejects.toMatchObject({ code: 'EINVAL' });
      await expect(call(at(16n), at(31n))).rejects.toMatchObject({ code: 'EINVAL' });
      await expect(call(at(16n), at(32n))).resolves.toBeGreaterThan(0n);
    });

    test('memory steps run in order and fail alone', async () => {
      const data = Uint8Array.from({ length: 256 }, (_, i) => i);
      const page = foreign();
      const results = await port.memory([
        { kind: 'write', page, offset: 4096 - 256, data },
        { kind: 'read', page, offset: 4096 - 256, length: 256 },
        { kind: 'read', page, offset: 4096 - 255, length: 256 },
        { kind: 'read', page: { ...page, domid: ABSENT_DOMID }, offset: 0, length: 1 },
        { kind: 'write', page, offset: -1, data },
        { kind: 'notify', port: evtchnPort(999) },
        { kind: 'read', page: grant(world.guest.gref), offset: 4096 - 1, length: 1 },
      ]);
      expect(results.map(({ status }) => status)).toEqual([
        0,
        0,
        -Errno.EINVAL,
        -Errno.ESRCH,
        -Errno.EINVAL,
        -Errno.ENOTCONN,
        0,
      ]);
      expect(results[1]?.data && Uint8Array.from(results[1].data)).toEqual(data);
      expect(results[6]?.data?.[0]).toBe(255);
    });

    test('a read-only grant is not written, an absent one not read', async () => {
      const { readonlyGref } = world.guest;
      const write = { kind: 'write', page: grant(readonlyGref), offset: 0, data: new Uint8Array(4) } as const;
      const read = { kind: 'read', page: grant(grantRef(500)), offset: 0, length: 4 } as const;
      const results = await port.memory([write, { ...read, page: grant(readonlyGref) }, read]);
      expect(results.map(({ status }) => status === 0)).toEqual([false, true, false]);
    });

    test('a batch of many steps keeps its order', async () => {
      const page = foreign();
      const ops = Array.from({ length: 10_000 }, (_, i): MemoryOp => {
        const data = Uint8Array.of(i & 255, i >> 8);
        return i % 2 ? { kind: 'read', page, offset: 0, length: 2 } : { kind: 'write', page, offset: 0, data };
      });
      const results = await port.memory(ops);
      expect(results).toHaveLength(ops.length);
      expect(results.every(({ data }, i) => i % 2 === 0 || (data?.[0] ?? 0) + (data?.[1] ?? 0) * 256 === i - 1)).toBe(
        true,
      );
    });

    test('a copy goes from page to page; either end fails it alone', async () => {
      const page = foreign();
      const data = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
      const from = { page: grant(world.guest.gref), offset: 100 };
      const results = await port.memory([
        { kind: 'write', page, offset: 100, data },
        { kind: 'copy', from, to: { page, offset: 1000 }, length: 64 },
        { kind: 'copy', from, to: { page: grant(world.guest.readonlyGref), offset: 0 }, length: 64 },
        { kind: 'copy', from: { page: grant(grantRef(500)), offset: 0 }, to: { page, offset: 1000 }, length: 64 },
        { kind: 'copy', from, to: { page, offset: 4095 }, length: 2 },
        { kind: 'read', page, offset: 1000, length: 64 },
      ]);
      expect(results.map(({ status }) => status === 0)).toEqual([true, true, false, false, false, true]);
      expect(results[5]?.data && Uint8Array.from(results[5].data)).toEqual(data);
    });

    const CHECK = { kind: 'check' } as const;
    const EINVAL = -Errno.EINVAL;
    const ECANCELED = -Errno.ECANCELED;
    test.each([
      ['nothing before it failed', [0], [0, 0, 0]],
      ['a step was refused', [0, -1], [0, EINVAL, ECANCELED, ECANCELED]],
      [
        'a step failed far before it',
        [-1, ...Array<number>(1200).fill(0)],
        [EINVAL, ...Array<number>(1200).fill(0), ECANCELED, ECANCELED],
      ],
      ['a step beyond the page', [4096], [EINVAL, ECANCELED, ECANCELED]],
    ])('what stands behind a check is done if all before it was: %s', async (_, offsets, expected) => {
      const page = foreign();
      const write = (offset: number, value: number): MemoryOp => ({
        ...{ kind: 'write', page, offset, data: Uint8Array.of(value) },
      });
      await port.memory([write(7, 0)]);
      const ops = [...offsets.map((offset) => write(offset, 1)), CHECK, write(7, 9)];
      expect((await port.memory(ops)).map(({ status }) => status)).toEqual(expected);
      const [found] = await port.memory([{ kind: 'read', page, offset: 7, length: 1 }]);
      expect(found?.data?.[0]).toBe(expected.includes(ECANCELED) ? 0 : 9);
    });

    test('a check sees what the pages refused, and the first that trips ends the batch', async () => {
      const page = foreign();
      const read: MemoryOp = { kind: 'read', page, offset: 0, length: 1 };
      const absent: MemoryOp = { ...read, page: grant(grantRef(500)) };
      const results = await port.memory([read, CHECK, absent, read, CHECK, read, CHECK]);
      expect(results.map(({ status }) => status === 0)).toEqual([true, true, false, true, false, false, false]);
      expect(results.slice(4).map(({ status }) => status)).toEqual([ECANCELED, ECANCELED, ECANCELED]);
    });

    test.each([
      [5, 4, 7, true],
      [4, 4, 7, false],
      [7, 4, 7, true],
      [8, 4, 7, false],
      [0, 0xffff_fffe, 2, true],
      [0xffff_fffe, 0xffff_fffe, 2, false],
      [3, 3, 3, false],
    ])('an event index of %i makes a push from %i to %i send: %p', async (event, from, to, sent) => {
      const offered = world.guest.offerPort();
      const local = await port.bindInterdomain(world.guest.domid, offered);
      const data = new Uint8Array(4);
      new DataView(data.buffer).setUint32(0, event, true);
      const place = { page: foreign(), offset: 8 };
      const push = { ...place, from, to };
      const results = await port.memory([
        { kind: 'write', ...place, data },
        { kind: 'notify', port: local, push },
        { kind: 'notify', port: local, push: { ...push, offset: 9 } },
        { kind: 'notify', port: evtchnPort(999), push },
      ]);
      expect(results.map(({ status }) => status)).toEqual([0, 0, -Errno.EINVAL, -Errno.ENOTCONN]);
      expect(world.guest.received(offered)).toBe(sent);
    });

    test('what is to be read on an event comes with it', async () => {
      const events: { readonly port: EvtchnPort; readonly bytes?: readonly number[] | undefined }[] = [];
      port.onEvent((p, reads) => {
        events.push({ port: p, bytes: reads?.flatMap(({ status, data }) => (data ? [...data] : [status])) });
      });
      const page = foreign();
      const offered = world.guest.offerPort();
      const local = await port.bindInterdomain(world.guest.domid, offered);
      await waitFor(() => events.length === 1);
      await port.memory([{ kind: 'write', page, offset: 50, data: Uint8Array.of(1, 2, 3) }]);
      const absent = { page: { ...page, domid: ABSENT_DOMID }, offset: 0, length: 1 };
      await port.readOnEvent(local, [{ page, offset: 51, length: 2 }, absent, { page, offset: 50, length: 1 }]);
      world.guest.send(offered);
      await waitFor(() => events.length === 2);
      expect(events[1]).toEqual({ port: local, bytes: [2, 3, -Errno.ESRCH, 1] });
      await port.readOnEvent(local, []);
      world.guest.send(offered);
      await waitFor(() => events.length === 3);
      expect(events[2]).toEqual({ port: local, bytes: undefined });
    });

    test('reads of events are bounded and keep to the rights of the connection', async () => {
      const page = foreign();
      const local = await port.bindInterdomain(world.guest.domid, world.guest.offerPort());
      const whole = { page, offset: 0, length: 4096 };
      await port.readOnEvent(local, [whole, whole, whole, whole]);
      const refused = async (code: string, ...reads: (typeof whole)[]): Promise<void> => {
        await expect(port.readOnEvent(local, reads)).rejects.toMatchObject({ code });
      };
      await refused('E2BIG', whole, whole, whole, whole, { ...whole, length: 1 });
      await refused('E2BIG', ...Array.from({ length: 17 }, () => ({ ...whole, length: 1 })));
      await refused('EINVAL', { ...whole, offset: 1 });
      await expect(port.readOnEvent(evtchnPort(999), [])).rejects.toMatchObject({ code: 'ENOTCONN' });
      await port.restrict({ kind: 'backend' });
      await refused('EPERM', whole);
    });

    test('an interdomain channel carries events both ways', async () => {
      const events: EvtchnPort[] = [];
      port.onEvent((p) => events.push(p));
      const offered = world.guest.offerPort();
      const local = await port.bindInterdomain(world.guest.domid, offered);
      await waitFor(() => events.includes(local)); // a new channel starts pending
      events.length = 0;
      world.guest.send(offered);
      await waitFor(() => events.length === 1);
      expect(events).toEqual([local]);
      expect(world.guest.received(offered)).toBe(false);
      await port.notify(local);
      expect(world.guest.received(offered)).toBe(true);
      const [result] = await port.memory([{ kind: 'notify', port: local }]);
      expect([result?.status, world.guest.received(offered)]).toEqual([0, true]);
    });

    test('an offered port is bound by the guest', async () => {
      const events: EvtchnPort[] = [];
      port.onEvent((p) => events.push(p));
      const local = await port.bindUnbound(world.guest.domid);
      const theirs = world.guest.bind(local);
      expect(theirs).toBeDefined();
      world.guest.send(theirs ?? evtchnPort(0));
      await waitFor(() => events.includes(local));
    });

    test('events go to the connection that bound the port, and stop with unbind', async () => {
      const other = await world.open();
      const seen: string[] = [];
      port.onEvent(() => seen.push('first'));
      other.onEvent(() => seen.push('second'));
      const offered = world.guest.offerPort();
      const local = await other.bindInterdomain(world.guest.domid, offered);
      await waitFor(() => seen.length > 0);
      expect(seen).toEqual(['second']);
      await expect(port.notify(local)).rejects.toMatchObject({ code: 'ENOTCONN' });
      await expect(port.unbind(local)).rejects.toMatchObject({ code: 'ENOTCONN' });
      await other.unbind(local);
      await expect(other.notify(local)).rejects.toMatchObject({ code: 'ENOTCONN' });
      await other.close();
    });

    test('closing a connection frees its ports', async () => {
      const other = await world.open();
      const offered = world.guest.offerPort();
      await other.bindInterdomain(world.guest.domid, offered);
      await other.close();
      let bound: EvtchnPort | undefined;
      for (let i = 0; i < 500 && bound === undefined; i++) {
        bound = await port.bindInterdomain(world.guest.domid, offered).catch(() => undefined);
        if (bound === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      expect(bound).toBeDefined();
    });

    test('binding to what is not there fails', async () => {
      await expect(port.bindInterdomain(ABSENT_DOMID, evtchnPort(1))).rejects.toMatchObject({ code: 'ESRCH' });
      await expect(port.bindInterdomain(world.guest.domid, evtchnPort(77))).rejects.toMatchObject({ code: 'EINVAL' });
    });

    test('restricted to a domain: only that domain, and never back', async () => {
      await port.restrict({ kind: 'domain', domid: world.guest.domid });
      const [own, others] = await port.memory([
        { kind: 'read', page: foreign(), offset: 0, length: 1 },
        { kind: 'read', page: { ...foreign(), domid: domid(0) }, offset: 0, length: 1 },
      ]);
      expect([own?.status, others?.status]).toEqual([0, -Errno.EPERM]);
      expect(await port.hypercall({ op: Hypercall.domctl, args: [0x1000n] })).toBe(BigInt(-Errno.EPERM));
      expect(await port.hypercall({ op: Hypercall.xen_version, args: [0n] })).toBeGreaterThan(0n);
      await expect(port.bindVirq(3)).rejects.toMatchObject({ code: 'EPERM' });
      await expect(port.bindUnbound(domid(0))).rejects.toMatchObject({ code: 'EPERM' });
      await expect(port.restrict({ kind: 'backend' })).rejects.toMatchObject({ code: 'EPERM' });
      await port.restrict({ kind: 'domain', domid: world.guest.domid });
    });

    test('restricted to a backend: grants and events, no foreign frames, no hypercalls', async () => {
      await port.restrict({ kind: 'backend' });
      const [granted, mapped] = await port.memory([
        { kind: 'read', page: grant(world.guest.gref), offset: 0, length: 1 },
        { kind: 'read', page: foreign(), offset: 0, length: 1 },
      ]);
      expect([granted?.status, mapped?.status]).toEqual([0, -Errno.EPERM]);
      expect(await port.hypercall({ op: Hypercall.sysctl, args: [0x1000n] })).toBe(BigInt(-Errno.EPERM));
      await port.bindInterdomain(world.guest.domid, world.guest.offerPort());
    });

    test('after close every call rejects and onClose has told', async () => {
      const told: (Error | undefined)[] = [];
      port.onClose((error) => told.push(error));
      await port.close();
      expect(told).toEqual([undefined]);
      await expect(port.hypercall({ op: Hypercall.xen_version, args: [0n] })).rejects.toMatchObject({
        code: 'ENOTCONN',
      });
      await expect(port.bindUnbound(world.guest.domid)).rejects.toMatchObject({ code: 'ENOTCONN' });
      await port.close();
    });
  });
}
