/**
 * The second chance of a TLB miss: entries that others with the same index have pushed out of a table. Two pages that are
 * used in turns, a stack and a CPU's variables, would otherwise be walked each time. In Wasm, as it must be fast.
 */
import { OFFSET } from '../engine/state.ts';
import type { FunctionRef, ModuleBuilder } from '../wasm/builder.ts';
import {
  NR_VICTIMS,
  TLB_ENTRIES,
  TLB_READ,
  TLB_TABLE_BYTES,
  TLB_VICTIMS,
  VICTIM_BYTES,
  VIEW_BYTES,
} from './memory-map.ts';
import { ACCESS } from './translated.ts';

const ENTRY_BYTES = 16;
const log2 = (n: number): number => 31 - Math.clz32(n);

/**
 * `recall(address, access word)`: the machine address when the page is among the victims of its table, its entry being
 * back in its place and the one that stood there a victim; else -1, also for accesses over the edge of a page.
 */
export function buildRecall(m: ModuleBuilder): FunctionRef {
  const f = m.function(['i64', 'i32'], ['i32'], 'recall');
  const page = f.local('i64');
  const [base, entry, place] = [f.local('i32'), f.local('i32'), f.local('i32')];
  const [tag, value] = [f.local('i64'), f.local('i64')];
  f.get(0).i64(-4096).op('i64.and').set(page);
  f.get(0).op('i32.wrap_i64').i32(4095).op('i32.and').get(1).i32(ACCESS.sizeMask).op('i32.and').op('i32.add');
  f.i32(4096).op('i32.gt_u').if().i32(-1).return().end();
  f.i32(0).load32(OFFSET.tlbView).tee(place);
  f.i32(log2(VIEW_BYTES / VICTIM_BYTES)).op('i32.shr_u');
  f.get(1)
    .i32(ACCESS.write)
    .op('i32.and')
    .i32(log2((ACCESS.write * 2) / VICTIM_BYTES))
    .op('i32.shr_u');
  f.op('i32.add').set(base);
  f.get(0)
    .op('i32.wrap_i64')
    .i32(8)
    .op('i32.shr_u')
    .i32((TLB_ENTRIES - 1) * ENTRY_BYTES)
    .op('i32.and');
  f.get(1)
    .i32(ACCESS.write)
    .op('i32.and')
    .i32(log2(TLB_TABLE_BYTES / ACCESS.write))
    .op('i32.shl');
  f.op('i32.add').get(place).op('i32.add').set(place);
  const found = f.block();
  for (let i = 0; i < NR_VICTIMS; i++) {
    f.get(base)
      .i32(i * ENTRY_BYTES)
      .op('i32.add')
      .tee(entry);
    f.load64(TLB_VICTIMS).get(page).op('i64.eq').brIf(found);
  }
  f.i32(-1).return();
  f.end();
  f.get(place)
    .load64(TLB_READ)
    .set(tag)
    .get(place)
    .load64(TLB_READ + 8)
    .set(value);
  f.get(place).get(page).store64(TLB_READ);
  f.get(place)
    .get(entry)
    .load64(TLB_VICTIMS + 8)
    .store64(TLB_READ + 8);
  f.get(entry)
    .get(tag)
    .store64(TLB_VICTIMS)
    .get(entry)
    .get(value)
    .store64(TLB_VICTIMS + 8);
  f.get(0)
    .op('i32.wrap_i64')
    .get(place)
    .load32(TLB_READ + 8)
    .op('i32.add');
  return f;
}
