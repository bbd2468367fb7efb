import { bytesOf, Errno } from '@xenhost/base';
import {
  PAGE_SIZE,
  Runstate,
  RUNSTATE_UPDATE,
  VCPU_SSHOTTMR_FUTURE,
  VcpuGuestContext,
  VcpuInfo,
  VcpuOp,
  VcpuRegisterArea,
  VcpuRegisterVcpuInfo,
  VcpuRunstateInfo,
  VcpuSetPeriodicTimer,
  VcpuSetSingleshotTimer,
  VcpuTimeInfo,
  VIRQ,
  VMASST,
} from '@xenhost/xen-abi';
import type { EventChannels } from '../event/api.ts';
import { VcpuFlag } from '../state/records.ts';
import { MS, TestHost, vcpuName } from '../test-host.test-kit.ts';
import { updateRunstateArea } from './runstate.ts';
import { VcpuOperations } from './vcpu-op.ts';

const ARGUMENT = 0x100n;
const AREA_VA = 0xffff_8880_0000_1000n;

function setup() {
  const host = new TestHost();
  const domain = host.domain({ maxVcpus: 2 });
  const [self, other] = [host.vcpu(domain, 0), host.vcpu(domain, 1)];
  other.v.flags = VcpuFlag.down;
  const moved: string[] = [];
  const ops = new VcpuOperations(host.core, {
    domains: host.lifecycle,
    scheduler: host.scheduler,
    timers: host.timers,
    events: {
      vcpuInfoMoved: (vcpu: Parameters<typeof vcpuName>[0]) => moved.push(vcpuName(vcpu)),
    } as unknown as EventChannels,
    pv: { initContext: () => 0, sendNmi: (vcpu) => moved.push(`nmi ${vcpuName(vcpu)}`) },
    takeWritableFrame: (_domain, gfn) => (gfn < 4096n ? Number(gfn) : undefined),
  });
  const bytes = new Uint8Array(0x4000);
  const call = (cmd: number, vcpuId: number, argument?: Uint8Array, pointer = ARGUMENT) => {
    if (argument) bytes.set(argument, Number(ARGUMENT));
    return ops.hypercall({
      kind: 'pv64', domid: domain.domid, domain, vcpu: self, engine: undefined,
      args: [BigInt(cmd), BigInt(vcpuId), pointer],
      memory: {
        read: (address, length) => (address < 0x4000n ? bytes.slice(Number(address), Number(address) + length) : undefined),
        write: (address, from) => address < 0x4000n && (bytes.set(from, Number(address)), true),
      },
      shouldPreempt: () => false,
    }); // prettier-ignore
  };
  return { host, domain, self, other, moved, call, bytes };
}

/** Maps AREA_VA of a vCPU to a frame, writable. */
function mapArea(host: TestHost, vcpu: { v: { guestTable: number } }): number {
  const [l4, l3, l2, l1, frame] = [1, 2, 3, 4, 5].map(() => host.frames(1));
  const set = (table = 0, shift: bigint, to = 0): void => {
    const index = Number((AREA_VA >> shift) & 511n);
    host.core.memory.u64[table * 512 + index] = (BigInt(to) << 12n) | 7n;
  };
  set(l4, 39n, l3);
  set(l3, 30n, l2);
  set(l2, 21n, l1);
  set(l1, 12n, frame);
  vcpu.v.guestTable = l4 ?? 0;
  return (frame ?? 0) * PAGE_SIZE;
}

test('a second vCPU: initialise, up, is_up, down', () => {
  const { other, call } = setup();
  expect(call(VcpuOp.up, 1)).toBe(-Errno.EINVAL);
  expect(call(VcpuOp.initialise, 1, new Uint8Array(VcpuGuestContext.size))).toBe(0);
  expect(call(VcpuOp.initialise, 1, new Uint8Array(VcpuGuestContext.size))).toBe(-Errno.EEXIST);
  expect(call(VcpuOp.is_up, 1)).toBe(0);
  expect(call(VcpuOp.up, 1)).toBe(0);
  expect(call(VcpuOp.is_up, 1)).toBe(1);
  expect(other.v.onRunq).toBe(1);
  expect(call(VcpuOp.down, 1)).toBe(0);
  expect(other.v.onRunq).toBe(0);
});

test.each([
  ['no such vCPU', VcpuOp.is_up, 2, -Errno.ENOENT],
  ['no such command', 77, 0, -Errno.ENOSYS],
  ['physical ids are for a pinned Domain-0', VcpuOp.get_physid, 0, -Errno.EINVAL],
])('%s', (_name, cmd, vcpu, expected) => {
  expect(setup().call(cmd, vcpu)).toBe(expected);
});

