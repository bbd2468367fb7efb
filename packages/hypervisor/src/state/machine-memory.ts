/**
 * Machine memory: one shared WebAssembly.Memory. A machine frame number is an offset in it. Every thread of the
 * hypervisor builds one of these over the same memory. See `memory-map.ts` for who owns which frames.
 */
import type { Bytes } from '@xenhost/base';
import { PAGE_SHIFT, PAGE_SIZE } from '@xenhost/xen-abi';

const WASM_PAGE = 65536;
/** A 32-bit WebAssembly memory ends here. */
export const MAX_MACHINE_BYTES = 65536 * WASM_PAGE;

export class MachineMemory implements Bytes {
  readonly memory: WebAssembly.Memory;
  readonly dv: DataView;
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
  readonly f64: Float64Array;
  readonly nrFrames: number;

  constructor(memory: WebAssembly.Memory) {
    const buffer = memory.buffer;
    this.memory = memory;
    this.dv = new DataView(buffer);
    this.u8 = new Uint8Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.nrFrames = buffer.byteLength >>> PAGE_SHIFT;
  }

  /** Reserves `bytes` (rounded up to 64 KiB); the OS commits pages as they are touched. */
  static allocate(bytes: number): MachineMemory {
    const pages = Math.ceil(bytes / WASM_PAGE);
    if (!(pages >= 1 && pages <= 65536)) throw new RangeError(`machine memory of ${bytes} bytes: 64 KiB to 4 GiB`);
    return new MachineMemory(new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }));
  }

  /** Byte offset of a frame. Frames of the last GiB need unsigned arithmetic: never shift with `<<`. */
  static offset(frame: number): number {
    return frame * PAGE_SIZE;
  }

  /** Fills a frame with zeros. V8 fills shared memory an element at a time: the widest plain element is the fastest. */
  clearFrame(frame: number): void {
    this.f64.fill(0, frame * (PAGE_SIZE / 8), (frame + 1) * (PAGE_SIZE / 8));
  }

  frame(frame: number): Uint8Array {
    return this.u8.subarray(frame * PAGE_SIZE, (frame + 1) * PAGE_SIZE);
  }
}
