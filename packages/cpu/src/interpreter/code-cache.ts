/**
 * Decoded code: records in the private memory, by machine frame and code size. A page of code has a map from byte
 * offset to record; straight runs of instructions are decoded at a time and lie one after another. When code is
 * written, its records become `resolve` handlers, so that whoever is on them looks again.
 */
import { OFFSET, SEG, SEGMENT_STRIDE } from '../engine/state.ts';
import { decodeInstruction } from '../isa/decode.ts';
import type { CodeSize, Instruction, MemoryOperand, Operand } from '../isa/instruction.ts';
import { SPECIAL, fusedKey, shapeOf } from './handlers.ts';
import { handlerTable, lateTable } from './generate.ts';
import {
  NR_PAGE_MAPS, NR_RECORDS, NR_SCRATCH_RECORDS, PAGE_MAPS, PAGE_MAP_BYTES, RECORD, RECORDS, RECORD_BYTES, SCRATCH_RECORDS,
} from './memory-map.ts'; // prettier-ignore

/** Instructions decoded in one go. */
const MAX_RUN = 64;
/** Records a run may take: address records, crossing checks and the end included. */
const MAX_RUN_RECORDS = MAX_RUN * 2 + 4;

export interface CodePage {
  readonly frame: number;
  readonly code: CodeSize;
  /** Address of the map in the private memory. */
  readonly map: number;
  /** Runs of records that were made from this page: of each its first address and its end. */
  runs: number[];
  /** One bit for each 64 bytes that hold decoded instructions. */
  chunksLow: number;
  chunksHigh: number;
  /** Pages whose last instruction reaches into this one. */
  crossers: Set<CodePage> | undefined;
  /** Branches that wait for a record at their target, by its offset: most targets have one. */
  pending: Map<number, number | number[]> | undefined;
  /** Compiled code that was made from bytes of this page. */
  compiled: Set<Compiled> | undefined;
}
/** Compiled code as the pages that it was made from know it. */
export interface Compiled {
  /** The bytes are not what they were: it must not be entered again. */
  drop(): void;
}

/** Runs that lie one behind the other are one. */
function addRun({ runs }: CodePage, first: number, end: number): void {
  if (runs.at(-1) === first) runs[runs.length - 1] = end;
  else runs.push(first, end);
}
function forRecords({ runs }: CodePage, body: (record: number) => void): void {
  for (let i = 0; i < runs.length; i += 2)
    for (let record = runs[i] ?? 0, end = runs[i + 1] ?? 0; record < end; record += RECORD_BYTES) body(record);
}

/** Where register operands go, in their order. */
const REGISTER_FIELDS: readonly number[] = [RECORD.a, RECORD.b, RECORD.c, RECORD.disp];
/** Memory operands are written only by these shapes: operand 0 of anything that is not here is a destination. */
const READS_OPERAND_0 = new Set(['cmp', 'test', 'push', 'mul', 'imul1', 'div', 'idiv', 'bt', 'jmpind', 'callind', 'nop', 'movtoseg', 'lldt', 'ltr', 'verify', 'lgdt', 'lmsw', 'invlpg', 'jmpfar', 'callfar', 'clflush', 'cmps', 'scas', 'outs', 'lods', 'fxrstor', 'ldmxcsr', 'vex.ldmxcsr', 'xrstor']); // prettier-ignore

const isWritten = (instruction: Instruction): boolean =>
  instruction.operands[0]?.kind === 'memory' && !READS_OPERAND_0.has(instruction.row.semantics);

export class CodeCache {
  decodedInstructions = 0;
  /** Called for every record whose handler is one that is made when needed. */
  onLateHandler: ((handler: number) => void) | undefined;
  private readonly view: DataView;
  private readonly words: Uint32Array;
  private readonly machine: Uint8Array;
  /** Pages by frame. */
  private readonly pages = new Map<number, CodePage[]>();
  /** The page that has each map, or had it last. */
  private readonly byMap: CodePage[] = [];
  private nextMap = 0;
  private readonly freeMaps: number[] = [];
  private nextRecord = RECORDS;
  private at = 0;
  /** The record just written, while a jump may still be fused into it. */
  private fusable = -1;

