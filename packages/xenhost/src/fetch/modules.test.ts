import { type KernelModule, modinfo, modulesAlias, modulesDep } from './modules.ts';

const kernelModule = (name: string, depends: readonly string[], aliases: readonly string[] = []): KernelModule => ({
  name,
  path: `kernel/${name}.ko`,
  depends,
  aliases,
  data: new Uint8Array(),
});

test('modules.dep lists all dependencies, those needed first at the end', () => {
  const modules = [kernelModule('c', []), kernelModule('b', ['c']), kernelModule('a', ['b', 'c'])];
  expect(modulesDep(modules)).toBe('kernel/c.ko:\nkernel/b.ko: kernel/c.ko\nkernel/a.ko: kernel/b.ko kernel/c.ko\n');
});

test('modules.alias has a line for each alias', () => {
  expect(modulesAlias([kernelModule('xen_blkfront', [], ['xen:vbd', 'xenblk'])])).toBe(
    'alias xen:vbd xen_blkfront\nalias xenblk xen_blkfront\n',
  );
});

test('modinfo reads the section of an ELF64 module', () => {
  const names = '\0.shstrtab\0.modinfo\0';
  const info = 'license=GPL\0alias=a:1\0alias=a:2\0depends=x,y\0';
  const elf = Buffer.alloc(64 + 3 * 64 + names.length + info.length);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], 0);
  elf.writeBigUInt64LE(64n, 40);
  elf.writeUInt16LE(64, 58);
  elf.writeUInt16LE(3, 60);
  elf.writeUInt16LE(1, 62);
  const section = (n: number, name: number, offset: number, size: number): void => {
    elf.writeUInt32LE(name, 64 + n * 64);
    elf.writeUInt32LE(1, 64 + n * 64 + 4);
    elf.writeBigUInt64LE(BigInt(offset), 64 + n * 64 + 24);
    elf.writeBigUInt64LE(BigInt(size), 64 + n * 64 + 32);
  };
  section(1, 1, 256, names.length);
  section(2, 11, 256 + names.length, info.length);
  elf.write(names + info, 256, 'latin1');
  expect(modinfo(elf).get('alias')).toEqual(['a:1', 'a:2']);
  expect(modinfo(elf).get('depends')).toEqual(['x,y']);
});

test('what is no ELF64 file is refused', () => {
  expect(() => modinfo(Buffer.alloc(100))).toThrow('not an ELF64 module');
});
