/** The processor of this machine as a contestant: native/runner.c, compiled with gcc into a fresh directory. */
import { spawnSync } from 'node:child_process';
import { YMM_HIGH_BYTES } from '../cpu/native.ts';
import { NativeRunner } from '../lib/native-runner.ts';
import {
  FX_COMPARED,
  GS_BASE,
  IMAGE_BYTES,
  MAX_EVENTS,
  REGIONS,
  RESUME_CELL,
  type Contestant,
  type Event,
  type Image,
  type Run,
} from './world.ts';

// Layouts of runner.c.
const MAX_REGIONS = 16;
const Header = { count: 0, imageBytes: 4, nrRegions: 8, gsBase: 16, resumeCell: 24, regions: 32 } as const;
const REGION_BYTES = 24;
const HEADER_BYTES = Header.regions + MAX_REGIONS * REGION_BYTES;
const Program = { entry: 0, rflags: 8, gpr: 16, fx: 144, ymmHigh: 656, image: 912 } as const;
const EventAt = { signal: 0, trap: 4, error: 8, cr2: 16, rip: 24, rflags: 32, gpr: 40, fx: 168 } as const;
const EVENT_BYTES = EventAt.fx + FX_COMPARED + YMM_HIGH_BYTES;
const RunAt = { timeout: 0, nrEvents: 4, events: 8 } as const;
const RUN_IMAGE = RunAt.events + MAX_EVENTS * EVENT_BYTES;

const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const SIGSYS = 31;
const TIMEOUT_MS = 120_000;

export class NativeMachine extends NativeRunner implements Contestant {
  readonly name = 'processor';
  readonly ours = false;

  constructor() {
    super(new URL('native/runner.c', import.meta.url));
  }

  run(images: readonly Image[]): Run[] {
    const runs = this.#batch(images);
    if (runs) return runs;
    const [only, ...others] = images;
    if (!only) return [];
    // A program that got at the runner itself takes the batch with it: find the others' outcomes without it.
    if (others.length === 0) return [{ end: 'unknown', note: 'the runner died', events: [], bytes: only.bytes }];
    const half = images.length >> 1;
    return [...this.run(images.slice(0, half)), ...this.run(images.slice(half))];
  }

  #batch(images: readonly Image[]): Run[] | undefined {
    const stride = Program.image + IMAGE_BYTES;
    const input = Buffer.alloc(HEADER_BYTES + stride * images.length);
    encodeHeader(input, images.length);
    images.forEach((image, n) => {
      encodeProgram(image, input, HEADER_BYTES + n * stride);
    });
    const runStride = RUN_IMAGE + IMAGE_BYTES;
    const expected = runStride * images.length;
    const result = spawnSync(this.binary, [], { input, maxBuffer: expected + PAGE_OF_SLACK, timeout: TIMEOUT_MS });
    if (result.status !== 0 || result.stdout.length !== expected) {
      if (result.signal !== null) return undefined;
      throw new Error(`native runner ended with ${String(result.status)}`);
    }
    return images.map((_, n) => decodeRun(result.stdout, n * runStride));
  }
}

const PAGE_OF_SLACK = 4096;

function encodeHeader(into: Buffer, count: number): void {
  into.writeUInt32LE(count, Header.count);
  into.writeUInt32LE(IMAGE_BYTES, Header.imageBytes);
  into.writeUInt32LE(REGIONS.length, Header.nrRegions);
  into.writeBigUInt64LE(BigInt(GS_BASE), Header.gsBase);
  into.writeBigUInt64LE(BigInt(RESUME_CELL), Header.resumeCell);
  REGIONS.forEach((region, n) => {
    const at = Header.regions + n * REGION_BYTES;
    into.writeBigUInt64LE(BigInt(region.address), at);
    into.writeUInt32LE(region.page, at + 8);
    into.writeUInt32LE(region.pages, at + 12);
    const protection = PROT_READ | (region.write ? PROT_WRITE : 0) | (region.execute ? PROT_EXEC : 0);
    into.writeUInt32LE(protection, at + 16);
  });
}

function encodeProgram(image: Image, into: Buffer, at: number): void {
  into.writeBigUInt64LE(BigInt(image.entry), at + Program.entry);
  into.writeBigUInt64LE(image.rflags, at + Program.rflags);
  into.set(new Uint8Array(image.gpr.buffer, image.gpr.byteOffset, 128), at + Program.gpr);
  into.set(image.fx, at + Program.fx);
  into.set(image.ymmHigh, at + Program.ymmHigh);
  into.set(image.bytes, at + Program.image);
}

function decodeRun(from: Buffer, at: number): Run {
  const nrEvents = from.readUInt32LE(at + RunAt.nrEvents);
  const events: Event[] = [];
  let isSystemCall = false;
  for (let n = 0; n < nrEvents; n++) {
    const base = at + RunAt.events + n * EVENT_BYTES;
    isSystemCall ||= from.readUInt32LE(base + EventAt.signal) === SIGSYS;
    const gpr = new BigUint64Array(16);
    for (let r = 0; r < 16; r++) gpr[r] = from.readBigUInt64LE(base + EventAt.gpr + 8 * r);
    events.push({
      vector: from.readUInt32LE(base + EventAt.trap),
      errorCode: from.readBigUInt64LE(base + EventAt.error),
      address: from.readBigUInt64LE(base + EventAt.cr2),
      rip: from.readBigUInt64LE(base + EventAt.rip),
      gpr,
      rflags: from.readBigUInt64LE(base + EventAt.rflags),
      fx: from.subarray(base + EventAt.fx, base + EventAt.fx + FX_COMPARED),
      ymmHigh: from.subarray(base + EventAt.fx + FX_COMPARED, base + EVENT_BYTES),
    });
  }
  const timeout = from.readUInt32LE(at + RunAt.timeout) !== 0;
  return {
    end: timeout ? 'timeout' : isSystemCall ? 'unknown' : 'done',
    note: isSystemCall ? 'a system call' : '',
    events,
    bytes: from.subarray(at + RUN_IMAGE, at + RUN_IMAGE + IMAGE_BYTES),
  };
}