  constructor(privateMemory: ArrayBufferLike, machine: Uint8Array) {
    this.view = new DataView(privateMemory);
    this.words = new Uint32Array(privateMemory);
    this.machine = machine;
  }

  /** True when there is no room for another page or run: everything must go. */
  get isFull(): boolean {
    return this.nextMap >= NR_PAGE_MAPS - 2 || this.nextRecord + (MAX_RUN_RECORDS + 4) * RECORD_BYTES > RECORDS + NR_RECORDS * RECORD_BYTES; // prettier-ignore
  }
  clear(): void {
    for (const list of this.pages.values())
      for (const page of list) {
        this.dropCompiled(page);
        this.clearMap(page);
      }
    this.pages.clear();
    this.freeMaps.length = 0;
    this.nextMap = 0;
    this.nextRecord = RECORDS;
  }
  holds(frame: number): boolean {
    return this.pages.has(frame);
  }
  /** No decoded instruction of the frame is live. */
  isQuiet(frame: number): boolean {
    return this.pages.get(frame)?.every((p) => (p.chunksLow | p.chunksHigh) === 0) ?? true;
  }
  /** Forgets the frame altogether. Its maps must not be reachable any more. */
  remove(frame: number): void {
    this.invalidate(frame);
    for (const page of this.pages.get(frame) ?? []) this.freeMaps.push(page.map);
    this.pages.delete(frame);
  }
  known(frame: number, code: CodeSize): CodePage | undefined {
    const list = this.pages.get(frame);
    if (list) for (const page of list) if (page.code === code) return page;
    return undefined;
  }
  /** The page of a frame for a code size, made where it is not there. */
  page(frame: number, code: CodeSize): CodePage {
    const known = this.known(frame, code);
    if (known) return known;
    const list = this.pages.get(frame);
    const map = this.freeMaps.pop() ?? PAGE_MAPS + this.nextMap++ * PAGE_MAP_BYTES;
    const page: CodePage = {
      frame,
      code,
      map,
      runs: [],
      chunksLow: 0,
      chunksHigh: 0,
      crossers: undefined,
      pending: undefined,
      compiled: undefined,
    };
    this.byMap[(map - PAGE_MAPS) / PAGE_MAP_BYTES] = page;
    if (list) list.push(page);
    else this.pages.set(frame, [page]);
    return page;
  }
  recordAt(page: CodePage, offset: number): number {
    return this.words[page.map / 4 + offset] ?? 0;
  }
  forget(page: CodePage, offset: number): void {
    this.words[page.map / 4 + offset] = 0;
  }

  /** The page with its map at an address. */
  pageWithMap(map: number): CodePage | undefined {
    const page = this.byMap[(map - PAGE_MAPS) / PAGE_MAP_BYTES];
    return page && this.known(page.frame, page.code) === page ? page : undefined;
  }

  // Ways into compiled code ------------------------------------------------------------------------------------------
  /** Whether the record at `offset` goes on in compiled code. */
  isEntry(record: number): boolean {
    return this.view.getUint16(record + RECORD.handler, true) === SPECIAL.enter;
  }
  /**
   * Puts an `enter` record before the one at `offset`, and all branches of the page on it. 0 where there is none to
   * stand before, or one already, or no room.
   */
  addEntry(page: CodePage, offset: number, word: number): number {
    const original = this.recordAt(page, offset);
    if (original === 0 || this.isEntry(original)) return 0;
    const { view } = this;
    if (view.getUint16(original + RECORD.handler, true) === SPECIAL.goto) {
      // An entry that was removed: everything still goes through it.
      view.setUint16(original + RECORD.handler, SPECIAL.enter, true);
      view.setUint32(original + RECORD.imm, word, true);
      return original;
    }
    if (this.isFull) return 0;
    this.at = this.nextRecord;
    const entry = this.begin(SPECIAL.enter, offset);
    this.nextRecord = this.at;
    view.setUint32(entry + RECORD.link, original, true);
    view.setUint32(entry + RECORD.imm, word, true);
    forRecords(page, (record) => {
      if (view.getUint32(record + RECORD.link, true) === original) view.setUint32(record + RECORD.link, entry, true);
    });
    addRun(page, entry, entry + RECORD_BYTES);
    this.words[page.map / 4 + offset] = entry;
    return entry;
  }
  /** The `enter` record leads to what it stands before again. */
  removeEntry(entry: number, word: number): void {
    const { view } = this;
    if (this.isEntry(entry) && view.getUint32(entry + RECORD.imm, true) === word)
      view.setUint16(entry + RECORD.handler, SPECIAL.goto, true);
  }

