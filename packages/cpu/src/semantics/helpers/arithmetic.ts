/** Helpers of rare arithmetic: 128-bit division, decimal adjustment, CRC32, BOUND, and stack frames. */
import { RFLAGS } from '../../engine/state.ts';
import type { CpuState } from '../../engine/state.ts';
import { VECTOR } from '../helper.ts';
import type { Helper } from '../helper.ts';
import { stackMaskOf, stackWrite, stackRead, segmentAddress } from './addressing.ts';

const U64 = (1n << 64n) - 1n;
const s64 = (v: bigint): bigint => BigInt.asIntN(64, v);

const setFlag = (flags: bigint, flag: bigint, on: boolean): bigint => (on ? flags | flag : flags & ~flag);
const evenParity = (byte: number): boolean => {
  byte ^= byte >> 4;
  return ((0x6996 >> (byte & 15)) & 1) === 0;
};
function setResultFlags(state: CpuState, result: number, extra: { cf: boolean; af: boolean }): void {
  let flags = state.rflags;
  flags = setFlag(flags, RFLAGS.zf, (result & 0xff) === 0);
  flags = setFlag(flags, RFLAGS.sf, (result & 0x80) !== 0);
  flags = setFlag(flags, RFLAGS.pf, evenParity(result & 0xff));
  flags = setFlag(flags, RFLAGS.cf, extra.cf);
  flags = setFlag(flags, RFLAGS.af, extra.af);
  state.rflags = setFlag(flags, RFLAGS.of, false);
}
const setAx = (state: CpuState, ax: number): void => {
  state.rax = (state.rax & ~0xffffn) | BigInt(ax & 0xffff);
};

/** CRC-32C (polynomial 11EDC6F41h, reflected) of each byte. */
const CRC32C = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c;
});
function crc32cStep(crc: number, value: number, bytes: number): number {
  let c = crc;
  for (let i = 0; i < bytes; i++) c = (c >>> 8) ^ (CRC32C[(c ^ (value >>> (8 * i))) & 0xff] ?? 0);
  return c;
}

