/** What the compiler must know of an instruction before it compiles it; found by a trial of its semantics, once a shape. */
import { emptyImports } from './imports.ts';
import { RegionContext } from './context.ts';
import { RegionEmitter } from './emitter.ts';
import type { Ways } from './emitter.ts';
import type { Instruction } from '../isa/instruction.ts';
import { SEMANTICS } from '../semantics/index.ts';
import { FunctionBuilder } from '../wasm/builder.ts';

export interface Traits {
  /** Always left to the interpreter. */
  readonly bails: boolean;
  /** `observe`: flags may be seen as they are before it. `kill`: they are all set, and nobody saw them before. */
  readonly flags: 'observe' | 'kill' | 'none';
  /** Computes with the flags of before or keeps some of them, not only lets them be seen. */
  readonly usesFlags: boolean;
  /** Sets all flags, though they may be seen before. */
  readonly setsFlags: boolean;
}

const nowhere: Ways = { to: () => undefined, toAddress: (emitter) => { emitter.context.observe(); } }; // prettier-ignore
const known = new Map<number, Traits>();

const REPEAT = { none: 0, rep: 1, repne: 2 } as const;
function keyOf(instruction: Instruction): number {
  const { row, operands } = instruction;
  let key = row.index * 4 + (instruction.operandSize >> 2);
  key = key * 4 + REPEAT[instruction.repeat];
  key = key * 4 + (instruction.lock ? 1 : 0) + (instruction.addressSize === 8 ? 2 : 0);
  // A count of zero leaves the flags alone.
  const last = operands.at(-1);
  const masked = last?.kind === 'immediate' ? Number(last.value & 0x3fn) : 1;
  key = key * 8 + (operands.some((o) => o.kind === 'memory') ? 1 : 0) + (masked === 0 ? 2 : 0) + ((masked & 31) === 0 ? 4 : 0);
  return key;
} // prettier-ignore

export function traitsOf(instruction: Instruction): Traits {
  const key = keyOf(instruction);
  const found = known.get(key);
  if (found) return found;
  const context = new RegionContext(new FunctionBuilder(0, 0, 2), emptyImports);
  context.bailLabel = context.f.block();
  const emitter = new RegionEmitter(instruction, { at: 0, context, ways: nowhere });
  emitWhole(emitter);
  const { observes, kills, bails, usesFlags, sets } = context.events;
  const traits: Traits = { bails, flags: observes ? 'observe' : kills ? 'kill' : 'none', usesFlags, setsFlags: sets };
  known.set(key, traits);
  return traits;
}

/** The instruction, with the checks that its feature asks. */
export function emitWhole(emitter: RegionEmitter): void {
  const { row } = emitter.instruction;
  if (row.feature === 'sse') emitter.guard('simdBlock');
  else if (row.feature === 'avx') emitter.guard('avxBlock');
  else if (row.feature !== '') emitter.guard('fpuBlock');
  if (emitter.context.isDead) return;
  SEMANTICS[row.semantics]?.(emitter);
}