  /** Whether a write of `length` bytes at `offset` of the frame meets decoded bytes. */
  meetsCode(frame: number, offset: number, length: number): boolean {
    const list = this.pages.get(frame);
    if (!list) return false;
    const first = offset >> 6;
    const last = (offset + length - 1) >> 6;
    return list.some((page) => {
      for (let chunk = first; chunk <= last; chunk++)
        if ((chunk < 32 ? page.chunksLow >>> chunk : page.chunksHigh >>> (chunk - 32)) & 1) return true;
      return false;
    });
  }

  /** Makes every record of the frame look again; the maps start anew. */
  invalidate(frame: number): boolean {
    const list = this.pages.get(frame);
    if (!list) return false;
    for (const page of list) this.drop(page);
    return true;
  }
  private dropCompiled(page: CodePage): void {
    for (const compiled of [...(page.compiled ?? [])]) compiled.drop();
    page.compiled = undefined;
  }
  /** Zeroes what was ever written of a page's map, and touches nothing else of it: most of it stays memory that never was. */
  private clearMap(page: CodePage): void {
    for (let chunk = 0; chunk < 64; chunk++) {
      if (!(((chunk < 32 ? page.chunksLow : page.chunksHigh) >>> (chunk & 31)) & 1)) continue;
      const from = page.map / 4 + (chunk << 6);
      this.words.fill(0, from, from + 64);
    }
    page.chunksLow = page.chunksHigh = 0;
  }
  private drop(page: CodePage): void {
    this.dropCompiled(page);
    forRecords(page, (record) => {
      this.view.setUint16(record + RECORD.handler, SPECIAL.resolve, true);
    });
    page.runs = [];
    page.pending = undefined;
    this.clearMap(page);
    const { crossers } = page;
    page.crossers = undefined;
    for (const other of crossers ?? []) this.drop(other);
  }

  /**
   * Decodes from `offset` on and returns the first record, or undefined where the instruction there crosses into the
   * next page (`decodeCrossing`).
   */
  decodeRun(page: CodePage, offset: number): number | undefined {
    const base = page.frame * 4096;
    const first = this.nextRecord;
    this.at = first;
    this.fusable = -1;
    let end = offset;
    for (let n = 0; ; n++) {
      if (end >= 4096) {
        // Straight on into the next page.
        this.writeResolve(4096);
        break;
      }
      const known = this.recordAt(page, end);
      if (known !== 0) {
        this.writeGoto(end, known);
        break;
      }
      if (n === MAX_RUN) {
        this.writeResolve(end);
        break;
      }
      const decoded = decodeInstruction(this.machine, page.code, base + end, base + 4096);
      if (decoded === 'truncated') {
        if (n === 0) return undefined;
        this.writeResolve(end);
        break;
      }
      this.enter(page, end);
      if (typeof decoded === 'string') {
        this.writeFault(end, decoded === 'too-long' ? 13 : 6, decoded === 'too-long' ? 0 : -1);
        this.mark(page, end, Math.min(15, 4096 - end));
        break;
      }
      this.decodedInstructions++;
      this.write(decoded, end, page);
      this.mark(page, end, decoded.length);
      end += decoded.length;
      if (decoded.row.ends) {
        this.writeEnd(end);
        break;
      }
    }
    addRun(page, first, this.at);
    this.nextRecord = this.at;
    return first;
  }

