export * from './engine/api.ts';
export { CPU_STATE_SIZE, CpuState, RFLAGS, SEG, SEGMENTS, ATTR, REGISTER_NAMES, OFFSET } from './engine/state.ts';
export type { Segment, SegmentName, CpuField } from './engine/state.ts';
export * from './asm/index.ts';
export * from './isa/index.ts';
export { compileEngine, createEngine } from './interpreter/engine.ts';
export type { EngineModules, InterpreterEngine } from './interpreter/engine.ts';
export { Mmu } from './mmu/walk.ts';
