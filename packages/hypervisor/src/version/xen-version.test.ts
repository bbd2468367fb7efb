import { bytesOf, Errno } from '@xenhost/base';
import { VMASST, XenFeature, XenFeatureInfo, XenVer, XenVerSize } from '@xenhost/xen-abi';
import { TestHost } from '../test-host.test-kit.ts';
import { XenVersion } from './xen-version.ts';

function setup() {
  const host = new TestHost();
  const domain = host.domain({ handle: Uint8Array.from({ length: 16 }, (_, i) => i + 1) });
  const version = new XenVersion({ commandLine: 'loglvl=all' }, host.core.memory);
  const bytes = new Uint8Array(2048).fill(0xaa);
  const call = (cmd: number, pointer = 0x100n) =>
    version.hypercall({
      kind: 'pv64', domid: domain.domid, domain, vcpu: undefined, engine: undefined, args: [BigInt(cmd), pointer],
      memory: {
        read: (address, length) => (address < 2048n ? bytes.slice(Number(address), Number(address) + length) : undefined),
        write: (address, from) => address < 2048n && (bytes.set(from, Number(address)), true),
      },
      shouldPreempt: () => false,
    }); // prettier-ignore
  return { domain, bytes, call };
}

test('version, page size', () => {
  const { call } = setup();
  expect(call(XenVer.version, 0n)).toBe(0x40011);
  expect(call(XenVer.pagesize, 0n)).toBe(4096);
  expect(call(XenVer.pagesize, 1n)).toBe(-Errno.EINVAL);
  expect(call(42)).toBe(-Errno.ENOSYS);
});

test.each([
  ['extraversion', XenVer.extraversion, XenVerSize.extraversion, '.5'],
  ['capabilities', XenVer.capabilities, XenVerSize.capabilities, 'xen-3.0-x86_64 '],
  ['commandline', XenVer.commandline, XenVerSize.commandline, 'loglvl=all'],
])('%s is zero after its text (XSA-122)', (_name, cmd, size, text) => {
  const { bytes, call } = setup();
  expect(call(cmd)).toBe(0);
  expect(Buffer.from(bytes.subarray(0x100, 0x100 + text.length)).toString()).toBe(text);
  expect(bytes.subarray(0x100 + text.length, 0x100 + size).every((b) => b === 0)).toBe(true);
  expect(bytes[0x100 + size]).toBe(0xaa);
});

test('compile_info has no byte of ours behind its texts', () => {
  const { bytes, call } = setup();
  expect(call(XenVer.compile_info)).toBe(0);
  const info = bytes.subarray(0x100, 0x100 + XenVerSize.compileInfo);
  expect(info.includes(0xaa)).toBe(false);
  expect(bytes[0x100 + XenVerSize.compileInfo]).toBe(0xaa);
});

test('the handle is the UUID', () => {
  const { bytes, call } = setup();
  call(XenVer.guest_handle);
  expect([...bytes.subarray(0x100, 0x110)]).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
});

test('features of a PV guest, and of one above 4 GiB', () => {
  const { domain, bytes, call } = setup();
  const features = (index: number) => {
    bytes.set(XenFeatureInfo.create({ submap_idx: index }).bytes, 0x100);
    return call(XenVer.get_features);
  };
  const map = () => XenFeatureInfo.view(bytesOf(bytes), 0x100).submap;
  expect(features(0)).toBe(0);
  expect(map()).toBe((1 << 5) | (1 << 6) | (1 << 7) | (1 << 13) | (1 << 17));
  domain.v.vmAssist |= 1 << VMASST.PAE_EXTENDED_CR3;
  features(0);
  expect(map() & (1 << XenFeature.pae_pgdir_above_4gb)).toBeTruthy();
  expect(features(1)).toBe(-Errno.EINVAL);
});

test('the build id tells its length first', () => {
  const { bytes, call } = setup();
  expect(call(XenVer.build_id, 0n)).toBe(20);
  new DataView(bytes.buffer).setUint32(0x100, 19, true);
  expect(call(XenVer.build_id)).toBe(-Errno.ENOBUFS);
  new DataView(bytes.buffer).setUint32(0x100, 20, true);
  expect(call(XenVer.build_id)).toBe(20);
});

test('a bad pointer is -EFAULT', () => {
  expect(setup().call(XenVer.changeset, 0x10000n)).toBe(-Errno.EFAULT);
});