  /** One instruction whose bytes lie in two pages. */
  decodeCrossing(page: CodePage, offset: number, bytes: Uint8Array, next: CodePage): number {
    const first = this.nextRecord;
    this.at = first;
    const decoded = decodeInstruction(bytes, page.code, 0, bytes.length);
    this.enter(page, offset);
    const check = this.begin(SPECIAL.crossing, offset);
    this.view.setUint32(check + RECORD.link, next.map, true);
    let length = 15;
    if (typeof decoded === 'string')
      this.writeFault(offset, decoded === 'invalid' ? 6 : 13, decoded === 'invalid' ? -1 : 0);
    else {
      this.decodedInstructions++;
      length = decoded.length;
      this.write(decoded, offset, page);
      if (decoded.row.ends) this.writeEnd(offset + length);
      else this.writeResolve(offset + length);
    }
    this.mark(page, offset, 4096 - offset);
    const beyond = Math.max(1, offset + length - 4096);
    this.mark(next, 0, beyond);
    (next.crossers ??= new Set()).add(page);
    addRun(page, first, this.at);
    this.nextRecord = this.at;
    return first;
  }

  /** A single instruction in the scratch records, followed by a stop. */
  decodeStep(bytes: Uint8Array, offset: number, code: CodeSize): number {
    this.at = SCRATCH_RECORDS;
    const decoded = decodeInstruction(bytes, code, 0, bytes.length);
    if (typeof decoded === 'string')
      this.writeFault(offset, decoded === 'invalid' ? 6 : 13, decoded === 'invalid' ? -1 : 0);
    else {
      this.write(decoded, offset, undefined);
      this.begin(SPECIAL.stop, offset + decoded.length);
    }
    if (this.at > SCRATCH_RECORDS + NR_SCRATCH_RECORDS * RECORD_BYTES) throw new Error('scratch records overflow');
    return SCRATCH_RECORDS;
  }

  private mark(page: CodePage, offset: number, length: number): void {
    for (let chunk = offset >> 6; chunk <= Math.min(63, (offset + length - 1) >> 6); chunk++)
      if (chunk < 32) page.chunksLow |= 1 << chunk;
      else page.chunksHigh |= 1 << (chunk - 32);
  }

  /** A fresh record with the fields every record has. */
  private begin(handler: number, offset: number): number {
    const at = this.at;
    const { words, view } = this;
    for (let n = at / 4; n < at / 4 + RECORD_BYTES / 4; n++) words[n] = 0;
    view.setUint16(at + RECORD.handler, handler, true);
    view.setUint16(at + RECORD.base, OFFSET.zero, true);
    view.setUint16(at + RECORD.index, OFFSET.zero, true);
    view.setUint16(at + RECORD.offset, offset, true);
    this.at += RECORD_BYTES;
    return at;
  }
  private writeGoto(offset: number, target: number): void {
    this.view.setUint32(this.begin(SPECIAL.goto, offset) + RECORD.link, target, true);
  }
  /** After an instruction that ends a run: look up RIP again, with the run loop's matters first. */
  private writeEnd(offset: number): void {
    this.begin(SPECIAL.attend, offset);
  }
  private writeFault(offset: number, vector: number, error: number): void {
    const at = this.begin(SPECIAL.fault, offset);
    this.view.setUint16(at + RECORD.a, vector, true);
    this.view.setInt32(at + RECORD.imm, error, true);
  }
  /** Goes on at `offset` of the page, 4096 being the next page, by looking it up. */
  private writeResolve(offset: number): void {
    this.begin(SPECIAL.resolve, offset);
  }

