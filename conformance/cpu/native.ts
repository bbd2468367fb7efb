/**
 * The real processor as an engine: compiles native/runner.c with gcc into a fresh directory and runs batches of cases.
 * The byte layout of a case is that of `struct state` there.
 */
import { spawnSync } from 'node:child_process';
import { NativeRunner } from '../lib/native-runner.ts';

/** Linear addresses of the runner's world, the same in every engine. */
export const CODE_BASE = 0x10000000;
export const CODE_BYTES = 0x2000;
export const DATA_BASE = 0x20000000;
export const DATA_BYTES = 0x2000;
/** One page of zeros that may be read only. */
export const READONLY_BASE = DATA_BASE + DATA_BYTES;
export const GS_BASE = 0x1fff0000n;
export const INT3 = 0xcc;

const HEADER_BYTES = 8;
/** Offsets in `struct state`. */
export const CaseOffset = {
  code: 0,
  codeOffset: 16,
  codeLength: 20,
  memoryAddress: 24,
  gpr: 32,
  rflags: 160,
  fx: 176,
  ymmHigh: 688,
  memory: 944,
} as const;
const OutcomeOffset = { signal: 0, trap: 4, error: 8, cr2: 16, rip: 24 } as const;
export const FX_BYTES = 512;
export const YMM_HIGH_BYTES = 256;

export interface CpuCase {
  code: Uint8Array;
  /** Where the code stands in the code pages. */
  codeOffset: number;
  memoryAddress: number;
  memory: Uint8Array;
  gpr: BigUint64Array;
  rflags: bigint;
  /** FXSAVE64 image: x87, MXCSR and XMM. */
  fx: Uint8Array;
  /** Upper halves of the YMM registers. */
  ymmHigh: Uint8Array;
}

export interface Outcome {
  /** Trap number, as the processor's vector: 3 after a completed instruction. */
  vector: number;
  errorCode: bigint;
  address: bigint;
  rip: bigint;
  gpr: BigUint64Array;
  rflags: bigint;
  fx: Uint8Array;
  ymmHigh: Uint8Array;
  memory: Uint8Array;
}

export class NativeProcessor extends NativeRunner {
  constructor() {
    super(new URL('native/runner.c', import.meta.url));
  }

  /** Runs all cases; they share one size of memory. */
  run(cases: readonly CpuCase[]): Outcome[] {
    const memoryBytes = cases[0]?.memory.length ?? 0;
    const stride = CaseOffset.memory + memoryBytes;
    const input = Buffer.alloc(HEADER_BYTES + stride * cases.length);
    input.writeUInt32LE(cases.length, 0);
    input.writeUInt32LE(memoryBytes, 4);
    cases.forEach((one, index) => {
      encodeCase(one, input, HEADER_BYTES + index * stride);
    });
    const result = spawnSync(this.binary, [], { input, maxBuffer: input.length + 1024 });
    if (result.status !== 0 || result.stdout.length !== stride * cases.length)
      throw new Error(`native runner ended with ${String(result.status)} ${String(result.signal)}`);
    return cases.map((_, index) => decodeOutcome(result.stdout, index * stride, memoryBytes));
  }
}

function encodeCase(one: CpuCase, into: Buffer, at: number): void {
  into.set(one.code, at + CaseOffset.code);
  into.writeUInt32LE(one.codeOffset, at + CaseOffset.codeOffset);
  into.writeUInt32LE(one.code.length, at + CaseOffset.codeLength);
  into.writeBigUInt64LE(BigInt(one.memoryAddress), at + CaseOffset.memoryAddress);
  into.set(new Uint8Array(one.gpr.buffer, one.gpr.byteOffset, 128), at + CaseOffset.gpr);
  into.writeBigUInt64LE(one.rflags, at + CaseOffset.rflags);
  into.set(one.fx, at + CaseOffset.fx);
  into.set(one.ymmHigh, at + CaseOffset.ymmHigh);
  into.set(one.memory, at + CaseOffset.memory);
}

function decodeOutcome(from: Buffer, at: number, memoryBytes: number): Outcome {
  const gpr = new BigUint64Array(16);
  for (let register = 0; register < 16; register++)
    gpr[register] = from.readBigUInt64LE(at + CaseOffset.gpr + register * 8);
  return {
    vector: from.readUInt32LE(at + OutcomeOffset.trap),
    errorCode: from.readBigUInt64LE(at + OutcomeOffset.error),
    address: from.readBigUInt64LE(at + OutcomeOffset.cr2),
    rip: from.readBigUInt64LE(at + OutcomeOffset.rip),
    gpr,
    rflags: from.readBigUInt64LE(at + CaseOffset.rflags),
    fx: from.subarray(at + CaseOffset.fx, at + CaseOffset.fx + FX_BYTES),
    ymmHigh: from.subarray(at + CaseOffset.ymmHigh, at + CaseOffset.ymmHigh + YMM_HIGH_BYTES),
    memory: from.subarray(at + CaseOffset.memory, at + CaseOffset.memory + memoryBytes),
  };
}
