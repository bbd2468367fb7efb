export { TraceReader } from './buffers.ts';
export type { TraceWindow } from './buffers.ts';
export { TraceConsumer } from './consumer.ts';
export { cpuChange, recordsOf, recordsOfFile, TraceFormatError } from './records.ts';
export type { TraceRecord } from './records.ts';
