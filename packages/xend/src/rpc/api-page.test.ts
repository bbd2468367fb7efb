import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiPage } from './api-page.ts';
import { legacyMethods } from './legacy-methods.ts';

const PATH = join(__dirname, '../../../../docs/XEND-API.md');

describe('the API page', () => {
  const page = apiPage(legacyMethods);

  it('is what the table of methods says', () => {
    if (process.env['UPDATE_DOCS']) writeFileSync(PATH, page);
    expect(readFileSync(PATH, 'utf8')).toBe(page);
  });

  it('tells of all methods of Xen 4.4, each once', () => {
    const names = legacyMethods.map((row) => row.name);
    expect(new Set(names).size).toBe(names.length);
    const count = (pattern: RegExp) => names.filter((name) => pattern.test(name)).length;
    expect(count(/^xend\.domains?(_with_state)?$/)).toBe(3);
    expect(count(/^xend\.domain\./)).toBe(51);
    expect(count(/^xend\.node\.(?!dmesg)/)).toBe(14);
    expect(count(/^xend\.node\.dmesg\./)).toBe(2);
    expect(count(/^xend\.cpu_pool\./)).toBe(9);
    expect(count(/^xend\.security\./)).toBe(12);
    expect(names).toHaveLength(91);
  });
});