test('timers: only of the calling vCPU, not in the past when asked so', () => {
  const { host, call } = setup();
  const shot = (vcpu: number, at: bigint, flags = 0) =>
    call(VcpuOp.set_singleshot_timer, vcpu, VcpuSetSingleshotTimer.create({ timeout_abs_ns: at, flags }).bytes);
  const now = host.core.systemTimeNs();
  expect(shot(1, now + MS)).toBe(-Errno.EINVAL);
  expect(shot(0, now - 1n, VCPU_SSHOTTMR_FUTURE)).toBe(-Errno.ETIME);
  expect(shot(0, now + MS, VCPU_SSHOTTMR_FUTURE)).toBe(0);
  host.clock.advance(MS);
  host.timers.expire(0, host.core.systemTimeNs());
  expect(host.raised).toEqual([`d1v0 virq ${VIRQ.TIMER}`]);
});

test.each([
  [999_999n, -Errno.EINVAL],
  [1_000_000n, 0],
])('a period of %d ns: %d', (period_ns, expected) => {
  const { call } = setup();
  expect(call(VcpuOp.set_periodic_timer, 0, VcpuSetPeriodicTimer.create({ period_ns }).bytes)).toBe(expected);
});

describe('vcpu_info', () => {
  const register = (mfn: bigint, offset: number) => VcpuRegisterVcpuInfo.create({ mfn, offset }).bytes;

  test('moves once, contents and all', () => {
    const { host, self, moved, call } = setup();
    const from = self.v.infoMfn * PAGE_SIZE + self.v.infoOffset;
    host.core.memory.u8[from + VcpuInfo.offsets.evtchn_upcall_mask] = 1;
    const frame = host.frames(1);
    expect(call(VcpuOp.register_vcpu_info, 0, register(BigInt(frame), 64))).toBe(0);
    const info = VcpuInfo.view(host.core.memory, frame * PAGE_SIZE + 64);
    expect(info.evtchn_upcall_mask).toBe(1);
    const time = VcpuTimeInfo.view(host.core.memory, frame * PAGE_SIZE + 64 + VcpuInfo.offsets.time);
    expect([time.version % 2, time.tsc_to_system_mul]).toEqual([0, 0x8000_0000]);
    expect(moved).toEqual(['d1v0']);
    expect(call(VcpuOp.register_vcpu_info, 0, register(BigInt(frame), 128))).toBe(-Errno.EINVAL);
  });

  test.each([
    [PAGE_SIZE - 64, 0],
    [PAGE_SIZE - 56, -Errno.EINVAL],
  ])('at offset %d of the page: %d', (offset, expected) => {
    const { host, call } = setup();
    expect(call(VcpuOp.register_vcpu_info, 0, register(BigInt(host.frames(1)), offset))).toBe(expected);
  });
});

test('a registered run state area follows the vCPU, marked while it is written', () => {
  const { host, domain, self, call } = setup();
  const area = mapArea(host, self);
  const view = VcpuRunstateInfo.view(host.core.memory, area);
  call(VcpuOp.register_runstate_memory_area, 0, VcpuRegisterArea.create({ addr: AREA_VA }).bytes);
  expect(view.state).toBe(Runstate.runnable);
  domain.v.vmAssist = 1 << VMASST.RUNSTATE_UPDATE_FLAG;
  host.schedule();
  updateRunstateArea(host.core, domain, self);
  expect(view.state).toBe(Runstate.running);
  expect(view.state_entry_time & RUNSTATE_UPDATE).toBe(0n);
});

test('get_runstate_info writes the structure', () => {
  const { host, call, bytes } = setup();
  host.schedule();
  expect(call(VcpuOp.get_runstate_info, 0)).toBe(0);
  expect(VcpuRunstateInfo.view(bytesOf(bytes), Number(ARGUMENT)).state).toBe(Runstate.running);
  expect(call(VcpuOp.get_runstate_info, 0, undefined, 0x8000n)).toBe(-Errno.EFAULT);
});

test('a second time area is written, if mapped', () => {
  const { host, self, call } = setup();
  const area = VcpuRegisterArea.create({ addr: AREA_VA }).bytes;
  expect(call(VcpuOp.register_vcpu_time_memory_area, 0, area)).toBe(-Errno.EFAULT);
  const at = mapArea(host, self);
  expect(call(VcpuOp.register_vcpu_time_memory_area, 0, area)).toBe(0);
  expect(VcpuTimeInfo.view(host.core.memory, at).version).toBe(2);
});

test('an NMI goes to the vCPU', () => {
  const { moved, call } = setup();
  expect(call(VcpuOp.send_nmi, 1)).toBe(0);
  expect(moved).toEqual(['nmi d1v1']);
});
