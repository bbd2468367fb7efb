import { bytesOf, Errno } from '@xenhost/base';
import { CpuState } from '@xenhost/cpu';
import { DomctlExtVcpucontext } from '@xenhost/xen-abi';
import fc from 'fast-check';
import { VCPU_CPU_STATE } from '../state/records.ts';
import {
  extendedStateSize, HOST_XSTATE, readExtendedContext, readExtendedState, writeExtendedContext, writeExtendedState,
} from './extended-state.ts'; // prettier-ignore
import { FakeVcpu } from './fake-vcpu.test-kit.ts';

const HEADER = 16 + 512;
const ALL = 7n;
const WHOLE = 16 + 512 + 64 + 256;

function world() {
  const { memory, vcpu } = new FakeVcpu();
  const state = new CpuState(memory, vcpu.address + VCPU_CPU_STATE);
  state.reset();
  const write = (bytes: Uint8Array, supported = HOST_XSTATE): number =>
    writeExtendedState(memory, vcpu, bytes, supported);
  return { vcpu, state, read: () => readExtendedState(memory, vcpu), write };
}

/** A vCPU that has used everything. */
function used() {
  const w = world();
  w.vcpu.v.xcr0Accum = ALL;
  w.state.xcr0 = ALL;
  for (let n = 0; n < 8; n++) w.state.fpr(n).fill(0x10 + n);
  for (let n = 0; n < 16; n++) {
    w.state.xmm(n).fill(0x20 + n);
    w.state.ymmHigh(n).fill(0x40 + n);
  }
  Object.assign(w.state, { fcw: 0x27f, fsw: 3 << 11, ftw: 0xff, mxcsr: 0x1fa0, fip: 0x1234n, fdp: 0x5678n });
  return w;
}

/** The image of `used`, changed. */
const image = (change: (dv: DataView, bytes: Uint8Array) => void): Uint8Array => {
  const bytes = used().read();
  change(bytesOf(bytes).dv, bytes);
  return bytes;
};
const put64 = (at: number, value: bigint) => image((dv) => { dv.setBigUint64(at, value, true); }); // prettier-ignore

test('the size follows from what XCR0 has ever been', () => {
  expect([0n, 1n, 3n, 7n].map(extendedStateSize)).toEqual([16, 592, 592, WHOLE]);
  expect(world().read()).toEqual(new Uint8Array(16));
});

test('a vCPU that has used everything is made again from its image', () => {
  const from = used();
  const bytes = from.read();
  const { dv } = bytesOf(bytes);
  expect([bytes.length, dv.getBigUint64(0, true), dv.getBigUint64(8, true), dv.getBigUint64(HEADER, true)]).toEqual([WHOLE, ALL, ALL, ALL]);
  expect([bytes[16 + 160], bytes[16 + 576], bytes[16 + 576 + 255]]).toEqual([0x20, 0x40, 0x4f]);
  const to = world();
  to.vcpu.v.loadedOn = 1;
  expect(to.write(bytes)).toBe(0);
  expect(to.read()).toEqual(bytes);
  expect([to.state.xcr0, to.vcpu.v.xcr0Accum, to.vcpu.v.loadedOn, to.state.fcw, to.state.mxcsr]).toEqual([ALL, ALL, 0, 0x27f, 0x1fa0]);
  expect([...to.state.fpr(7)]).toEqual(new Array(10).fill(0x17));
}); // prettier-ignore

test('components that an image does not have are in their initial state', () => {
  const to = used();
  expect(to.write(put64(HEADER, 2n))).toBe(0);
  expect([to.state.fcw, to.state.ftw, to.state.mxcsr]).toEqual([0x37f, 0, 0x1fa0]);
  expect([to.state.xmm(3)[0], to.state.ymmHigh(3)[0], to.state.fpr(2)[0]]).toEqual([0x23, 0, 0]);
  expect(to.write(put64(HEADER, 5n))).toBe(0);
  expect([to.state.fcw, to.state.xmm(3)[0], to.state.ymmHigh(3)[0], to.state.fpr(2)[0]]).toEqual([0x27f, 0, 0x43, 0x12]);
}); // prettier-ignore

