export { assemble, type Assembled, type AssembleOptions } from './assemble.ts';
export { AsmError } from './syntax.ts';
