import { readdirSync, readFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, end, names } = host;

interface Section {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** Sections of an ELF64 file, read from the format's own words. */
function sections(core: Buffer): Section[] {
  const at = Number(core.readBigUInt64LE(40));
  const rows = Array.from({ length: core.readUInt16LE(60) }, (_, i) => at + i * core.readUInt16LE(58));
  const offset = (row: number) => Number(core.readBigUInt64LE(row + 24));
  const strings = offset(rows[core.readUInt16LE(62)] ?? 0);
  return rows.map((row) => {
    const name = strings + core.readUInt32LE(row);
    return {
      name: core.toString('latin1', name, core.indexOf(0, name)),
      offset: offset(row),
      size: Number(core.readBigUInt64LE(row + 32)),
    };
  });
}

describe('a core', () => {
  const NR_PAGES = 6;
  beforeEach(async () => {
    await call('xend.domain.create', config('g', ['vcpus', 2], ['on_crash', 'coredump-restart']));
    await call('xend.domain.unpause', 'g');
    host.xc.giveMemory(1, NR_PAGES);
  });

  it('is an ELF file of the sections that Xen documents', async () => {
    const path = join(host.directory, 'g.core');
    await call('xend.domain.dump', 'g', path);
    const core = readFileSync(path);
    expect(core.toString('latin1', 1, 4)).toBe('ELF');
    expect([core[4], core.readUInt16LE(16), core.readUInt16LE(18)]).toEqual([2, 4, 62]);
    const found = new Map(sections(core).map((section) => [section.name, section]));
    expect([...found.keys()]).toEqual(['', '.shstrtab', '.note.Xen', '.xen_prstatus', '.xen_shared_info', '.xen_p2m', '.xen_pages']); // prettier-ignore
    const bytes = (name: string) => {
      const { offset, size } = found.get(name) ?? { offset: 0, size: 0 };
      return core.subarray(offset, offset + size);
    };
    // Page 1 is not there.
    const p2m = bytes('.xen_p2m');
    const pairs = Array.from({ length: p2m.length / 16 }, (_, i) => [Number(p2m.readBigUInt64LE(i * 16)), Number(p2m.readBigUInt64LE(i * 16 + 8))]); // prettier-ignore
    expect(pairs).toEqual([0, 2, 3, 4, 5].map((pfn) => [pfn, 0x1000 - pfn]));
    const pages = bytes('.xen_pages');
    expect((found.get('.xen_pages')?.offset ?? 1) % 4096).toBe(0);
    expect(pages).toHaveLength((NR_PAGES - 1) * 4096);
    expect([0, 1, 2, 3, 4].map((i) => pages[i * 4096 + 77])).toEqual([0, 2, 3, 4, 5]);
    expect(bytes('.xen_prstatus')).toHaveLength(2 * 5168);
    const notes = bytes('.note.Xen');
    expect(notes.readUInt32LE(8)).toBe(0x2000000);
    expect(notes.readUInt32LE(16 + 8)).toBe(0x2000001);
    expect([0, 8, 16, 24].map((n) => Number(notes.readBigUInt64LE(32 + n)))).toEqual([
      0xf00febed,
      2,
      NR_PAGES - 1,
      4096,
    ]);
  });

  it('pauses the domain meanwhile, unless it shall live, and ends or resets it when asked', async () => {
    const path = join(host.directory, 'c');
    const pauses = () => host.xc.calls.filter((line) => /^domain(Unp|P)ause/.test(line)).slice(1);
    await call('xend.domain.dump', 'g', path);
    expect(pauses()).toEqual(['domainPause(1)', 'domainUnpause(1)']);
    await call('xend.domain.dump', 'g', path, true);
    expect(pauses()).toHaveLength(2);
    await call('xend.domain.dump', 'g', path, false, true);
    expect(await names()).toEqual(['Domain-0']);
  });

  it('is written of a crashed domain that on_crash says it of', async () => {
    host.clock.advance(61_000_000_000n);
    await end(1, 3);
    const folder = join(host.directory, 'dump', 'g');
    const [file, ...others] = readdirSync(folder);
    expect(file).toMatch(/^\d{4}-\d{4}-\d{4}\.\d{2}-g\.1\.core$/);
    expect(others).toEqual([]);
    expect(await names()).toEqual(['Domain-0', 'g']);
    expect(host.xc.domains.has(2)).toBe(true);
  });

  it('is written of every crashed domain where enable-dump says so', async () => {
    host.settings = { ...host.settings, enableDump: true };
    await host.restart();
    await call('xend.domain.create', config('h', ['on_crash', 'destroy']));
    await call('xend.domain.unpause', 'h');
    host.xc.giveMemory(2, NR_PAGES);
    await end(2, 3);
    expect(readdirSync(join(host.directory, 'dump'))).toEqual(['h']);
    expect(await names()).toEqual(['Domain-0', 'g']);
  });

  it('that fails keeps what there is of it, says so, and lets the domain go on', async () => {
    const path = join(host.directory, 'f');
    host.xc.failures.set('readFrames', 14);
    expect(await fault('xend.domain.dump', 'g', path)).toEqual([2, "Failed to dump core: (14, 'Bad address')"]);
    host.xc.failures.clear();
    expect(existsSync(path)).toBe(false);
    expect(host.xc.domains.get(1)?.pauses).toBe(0);
    expect((await host.tree('/vm')).filter((line) => line.includes('dumpcore'))).toEqual([]);
    expect((await fault('xend.domain.dump', 'g', '/nowhere/f'))[1]).toMatch(/^Failed to dump core: .*ENOENT/);
  });
});
