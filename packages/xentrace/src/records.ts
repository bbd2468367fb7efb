/**
 * Trace records as bytes (`struct t_rec` of `xen/include/public/trace.h`) to values, as they come from a trace buffer or
 * from a file of xentrace. Does no I/O. What cannot be a record ends the reading with an error that says where.
 */
import { TRACE_EXTRA_MAX, TRACE_EXTRA_SHIFT, TraceEvent, TRC_HD_CYCLE_FLAG } from '@xenhost/xen-abi';

export interface TraceRecord {
  /** TRC_* with its flags, without the cycle flag. */
  readonly event: number;
  readonly tsc: bigint | undefined;
  /** Words of data, at most seven. */
  readonly data: readonly number[];
  /** pCPU that wrote it; -1 before the first CPU_CHANGE record of a file. */
  readonly cpu: number;
}

export class TraceFormatError extends Error {
  override readonly name = 'TraceFormatError';
}

const EVENT_MASK = 0x0fff_ffff;
const WORD = 4;

/** Records of one pCPU, one behind the other; fillers at the end of a buffer are left out. @throws TraceFormatError */
export function* recordsOf(bytes: Uint8Array, cpu: number): Generator<TraceRecord> {
  let at = 0;
  while (at < bytes.length) {
    const record = recordAt(bytes, at, cpu);
    at += record.size;
    if (record.event !== TraceEvent.WRAP_BUFFER) yield record;
  }
}

/** Records of a file of xentrace: each part is said by a CPU_CHANGE record. @throws TraceFormatError */
export function* recordsOfFile(bytes: Uint8Array): Generator<TraceRecord> {
  let at = 0;
  while (at < bytes.length) {
    const change = recordAt(bytes, at, -1);
    if (change.event !== TraceEvent.CPU_CHANGE) throw new TraceFormatError(`no CPU change record at byte ${at}`);
    const [cpu = 0, size = 0] = change.data;
    at += change.size;
    if (at + size > bytes.length) throw new TraceFormatError(`a part of ${size} bytes at byte ${at} is cut off`);
    yield* recordsOf(bytes.subarray(at, at + size), cpu);
    at += size;
  }
}

function recordAt(bytes: Uint8Array, at: number, cpu: number): TraceRecord & { readonly size: number } {
  const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (at + WORD > bytes.length) throw new TraceFormatError(`a record at byte ${at} is cut off`);
  const header = dv.getUint32(at, true);
  const hasTime = (header & TRC_HD_CYCLE_FLAG) !== 0;
  const nrData = (header >>> TRACE_EXTRA_SHIFT) & TRACE_EXTRA_MAX;
  const dataAt = at + WORD + (hasTime ? 2 * WORD : 0);
  const size = dataAt + nrData * WORD - at;
  if (at + size > bytes.length) throw new TraceFormatError(`a record at byte ${at} is cut off`);
  return {
    event: header & EVENT_MASK,
    tsc: hasTime ? dv.getBigUint64(at + WORD, true) : undefined,
    data: Array.from({ length: nrData }, (_, i) => dv.getUint32(dataAt + i * WORD, true)),
    cpu,
    size,
  };
}

/** A CPU_CHANGE record: so many bytes of that pCPU follow. */
export function cpuChange(cpu: number, size: number): Uint8Array {
  const bytes = new Uint8Array(3 * WORD);
  const dv = new DataView(bytes.buffer);
  dv.setUint32(0, TraceEvent.CPU_CHANGE | (2 << TRACE_EXTRA_SHIFT), true);
  dv.setUint32(WORD, cpu, true);
  dv.setUint32(2 * WORD, size, true);
  return bytes;
}
