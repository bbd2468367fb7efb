/** What is known of a region before it is compiled. */
import { assemble } from '../asm/index.ts';
import type { CodePage } from '../interpreter/code-cache.ts';
import { planRegion } from './plan.ts';
import type { RegionPlan } from './plan.ts';

const PAGE = 4096;
const ORIGIN = 0x10_0000;

/** The region of all code that `source` reaches from its start, and positions by symbol. */
function plan(source: string): { plan: RegionPlan; at: (symbol: string) => number } {
  const { bytes, symbols } = assemble(source, { origin: BigInt(ORIGIN) });
  const machine = new Uint8Array(4 * PAGE);
  machine.set(bytes);
  const pages = [0, 1, 2, 3].map((frame) => ({ frame, code: 64, map: frame * 4 * PAGE }) as CodePage);
  const found = planRegion(
    { machine, pageAt: (distance) => pages[distance], isDecoded: () => true, isWarm: () => true },
    0,
  );
  if (!found) throw new Error('no plan');
  return { plan: found, at: (symbol) => Number(symbols.get(symbol) ?? 0n) - ORIGIN };
}

test('a return goes behind the calls that lead to it, over jumps and over calls but not into them', () => {
  const { plan: region, at } = plan(`
    call first
  a:
    call second
  b:
    call first
  c:
    jmp away
  first:
    test eax, eax
    jz skip
    call second
  d:
    inc eax
  skip:
  firstret:
    ret
  second:
    dec eax
    jmp tail
  tail:
  secondret:
    ret
  away:
    hlt`);
  const sorted = (positions: readonly number[] | undefined): number[] => [...(positions ?? [])].sort((x, y) => x - y);
  expect(sorted(region.returnsOf.get(at('firstret')))).toEqual([at('a'), at('c')]);
  expect(sorted(region.returnsOf.get(at('secondret')))).toEqual([at('b'), at('d')]);
});

test('the return of the function that the region begins in is known to come from nowhere', () => {
  const { plan: region, at } = plan(`
    call other
  back:
  ownret:
    ret
  other:
  otherret:
    ret`);
  expect(region.returnsOf.get(at('ownret'))).toBeUndefined();
  expect(region.returnsOf.get(at('otherret'))).toEqual([at('back')]);
});

test('a function that calls itself returns to both', () => {
  const { plan: region, at } = plan(`
    call again
  out:
    hlt
  again:
    dec eax
    jz done
    call again
  inner:
    inc ebx
  done:
    ret`);
  expect(region.returnsOf.get(at('done'))).toEqual([at('out'), at('inner')]);
});
