import { Errno } from '@xenhost/base';
import { SchedOp, SchedPoll, SchedShutdown, SchedWatchdog, Shutdown } from '@xenhost/xen-abi';
import type { EventChannels } from '../event/api.ts';
import type { HypercallCall } from '../hypercall/types.ts';
import { DomainFlag, VcpuFlag } from '../state/records.ts';
import { MS, TestHost } from '../test-host.test-kit.ts';
import { SchedOperations } from './sched-op.ts';

const ARGUMENT = 0x100n;
const PORTS = 0x200n;

function setup() {
  const host = new TestHost();
  const domain = host.domain();
  const vcpu = host.vcpu(domain);
  const pending = new Set<number>();
  const state = { deliverable: false, masked: true };
  const ops = new SchedOperations(host.core, {
    scheduler: host.scheduler,
    timers: host.timers,
    domains: host.lifecycle,
    events: {
      hasDeliverable: () => state.deliverable,
      setUpcallMask: (_v: unknown, masked: boolean) => (state.masked = masked),
      isPending: (_d: unknown, port: number) => pending.has(port),
      isValidPort: (_d: unknown, port: number) => port > 0 && port < 100,
    } as unknown as EventChannels,
  });
  const bytes = new Uint8Array(0x1000);
  const call = (cmd: number, argument?: Uint8Array) => {
    if (argument) bytes.set(argument, Number(ARGUMENT));
    return ops.hypercall({
      kind: 'pv64', domid: domain.domid, domain, vcpu, engine: undefined, args: [BigInt(cmd), ARGUMENT],
      memory: {
        read: (address, length) => (address < 0x1000n ? bytes.slice(Number(address), Number(address) + length) : undefined),
        write: () => true,
      },
      shouldPreempt: () => false,
    } satisfies HypercallCall); // prettier-ignore
  };
  const poll = (ports: number[], timeout = 0n) => {
    bytes.set(new Uint8Array(Uint32Array.from(ports).buffer), Number(PORTS));
    const argument = SchedPoll.create({ ports: PORTS, nr_ports: ports.length, timeout });
    return call(SchedOp.poll, argument.bytes);
  };
  return { host, domain, vcpu, state, pending, call, poll };
}

test('block opens the mask and sleeps, unless there is something to take', () => {
  const { vcpu, state, call } = setup();
  state.deliverable = true;
  expect(call(SchedOp.block)).toBe(0);
  expect(vcpu.v.flags & VcpuFlag.blocked).toBe(0);
  state.deliverable = false;
  call(SchedOp.block);
  expect([vcpu.v.flags & VcpuFlag.blocked, state.masked]).toEqual([VcpuFlag.blocked, false]);
});

describe('poll', () => {
  test('returns at once when a port is pending', () => {
    const { vcpu, pending, poll } = setup();
    pending.add(7);
    expect(poll([5, 7])).toBe(0);
    expect(vcpu.v.flags & VcpuFlag.polling).toBe(0);
  });

  test('sleeps until its timeout', () => {
    const { host, vcpu, poll } = setup();
    expect(poll([5], host.core.systemTimeNs() + MS)).toBe(0);
    expect(vcpu.v.flags & VcpuFlag.polling).toBe(VcpuFlag.polling);
    expect(vcpu.v.pollCount).toBe(1);
    host.clock.advance(MS);
    host.timers.expire(0, host.core.systemTimeNs());
    expect(vcpu.v.flags & (VcpuFlag.polling | VcpuFlag.blocked)).toBe(0);
  });

  test.each([
    ['a port that is none', [0]],
    ['one too many', Array<number>(129).fill(1)],
  ])('%s is -EINVAL', (_name, ports) => {
    expect(setup().poll(ports)).toBe(-Errno.EINVAL);
  });

  test('128 ports are taken', () => {
    expect(setup().poll(Array<number>(128).fill(1))).toBe(0);
  });
});

test('shutdown tells the reason', () => {
  const { domain, call } = setup();
  expect(call(SchedOp.shutdown, SchedShutdown.create({ reason: Shutdown.reboot }).bytes)).toBe(0);
  expect([domain.v.shutdownCode, domain.v.flags & DomainFlag.shutdown]).toEqual([Shutdown.reboot, DomainFlag.shutdown]);
});

test('watchdogs are taken, kicked and let go by number', () => {
  const { call } = setup();
  const watchdog = (id: number, timeout: number) => call(SchedOp.watchdog, SchedWatchdog.create({ id, timeout }).bytes);
  expect([watchdog(0, 5), watchdog(0, 5), watchdog(0, 5)]).toEqual([1, 2, -Errno.ENOSPC]);
  expect([watchdog(1, 9), watchdog(1, 0), watchdog(1, 9)]).toEqual([0, 0, -Errno.EINVAL]);
  expect([watchdog(0, 0), watchdog(3, 1)]).toEqual([-Errno.EINVAL, -Errno.EINVAL]);
});

test('an unknown command is -ENOSYS', () => {
  expect(setup().call(99)).toBe(-Errno.ENOSYS);
});
