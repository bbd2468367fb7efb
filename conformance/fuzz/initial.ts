/** What a program starts from: registers, flags, x87 and SSE state, and the patterns in memory. */
import { YMM_HIGH_BYTES } from '../cpu/native.ts';
import type { Random } from '../cpu/random.ts';
import type { Program } from './program.ts';
import { DATA_BASE, FAR_BASE, IMAGE_BYTES, INITIAL_RSP, READONLY_BASE, REGIONS, PAGE, imageOffset } from './world.ts';

const FX_BYTES = 512;
const MXCSR_DEFAULT = 0x1f80;
const FCW_DEFAULT = 0x37f;
const RSP = 4;

export function initialState(random: Random): Pick<Program, 'gpr' | 'rflags' | 'fx' | 'ymmHigh' | 'memory'> {
  const gpr = new BigUint64Array(16);
  for (let n = 0; n < 16; n++) gpr[n] = random.integer();
  gpr[RSP] = BigInt(INITIAL_RSP);
  const memory = new Uint8Array(IMAGE_BYTES);
  for (const base of [DATA_BASE, READONLY_BASE, FAR_BASE]) {
    const region = REGIONS.find(({ address }) => address === base);
    const at = imageOffset(base) ?? 0;
    fillPatterns(random, memory.subarray(at, at + (region?.pages ?? 0) * PAGE));
  }
  const ymmHigh = new Uint8Array(YMM_HIGH_BYTES);
  fillPatterns(random, ymmHigh);
  return { gpr, rflags: BigInt(random.u32() & 0x8d5) | 2n, fx: fxImage(random), ymmHigh, memory };
}

function fillPatterns(random: Random, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  for (let at = 0; at + 8 <= into.length; at += 8) {
    let value: bigint;
    switch (random.below(8)) {
      case 0:
        value = random.float(11, 52);
        break;
      case 1:
        value = random.float(8, 23) | (random.float(8, 23) << 32n);
        break;
      case 2:
        value = random.integer();
        break;
      case 3:
        value = 0n;
        break;
      default:
        value = random.u64();
    }
    view.setBigUint64(at, value, true);
  }
}

function fxImage(random: Random): Uint8Array {
  const fx = new Uint8Array(FX_BYTES);
  const view = new DataView(fx.buffer);
  view.setUint16(0, random.chance(3) ? (random.u32() & 0xc00) | 0x37f : FCW_DEFAULT, true);
  for (let n = 0; n < 8; n++) {
    const value = random.extended();
    view.setBigUint64(32 + 16 * n, BigInt.asUintN(64, value), true);
    view.setUint16(40 + 16 * n, Number(value >> 64n), true);
  }
  if (random.chance(3)) fx[4] = random.below(256);
  // Exceptions stay masked; rounding, flushing and flags as they come.
  view.setUint32(24, MXCSR_DEFAULT | (random.chance(3) ? random.u32() & 0xe07f : 0), true);
  fillPatterns(random, fx.subarray(160, 416));
  return fx;
}
