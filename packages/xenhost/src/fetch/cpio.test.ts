import { cpio, S_IFDIR, S_IFLNK, S_IFREG } from './cpio.ts';

/** Reads an archive back by the format's description. */
function read(archive: Uint8Array): { path: string; mode: number; data: string }[] {
  const bytes = Buffer.from(archive);
  const entries: { path: string; mode: number; data: string }[] = [];
  for (let at = 0; ;) {
    expect(bytes.toString('latin1', at, at + 6)).toBe('070701');
    const field = (n: number): number => Number.parseInt(bytes.toString('latin1', at + 6 + 8 * n, at + 14 + 8 * n), 16);
    const nameAt = at + 110;
    const path = bytes.toString('utf8', nameAt, nameAt + field(11) - 1);
    const dataAt = (nameAt + field(11) + 3) & ~3;
    if (path === 'TRAILER!!!') return entries;
    entries.push({ path, mode: field(1), data: bytes.toString('utf8', dataAt, dataAt + field(6)) });
    at = (dataAt + field(6) + 3) & ~3;
  }
}

test('what is written is read back; odd lengths are padded', () => {
  const archive = cpio([
    { path: 'bin', mode: S_IFDIR | 0o755 },
    { path: 'bin/a', mode: S_IFREG | 0o644, data: Buffer.from('12345') },
    { path: 'bin/link', mode: S_IFLNK | 0o777, data: Buffer.from('a') },
    { path: 'empty', mode: S_IFREG | 0o600 },
  ]);
  expect(archive.length % 4).toBe(0);
  expect(read(archive)).toEqual([
    { path: 'bin', mode: 0o040755, data: '' },
    { path: 'bin/a', mode: 0o100644, data: '12345' },
    { path: 'bin/link', mode: 0o120777, data: 'a' },
    { path: 'empty', mode: 0o100600, data: '' },
  ]);
});