test.each<[name: string, bytes: Uint8Array, supported: bigint, errno: number]>([
  ['nothing', new Uint8Array(0), ALL, Errno.EINVAL],
  ['less than two words', new Uint8Array(15), ALL, Errno.EINVAL],
  ['more than there can be', new Uint8Array(WHOLE + 1), ALL, Errno.EINVAL],
  ['XCR0 without its history', put64(8, 0n).slice(0, 16), ALL, Errno.EINVAL],
  ['a history without an area', put64(0, 7n).slice(0, 16), ALL, Errno.EINVAL],
  ['a piece of an area', used().read().slice(0, 100), ALL, Errno.EINVAL],
  ['an area where there is no history', new Uint8Array(592), ALL, Errno.EINVAL],
  ['an area without its AVX part', used().read().slice(0, 592), ALL, Errno.EINVAL],
  ['XCR0 without x87', put64(0, 6n), ALL, Errno.EINVAL],
  ['AVX without SSE', image((dv) => { for (const at of [0, 8, HEADER]) dv.setBigUint64(at, 5n, true); }), ALL, Errno.EINVAL],
  ['XCR0 beyond its history', image((dv) => { dv.setBigUint64(8, 3n, true); }), ALL, Errno.EINVAL],
  ['components beyond the history', put64(HEADER, 0xfn), ALL, Errno.EINVAL],
  ['more than the domain may have', used().read(), 3n, Errno.EINVAL],
  ['more than the host has', image((dv) => { for (const at of [0, 8]) dv.setBigUint64(at, 0xe7n, true); }), 0xffn, Errno.EOPNOTSUPP],
  ['compacted', put64(HEADER + 8, (1n << 63n) | 7n), ALL, Errno.EOPNOTSUPP],
  ['reserved bytes of the header', put64(HEADER + 40, 1n), ALL, Errno.EIO],
])('%s is refused and changes nothing', (_name, bytes, supported, errno) => {
  const to = world();
  expect(to.write(bytes, supported)).toBe(-errno);
  expect([to.vcpu.v.xcr0Accum, to.state.xcr0, to.state.xmm(0)[0]]).toEqual([0n, 1n, 0]);
}); // prettier-ignore

test('two empty words are nothing to restore', () => {
  expect(world().write(new Uint8Array(16))).toBe(0);
});

test('whatever the bytes are, XCR0 is one that a processor could have', () => {
  const damaged = fc.array(fc.record({ at: fc.nat(WHOLE - 1), value: fc.nat(255) }), { maxLength: 6 }).map((changes) =>
    image((_dv, bytes) => {
      for (const { at, value } of changes) bytes[at] = value;
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: WHOLE + 8 }), damaged), (bytes) => {
      const to = world();
      to.write(bytes);
      expect([1n, 3n, 7n]).toContain(to.state.xcr0);
      expect(to.state.mxcsr & ~0xffff).toBe(0);
    }),
  );
});

test('callbacks of 32-bit system calls go out and come in', () => {
  const { vcpu } = new FakeVcpu();
  const given = DomctlExtVcpucontext.create({
    size: 64, syscall32_callback_eip: 0x1000n, sysenter_callback_eip: 0xffff_8000_0000_0000n, syscall32_callback_cs: 0xe030,
    sysenter_callback_cs: 0xe030, sysenter_disables_events: 1,
  }).view; // prettier-ignore
  expect(writeExtendedContext(vcpu, given)).toBe(0);
  const told = DomctlExtVcpucontext.create();
  readExtendedContext(vcpu, told.view);
  expect([told.view.syscall32_callback_eip, told.view.syscall32_callback_cs]).toEqual([0x1000n, 0xe033]);
  expect([told.view.size, told.view.sysenter_disables_events, told.view.syscall32_disables_events]).toEqual([64, 1, 0]);
  given.size = 31;
  expect(writeExtendedContext(vcpu, given)).toBe(-Errno.EINVAL);
  given.size = 32;
  given.vmce_caps = 2n;
  expect(writeExtendedContext(vcpu, given)).toBe(0);
  given.size = 64;
  expect(writeExtendedContext(vcpu, given)).toBe(-Errno.EPERM);
  given.sysenter_callback_eip = 1n << 63n;
  expect(writeExtendedContext(vcpu, given)).toBe(-Errno.EINVAL);
});