  private write(instruction: Instruction, offset: number, page: CodePage | undefined): void {
    const { row, length } = instruction;
    const memory = memoryOperand(instruction);
    const viaRecord = memory !== undefined && this.needsAddressRecord(instruction, memory);
    if (memory && viaRecord) this.writeAddress(instruction, memory, offset);
    const handler = handlerOf(instruction, memory ? (memory.index >= 0 && !viaRecord ? 2 : 1) : 0, viaRecord);
    if (row.vex) this.onLateHandler?.(handler);
    const before = this.at - RECORD_BYTES;
    const at = this.begin(handler, offset);
    const { view } = this;
    view.setUint8(at + RECORD.length, length);
    if (row.semantics === 'jcc' && page && instruction.code === 64 && this.fusable === before) {
      const fused = fusedHandler(view.getUint16(before + RECORD.handler, true), row.variant);
      if (fused !== undefined) view.setUint16(before + RECORD.handler, fused, true);
    }
    this.fusable = at;
    let nrRegisters = 0;
    let nrImmediates = 0;
    const { operands } = instruction;
    for (let n = 0; n < operands.length; n++) {
      const operand = operands[n] as Operand;
      switch (operand.kind) {
        case 'register':
          this.setRegister(at, nrRegisters++, OFFSET.rax + 8 * operand.register + (operand.high ? 1 : 0));
          break;
        case 'memory':
          if (viaRecord) view.setUint16(at + RECORD.base, OFFSET.ea, true);
          else this.writeMemory(at, instruction, operand, offset);
          break;
        case 'immediate':
          if (nrImmediates++ === 0) view.setBigInt64(at + RECORD.imm, operand.value, true);
          else view.setInt32(at + RECORD.disp, Number(operand.value), true);
          break;
        case 'relative': {
          const target = offset + length + operand.value;
          view.setBigInt64(at + RECORD.imm, BigInt(target), true);
          if (page && instruction.code === 64 && target >= 0 && target < 4096) this.link(at, page, target);
          break;
        }
        case 'far':
          view.setBigInt64(at + RECORD.imm, BigInt(operand.offset), true);
          view.setUint16(at + RECORD.c, operand.selector, true);
          break;
        case 'xmm':
          this.setRegister(at, nrRegisters++, OFFSET.xmm + 32 * operand.register);
          break;
        case 'mmx':
          this.setRegister(at, nrRegisters++, OFFSET.fpr + 16 * operand.register);
          break;
        default:
          this.setRegister(at, nrRegisters++, operand.register);
      }
    }
    if (row.repeatable) view.setUint16(at + RECORD.c, sourceSegment(instruction), true);
  }

  private setRegister(record: number, n: number, value: number): void {
    this.view.setUint16(record + (REGISTER_FIELDS[n] ?? RECORD.c), value, true);
  }

  /** The next record is that of `offset`: branches that wait for it go there directly. */
  private enter(page: CodePage, offset: number): void {
    this.words[page.map / 4 + offset] = this.at;
    const waiting = page.pending?.get(offset);
    if (waiting === undefined) return;
    for (const record of typeof waiting === 'number' ? [waiting] : waiting)
      this.view.setUint32(record + RECORD.link, this.at, true);
    page.pending?.delete(offset);
  }
  /** Links the branch at `record` to `target` of its page, now or when that is decoded. */
  private link(record: number, page: CodePage, target: number): void {
    const known = this.recordAt(page, target);
    if (known !== 0) {
      this.view.setUint32(record + RECORD.link, known, true);
      return;
    }
    const pending = (page.pending ??= new Map<number, number | number[]>());
    const waiting = pending.get(target);
    if (waiting === undefined) pending.set(target, record);
    else if (typeof waiting === 'number') pending.set(target, [waiting, record]);
    else waiting.push(record);
  }

  private needsAddressRecord(instruction: Instruction, memory: MemoryOperand): boolean {
    if (instruction.row.repeatable) return false;
    if (instruction.code !== 64 || instruction.addressSize !== 8) return true;
    if (instruction.row.semantics !== 'lea' && memory.segment >= SEG.fs) return true;
    const limit = Number(memory.displacement) + (memory.base === -2 ? 4096 + 15 : 0);
    return limit !== (limit | 0);
  }

  private writeAddress(instruction: Instruction, memory: MemoryOperand, offset: number): void {
    const lea = instruction.row.semantics === 'lea';
    const legacy = instruction.code !== 64;
    const at = this.begin(lea ? SPECIAL.addressOffset : legacy ? SPECIAL.addressLegacy : SPECIAL.address, offset);
    const { view } = this;
    const mask = instruction.addressSize === 8 ? -1n : instruction.addressSize === 4 ? 0xffff_ffffn : 0xffffn;
    view.setBigInt64(at + RECORD.imm, mask, true);
    this.writeMemory(at, instruction, memory, offset);
    const usesBase = legacy || memory.segment >= SEG.fs;
    view.setUint16(at + RECORD.a, usesBase ? OFFSET.esBase + memory.segment * SEGMENT_STRIDE : OFFSET.zero, true);
    const size = memory.size || 1;
    view.setUint16(at + RECORD.c, memory.segment | ((size | (isWritten(instruction) ? 0x100 : 0)) << 3), true);
  }

