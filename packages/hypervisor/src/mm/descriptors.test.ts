import { Errno } from '@xenhost/base';
import { MmuExt } from '@xenhost/xen-abi';
import { FrameType, gdtVirt, ldtVirt } from './api.ts';
import { checkDescriptor } from './descriptor-rules.ts';
import { P, pte, RW, World } from './world.test-kit.ts';

const words = (descriptor: bigint): [number, number] => [Number(descriptor & 0xffffffffn), Number(descriptor >> 32n)];

test.each<[string, bigint, bigint | undefined]>([
  ['code of ring 0: raised to ring 3', 0x00af9b000000ffffn, 0x00affb000000ffffn],
  ['data of ring 3: as it is', 0x00cff3000000ffffn, 0x00cff3000000ffffn],
  ['not present: as it is', 0x00af1b000000ffffn, 0x00af1b000000ffffn],
  ['type 0: as it is', 0x0000800000000000n, 0x0000800000000000n],
  ['an LDT', 0x0000820000000000n, undefined],
  ['a TSS', 0x0000890000000067n, undefined],
  ['an interrupt gate', 0x00008e0000330000n, undefined],
  ['a call gate of ring 3: DPL 0, its own in the RPL', 0x0000ec0000080000n, 0x00008c00000b0000n],
  ["a call gate to Xen's code", 0x0000ec00e0080000n, undefined],
])('%s', (_, descriptor, allowed) => {
  const checked = checkDescriptor(...words(descriptor));
  const value = checked && (BigInt(checked.hi) << 32n) | BigInt(checked.lo);
  expect(value).toBe(allowed);
});

describe('GDT', () => {
  test('frames are typed, seen in the window, and given back', () => {
    const w = new World();
    const d = w.domain(1);
    const [a = 0, b = 0] = w.frames(d, 2);
    const vcpu = w.vcpu(d);
    expect(w.mm.setGdt(vcpu, [BigInt(a)], 512)).toBe(0);
    expect(w.mm.frames.type(a)).toBe(FrameType.segDesc);
    expect(w.mm.setGdt(vcpu, [BigInt(b)], 16)).toBe(0);
    expect([a, b].map((mfn) => w.mm.frames.typeCount(mfn))).toEqual([0, 1]);
    expect(w.audit()).toEqual([]);
    expect(w.mm.setGdt(vcpu, [BigInt(b)], 7169)).toBe(-Errno.EINVAL);
    expect(w.mm.setGdt(vcpu, [BigInt(w.map.m2p)], 1)).toBe(-Errno.EINVAL);
    expect(w.mm.frames.typeCount(b)).toBe(1);
    w.mm.resetVcpu(vcpu);
    expect(w.audit()).toEqual([]);
  });

  test('a page with a gate of the hypervisor is refused', () => {
    const w = new World();
    const d = w.domain(1);
    const [a = 0] = w.frames(d, 1);
    w.poke(a, 511, 0x0000890000000067n);
    expect(w.mm.setGdt(w.vcpu(d), [BigInt(a)], 1)).toBe(-Errno.EINVAL);
    expect(w.audit()).toEqual([]);
  });

  test('update_descriptor checks; page tables are none of its business', () => {
    const w = new World();
    const d = w.domain(1);
    const [a = 0] = w.frames(d, 1);
    const t = w.tables(d);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    const vcpu = w.vcpu(d);
    expect(w.mm.setGdt(vcpu, [BigInt(a)], 512)).toBe(0);
    const at = BigInt(a) * 4096n + 8n;
    expect(w.mm.updateDescriptor(vcpu, at, 0x00af9b000000ffffn)).toBe(0);
    expect(w.peek(a, 1)).toBe(0x00affb000000ffffn);
    expect(w.mm.updateDescriptor(vcpu, at + 4n, 0n)).toBe(-Errno.EINVAL);
    expect(w.mm.updateDescriptor(vcpu, at, 0x0000890000000067n)).toBe(-Errno.EINVAL);
    expect(w.mm.updateDescriptor(vcpu, BigInt(t.l1) * 4096n, 0n)).toBe(-Errno.EINVAL);
    expect(w.audit()).toEqual([]);
  });
});

describe('LDT', () => {
  test('pages come on demand, within the limit, and go with the LDT', () => {
    const w = new World();
    const d = w.domain(1);
    const [page = 0] = w.frames(d, 1);
    const t = w.tables(d);
    w.poke(t.l1, 1, pte(page, P));
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    expect(w.ext(d, MmuExt.NEW_BASEPTR, t.l4)).toBe(0);
    expect(w.ext(d, MmuExt.SET_LDT, 0x1000, { arg2: 8193n })).toBe(-Errno.EINVAL);
    expect(w.ext(d, MmuExt.SET_LDT, 0x1008, { arg2: 4n })).toBe(-Errno.EINVAL);
    expect(w.ext(d, MmuExt.SET_LDT, 0x1000, { arg2: 4n })).toBe(0);
    const vcpu = w.vcpu(d);
    const fault = (offset: bigint) => w.mm.fixPageFault(vcpu, w.engine(), ldtVirt(0) + offset, 0);
    expect([fault(24n), fault(32n), fault(-8n)]).toEqual([true, false, false]);
    expect(w.mm.frames.type(page)).toBe(FrameType.segDesc);
    expect(w.update(d, t.l1, 2, pte(page, P | RW))).toBe(-Errno.EBUSY);
    expect(w.audit()).toEqual([]);
    expect(w.ext(d, MmuExt.SET_LDT, 0, { arg2: 0n })).toBe(0);
    expect(w.update(d, t.l1, 2, pte(page, P | RW))).toBe(0);
    expect(w.audit()).toEqual([]);
  });

  test('windows of vCPUs do not touch', () => {
    expect(ldtVirt(0) - gdtVirt(0)).toBe(0x10000n);
    expect(gdtVirt(1) - ldtVirt(0)).toBe(0x10000n);
  });
});
