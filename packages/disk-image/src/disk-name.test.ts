/** Names of disks. */
import { parseDiskName } from './disk-name.ts';

test.each([
  ['file:/x/y.img', '/x/y.img', 'raw', 'file'],
  ['/x', '/x', 'raw', 'file'],
  ['raw:/x', '/x', 'raw', 'file'],
  ['qcow2:/x', '/x', 'qcow2', 'file'],
  ['phy:/dev/vg/lv', '/dev/vg/lv', 'raw', 'phy'],
  ['phy:vg/lv', '/dev/vg/lv', 'raw', 'phy'],
  ['tap:aio:/x', '/x', 'raw', 'tap'],
  ['tap:sync:/x', '/x', 'raw', 'tap'],
  ['tap:qcow2:/x', '/x', 'qcow2', 'tap'],
  ['tap2:vhd:/x', '/x', 'vhd', 'tap'],
  ['tap2:tapdisk:aio:/x', '/x', 'raw', 'tap'],
  ['tap2:tapdisk:vhd:/x:y', '/x:y', 'vhd', 'tap'],
  ['tap:ioemu:qcow2:/x', '/x', 'qcow2', 'tap'],
])('%s', (name, path, format, kind) => {
  expect(parseDiskName(name)).toEqual({ path, format, kind });
});

test.each([
  ['', 'expected such as'],
  ['relative.img', 'expected such as'],
  ['file:relative', 'expected such as'],
  ['phy:', 'expected such as'],
  ['tap:/x', 'expected such as'],
  ['tap:aio:x', 'expected such as'],
  ['tap:vmdk:/x', "no driver for 'vmdk'"],
  ['tap:qcow:/x', "no driver for 'qcow'"],
  ['nbd:/x', "no driver for 'nbd'"],
  ['constructor:/x', "no driver for 'constructor'"],
  ['file:/x\0y', 'zero byte'],
  [`file:/${'x'.repeat(4096)}`, 'too long'],
])('%s is refused', (name, message) => {
  expect(() => parseDiskName(name)).toThrow(message);
});