  private writeMemory(at: number, instruction: Instruction, memory: MemoryOperand, offset: number): void {
    const { view } = this;
    // Exact as a number up to 53 bits: what is larger does not fit 32 bits either, and is written as it is.
    let displacement = Number(memory.displacement);
    if (memory.base === -2) {
      view.setUint16(at + RECORD.base, OFFSET.ripBase, true);
      displacement += offset + instruction.length;
    } else if (memory.base >= 0) view.setUint16(at + RECORD.base, OFFSET.rax + 8 * memory.base, true);
    if (memory.index >= 0) view.setUint16(at + RECORD.index, OFFSET.rax + 8 * memory.index, true);
    view.setUint8(at + RECORD.scale, 31 - Math.clz32(memory.scale));
    // POP to memory makes its address with the stack pointer already moved.
    if (instruction.row.semantics === 'popmem' && memory.base === 4) displacement += instruction.operandSize;
    if (displacement !== (displacement | 0)) {
      // Absolute 64-bit addresses, and RIP-relative ones at the edge of the 2 GiB: no index, and no mask is needed.
      const isExact = Number.isSafeInteger(displacement);
      view.setBigInt64(at + RECORD.imm, isExact ? BigInt(displacement) : memory.displacement, true);
      view.setUint16(at + RECORD.handler, SPECIAL.addressLong, true);
      return;
    }
    view.setInt32(at + RECORD.disp, displacement, true);
  }
}

function memoryOperand(instruction: Instruction): MemoryOperand | undefined {
  const { operands } = instruction;
  for (let n = 0; n < operands.length; n++) {
    const operand = operands[n];
    if (operand?.kind === 'memory') return operand;
  }
  return undefined;
}

/** Handler numbers already found, by row and then all else that a shape depends on. */
const knownHandlers: (Map<number, number> | undefined)[] = [];
const REPEAT_CODE = { none: 0, rep: 1, repne: 2 } as const;

/** Handler number of an instruction; `form`: 0 no memory operand, 1 with base, 2 with index. */
function handlerOf(instruction: Instruction, form: 0 | 1 | 2, viaRecord: boolean): number {
  const { row, operands } = instruction;
  let code = (instruction.operandSize >> 2) * 4 + form;
  code = code * 4 + (instruction.addressSize >> 2);
  code = code * 4 + REPEAT_CODE[instruction.repeat];
  code = code * 4 + (instruction.code === 64 ? 1 : 0) + (instruction.lock ? 2 : 0);
  code = code * 4 + (operands[0]?.size === 8 ? 1 : 0) + (operands[1]?.size === 8 ? 2 : 0);
  const ofRow = (knownHandlers[row.index] ??= new Map<number, number>());
  const known = ofRow.get(code);
  if (known !== undefined) return known;
  const { key } = shapeOf(viaRecord ? withIndexed(instruction) : instruction);
  const handler = (row.vex ? lateTable() : handlerTable()).numbers.get(key);
  if (handler === undefined) throw new Error(`no handler for ${key} (${row.mnemonic} ${row.encoding})`);
  ofRow.set(code, handler);
  return handler;
}

let fusedNumbers: Map<number, number> | undefined;
/** Handler that does the work of `setter` and of the conditional jump behind it. */
function fusedHandler(setter: number, condition: number): number | undefined {
  if (!fusedNumbers) {
    const { numbers, fusedShapes } = handlerTable();
    const known = new Map<number, number>();
    for (const shape of fusedShapes) {
      const first = numbers.get(shape.setter.key) ?? 0;
      known.set(first * 16 + shape.condition, numbers.get(fusedKey(shape.setter.key, shape.condition)) ?? 0);
    }
    fusedNumbers = known;
  }
  return fusedNumbers.get(setter * 16 + condition);
}

/** Operands through an address record always have a plain base: the indexed shape is not needed. */
function withIndexed(instruction: Instruction): Instruction {
  return {
    ...instruction,
    operands: instruction.operands.map((o) => (o.kind === 'memory' ? { ...o, index: -1 } : o)),
  };
}

function sourceSegment(instruction: Instruction): number {
  return instruction.segmentOverride >= 0 ? instruction.segmentOverride : SEG.ds;
}
