import type { SharedRegions } from '@xenhost/cpu';
import { SharedCode, sharedCodeWords } from './shared-code.ts';

const regions = (n: number): SharedRegions => ({
  module: new WebAssembly.Module(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0])),
  regions: [{ name: `r${n}`, size: n, pages: [], entries: [], spans: [] }],
});

describe('code that pCPUs share', () => {
  const words = sharedCodeWords(3);
  const [a, b, c] = [0, 1, 2].map((pcpu) => new SharedCode({ pcpu, words })) as [SharedCode, SharedCode, SharedCode];
  afterAll(() => {
    for (const one of [a, b, c]) one.close();
  });

  it('reaches each of the others once, and not the sender', () => {
    a.shareRegions(regions(7));
    expect(a.takeRegions()).toBeUndefined();
    for (const one of [b, c]) {
      expect(one.takeRegions()?.regions[0]?.name).toBe('r7');
      expect(one.takeRegions()).toBeUndefined();
    }
  });

  it('is not sent on while somebody takes nothing', () => {
    let taken = 0;
    for (let n = 0; n < 100; n++) {
      a.shareRegions(regions(n));
      while (b.takeRegions()) taken++;
    }
    expect(taken).toBe(32);
    while (c.takeRegions());
    a.shareRegions(regions(1000));
    expect(b.takeRegions()?.regions[0]?.size).toBe(1000);
  });
});
