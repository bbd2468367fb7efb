/**
 * FLDENV, FNSTENV, FRSTOR, FNSAVE: images in the protected-mode layout (28 or 14 bytes of environment by the operand
 * size). The layout of real mode, with linear addresses, is not made. Intel SDM vol. 1, 8.1.10.
 * Arguments: linear address, 4 or 2 as the size of the image's words.
 */
import type { CpuState } from '../../engine/state.ts';
import { EXTENDED, unpack } from '../../softfloat/format.ts';
import { VECTOR } from '../helper.ts';
import type { Helper } from '../helper.ts';
import { STATUS_ERROR_SUMMARY, physical, resetX87, updateSummary } from './fpu-state.ts';

const REGISTER_BYTES = 10;
const NR_WORDS = 7;
const ALL_EXCEPTIONS = 0x3f;
const OPCODE_MASK = 0x7ff;

/** Tag values of the full tag word. */
const TAG = { valid: 0, zero: 1, special: 2, empty: 3 } as const;

function fullTagWord(state: CpuState): number {
  let tags = 0;
  for (let n = 0; n < 8; n++) {
    let tag: number = TAG.empty;
    if (((state.ftw >> n) & 1) !== 0) {
      const bytes = state.fpr(n);
      const view = new DataView(bytes.buffer, bytes.byteOffset, REGISTER_BYTES);
      const value = view.getBigUint64(0, true) | (BigInt(view.getUint16(8, true)) << 64n);
      const kind = unpack(EXTENDED, value).class;
      tag = kind === 'zero' ? TAG.zero : kind === 'normal' ? TAG.valid : TAG.special;
    }
    tags |= tag << (2 * n);
  }
  return tags;
}

function abridgedTags(tags: number): number {
  let result = 0;
  for (let n = 0; n < 8; n++) if (((tags >> (2 * n)) & 3) !== TAG.empty) result |= 1 << n;
  return result;
}

/** The seven words of an environment. */
function environment(state: CpuState, wordBytes: number): Uint8Array {
  const image = new Uint8Array(NR_WORDS * wordBytes);
  const view = new DataView(image.buffer);
  if (wordBytes === 2) {
    const words = [state.fcw, state.fsw, fullTagWord(state), state.fip, state.fcs, state.fdp, state.fds];
    words.forEach((word, n) => {
      view.setUint16(2 * n, Number(BigInt(word) & 0xffffn), true);
    });
    return image;
  }
  const upper = 0xffff0000;
  const words = [
    upper | state.fcw,
    upper | state.fsw,
    upper | fullTagWord(state),
    Number(state.fip & 0xffffffffn),
    state.fcs | (state.fop << 16),
    Number(state.fdp & 0xffffffffn),
    upper | state.fds,
  ];
  words.forEach((word, n) => {
    view.setUint32(4 * n, word >>> 0, true);
  });
  return image;
}

function loadEnvironment(state: CpuState, image: Uint8Array, wordBytes: number): void {
  const view = new DataView(image.buffer, image.byteOffset);
  const word = (n: number): number => view.getUint16(n * wordBytes, true);
  state.fcw = (word(0) & 0x1f3f) | 0x40;
  state.fsw = word(1);
  state.ftw = abridgedTags(word(2));
  if (wordBytes === 2) {
    state.fip = BigInt(word(3));
    state.fcs = word(4);
    state.fdp = BigInt(word(5));
  } else {
    state.fip = BigInt(view.getUint32(12, true));
    state.fcs = word(4);
    state.fop = view.getUint16(18, true) & OPCODE_MASK;
    state.fdp = BigInt(view.getUint32(20, true));
  }
  state.fds = word(6);
  updateSummary(state);
}

function checkPending(state: CpuState, fault: (vector: number) => never): void {
  if ((state.fsw & STATUS_ERROR_SUMMARY) !== 0) fault(VECTOR.x87Error);
}

export const x87EnvironmentHelpers: Readonly<Record<string, Helper>> = {
  'x87.fnstenv': ({ state, memory }, [address = 0n, size = 4n]) => {
    memory.writeBytes(address, environment(state, Number(size)));
    state.fcw |= ALL_EXCEPTIONS;
    updateSummary(state);
  },
  'x87.fldenv': (helper, [address = 0n, size = 4n]) => {
    checkPending(helper.state, (vector) => helper.fault(vector));
    const image = new Uint8Array(NR_WORDS * Number(size));
    helper.memory.readBytes(address, image);
    loadEnvironment(helper.state, image, Number(size));
  },
  'x87.fnsave': ({ state, memory }, [address = 0n, size = 4n]) => {
    const head = environment(state, Number(size));
    const image = new Uint8Array(head.length + 8 * REGISTER_BYTES);
    image.set(head);
    for (let i = 0; i < 8; i++) image.set(state.fpr(physical(state, i)), head.length + i * REGISTER_BYTES);
    memory.writeBytes(address, image);
    resetX87(state);
  },
  'x87.frstor': (helper, [address = 0n, size = 4n]) => {
    const { state } = helper;
    checkPending(state, (vector) => helper.fault(vector));
    const head = NR_WORDS * Number(size);
    const image = new Uint8Array(head + 8 * REGISTER_BYTES);
    helper.memory.readBytes(address, image);
    loadEnvironment(state, image, Number(size));
    for (let i = 0; i < 8; i++) {
      const from = head + i * REGISTER_BYTES;
      state.fpr(physical(state, i)).set(image.subarray(from, from + REGISTER_BYTES));
    }
  },
};