export const arithmeticHelpers: Readonly<Record<string, Helper>> = {
  /** ZF at its place. WebAssembly has no 128-bit exchange: all of them exclude one another instead. */
  cmpxchg16b({ state, memory, busLock }, [address = 0n]) {
    const exchange = (low: bigint, high: bigint, write: (low: bigint, high: bigint) => void): bigint => {
      const equal = low === state.rax && high === state.rdx;
      if (equal) write(state.rbx, state.rcx);
      else {
        write(low, high);
        state.rax = low;
        state.rdx = high;
      }
      return equal ? 0x40n : 0n;
    };
    const next = BigInt.asUintN(64, address + 8n);
    const direct = memory.span(address, 16, true);
    if (!direct)
      return exchange(memory.read(address, 8), memory.read(next, 8), (low, high) => {
        memory.write(address, 8, low);
        memory.write(next, 8, high);
      });
    const words = new BigUint64Array(direct.buffer, direct.byteOffset, 2);
    let zero = 0n;
    busLock(() => {
      for (;;) {
        const [low, high] = [Atomics.load(words, 0), Atomics.load(words, 1)];
        if (low !== state.rax || high !== state.rdx) {
          zero = exchange(low, high, () => undefined);
          return;
        }
        // What another CPU does to one of the words alone meanwhile is not overwritten.
        if (Atomics.compareExchange(words, 0, low, state.rbx) !== low) continue;
        if (Atomics.compareExchange(words, 1, high, state.rcx) === high) {
          zero = 0x40n;
          return;
        }
        Atomics.compareExchange(words, 0, state.rbx, low);
      }
    });
    return zero;
  },
  /**
   * Compare and exchange of `size` bytes that no single atomic access can do: `old` becomes `value`, should it still be
   * there; gives what was. Inside one aligned word it is done on the word, else while no other CPU runs.
   */
  splitlock({ memory, exclusively }, [address = 0n, size = 0n, old = 0n, value = 0n]) {
    const bits = Number(size) * 8;
    const shift = (address & 7n) * 8n;
    const word = shift / 8n + size <= 8n ? memory.span(address & ~7n, 8, true) : undefined;
    if (word) {
      const words = new BigUint64Array(word.buffer, word.byteOffset, 1);
      const mask = BigInt.asUintN(bits, -1n) << shift;
      for (;;) {
        const whole = Atomics.load(words, 0);
        const seen = (whole & mask) >> shift;
        if (seen !== old) return seen;
        if (
          Atomics.compareExchange(words, 0, whole, (whole & ~mask) | (BigInt.asUintN(bits, value) << shift)) === whole
        )
          return seen;
      }
    }
    let seen = 0n;
    exclusively(() => {
      seen = BigInt.asUintN(bits, memory.read(address, Number(size)));
      if (seen === old) memory.write(address, Number(size), value);
    });
    return seen;
  },
  div128({ state, fault }, [divisor = 0n]) {
    const n = (state.rdx << 64n) | state.rax;
    const quotient = n / divisor;
    if (quotient > U64) fault(VECTOR.divideError);
    state.rdx = n % divisor;
    state.rax = quotient;
  },
  idiv128({ state, fault }, [divisor = 0n]) {
    const n = BigInt.asIntN(128, (state.rdx << 64n) | state.rax);
    const d = s64(divisor);
    const quotient = n / d;
    if (s64(quotient) !== quotient) fault(VECTOR.divideError);
    state.rdx = BigInt.asUintN(64, n % d);
    state.rax = BigInt.asUintN(64, quotient);
  },
  crc32(_, [crc = 0n, value = 0n, size = 1n]) {
    const bytes = Number(size);
    let c = crc32cStep(Number(crc), Number(BigInt.asUintN(32, value)), Math.min(bytes, 4));
    if (bytes === 8) c = crc32cStep(c, Number(BigInt.asUintN(32, value >> 32n)), 4);
    return BigInt(c >>> 0);
  },
  /** AAA, AAS, DAA, DAS by number. */
  bcd({ state }, [which = 0n]) {
    let ax = Number(state.rax & 0xffffn);
    const al = ax & 0xff;
    const flags = state.rflags;
    const cf = (flags & RFLAGS.cf) !== 0n;
    const adjust = (al & 15) > 9 || (flags & RFLAGS.af) !== 0n;
    if (which < 2n) {
      if (adjust) ax = which === 0n ? ax + 0x106 : ax - 0x106;
      ax &= 0xff0f;
      setAx(state, ax);
      setResultFlags(state, ax & 0xff, { cf: adjust, af: adjust });
      return;
    }
    const sign = which === 2n ? 1 : -1;
    let result = al;
    let carry = false;
    if (adjust) {
      result += 6 * sign;
      carry = cf || result < 0 || result > 0xff;
    }
    if (al > 0x99 || cf) {
      result += 0x60 * sign;
      carry = true;
    }
    setAx(state, (ax & 0xff00) | (result & 0xff));
    setResultFlags(state, result & 0xff, { cf: carry, af: adjust });
  },
  aam({ state, fault }, [base = 10n]) {
    if (base === 0n) fault(VECTOR.divideError);
    const al = state.rax & 0xffn;
    setAx(state, Number(((al / base) << 8n) | (al % base)));
    setResultFlags(state, Number(al % base), { cf: false, af: false });
  },
  aad({ state }, [base = 10n]) {
    const al = Number((state.rax & 0xffn) + ((state.rax >> 8n) & 0xffn) * base) & 0xff;
    setAx(state, al);
    setResultFlags(state, al, { cf: false, af: false });
  },
  bound({ memory, fault }, [index = 0n, address = 0n, size = 4n]) {
    const bits = Number(size) * 8;
    const value = BigInt.asIntN(bits, index);
    const lower = BigInt.asIntN(bits, memory.read(address, Number(size)));
    const upper = BigInt.asIntN(bits, memory.read(address + size, Number(size)));
    if (value < lower || value > upper) fault(VECTOR.boundRange);
  },
  pusha(context, [size = 4n]) {
    const { state } = context;
    const n = Number(size);
    const mask = stackMaskOf(state);
    const sp = state.rsp;
    // The lowest first, so that a fault has changed nothing that counts.
    for (let i = 7; i >= 0; i--) stackWrite(context, sp - size * BigInt(i + 1), n, state.gpr(i));
    state.rsp = (sp & ~mask) | ((sp - 8n * size) & mask);
  },
  popa(context, [size = 4n]) {
    const { state } = context;
    const n = Number(size);
    const mask = stackMaskOf(state);
    const sp = state.rsp;
    const values = Array.from({ length: 8 }, (_, i) => stackRead(context, sp + size * BigInt(7 - i), n));
    values.forEach((value, i) => {
      if (i !== 4) state.setGpr(i, n === 2 ? (state.gpr(i) & ~0xffffn) | value : value);
    });
    state.rsp = (sp & ~mask) | ((sp + 8n * size) & mask);
  },
  enter(context, [size = 8n, bytes = 0n, nesting = 0n]) {
    const { state } = context;
    const n = Number(size);
    const mask = stackMaskOf(state);
    const level = Number(nesting) & 31;
    let sp = state.rsp - size;
    stackWrite(context, sp, n, state.rbp);
    const frame = sp;
    if (level > 0) {
      for (let i = 1; i < level; i++) {
        const link = stackRead(context, state.rbp - size * BigInt(i), n);
        sp -= size;
        stackWrite(context, sp, n, link);
      }
      sp -= size;
      stackWrite(context, sp, n, frame);
    }
    const final = sp - bytes;
    // ENTER faults where the new frame could not be written.
    context.memory.read(segmentAddress(context, 2, final & mask, n, true), n);
    const keep = n === 2 ? 0xffffn : mask;
    state.rbp = (state.rbp & ~keep) | (frame & keep);
    state.rsp = (state.rsp & ~mask) | (final & mask);
  },
};
