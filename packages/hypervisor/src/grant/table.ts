/**
 * One domain's grant table as it lies in memory: the shared frames, the status frames of version 2, Xen's own entries
 * beside them (pins) and the maptrack of mappings that the domain made. A view, made when needed.
 */
import { Errno } from '@xenhost/base';
import { GrantEntryV1, GrantEntryV2, PAGE_SIZE } from '@xenhost/xen-abi';
import type { MemoryManager } from '../mm/api.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import { DomainLayout } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';

export const DEFAULT_MAX_FRAMES = 64;
export const DEFAULT_MAX_MAPTRACK_FRAMES = 1024;
/** What the directory has room for. */
export const MAX_FRAMES = 128;
export const MAX_MAPTRACK_FRAMES = 1024;
const V1_PER_FRAME = PAGE_SIZE / GrantEntryV1.size;
const V2_PER_FRAME = PAGE_SIZE / GrantEntryV2.size;
const STATUS_PER_FRAME = PAGE_SIZE / 2;
const ACTIVE_WORDS = 8;
const ACTIVE_PER_FRAME = PAGE_SIZE / 4 / ACTIVE_WORDS;
const ACTIVE_FRAMES_PER_FRAME = V1_PER_FRAME / ACTIVE_PER_FRAME;
const TRACK_WORDS = 4;
const TRACKS_PER_FRAME = PAGE_SIZE / 4 / TRACK_WORDS;

/** Words of `grantPrivate`. */
const WORD = {
  directory: 0,
  trackDirectory: 1,
  trackFrames: 2,
  freeTrack: 3,
  statusFrames: 4,
  maxVersion: 5,
  relinquish: 6,
} as const;
/** Words of the directory frame. */
const DIRECTORY = { shared: 0, status: 128, active: 256 } as const;

export const Pin = { deviceRead: 0, deviceWrite: 8, hostRead: 16, hostWrite: 24 } as const;
const PIN_MAX = 0xff;
export const WRITE_PINS = ((PIN_MAX << Pin.deviceWrite) | (PIN_MAX << Pin.hostWrite)) >>> 0;

/** Xen's own notes on a reference in use. Accessors over memory. */
export class ActiveEntry {
  readonly #u32: Uint32Array;
  readonly #at: number;
  constructor(u32: Uint32Array, at: number) {
    this.#u32 = u32;
    this.#at = at;
  }
  #get(i: number): number {
    return this.#u32[this.#at + i] ?? 0;
  }
  #set(i: number, v: number): void {
    this.#u32[this.#at + i] = v;
  }
  /** Four counts of 8 bits, see `Pin`. */
  get pin(): number {
    return this.#get(0);
  }
  set pin(v: number) {
    this.#set(0, v);
  }
  /** Who uses it. */
  get domid(): number {
    return this.#get(1);
  }
  set domid(v: number) {
    this.#set(1, v);
  }
  get isSubPage(): boolean {
    return this.#get(2) !== 0;
  }
  set isSubPage(v: boolean) {
    this.#set(2, v ? 1 : 0);
  }
  get mfn(): number {
    return this.#get(3);
  }
  set mfn(v: number) {
    this.#set(3, v);
  }
  get start(): number {
    return this.#get(4);
  }
  set start(v: number) {
    this.#set(4, v);
  }
  get length(): number {
    return this.#get(5);
  }
  set length(v: number) {
    this.#set(5, v);
  }
  /** Where a transitive grant comes from: domain and reference; the granter's own otherwise. */
  get transitiveDomid(): number {
    return this.#get(6);
  }
  set transitiveDomid(v: number) {
    this.#set(6, v);
  }
  get transitiveRef(): number {
    return this.#get(7);
  }
  set transitiveRef(v: number) {
    this.#set(7, v);
  }

  /** True when one more use of that kind can be counted. */
  canPin(kind: number): boolean {
    return ((this.pin >>> kind) & PIN_MAX) < PIN_MAX;
  }
  addPin(kind: number): void {
    this.pin = (this.pin + 2 ** kind) >>> 0;
  }
  dropPin(kind: number): void {
    if (((this.pin >>> kind) & PIN_MAX) === 0) throw new Error('grant: pin count below 0');
    this.pin = (this.pin - 2 ** kind) >>> 0;
  }
}

/** One mapping that the domain made; `flags` 0 when the handle is free. */
export interface Track {
  readonly domid: number;
  readonly ref: number;
  readonly flags: number;
}

export class GrantTable {
  readonly domain: DomainRef;
  readonly #memory: MachineMemory;
  readonly #mm: MemoryManager;
  readonly #u16: Uint16Array;
  readonly #words: number;

  constructor(memory: MachineMemory, u16: Uint16Array, mm: MemoryManager, domain: DomainRef) {
    this.#memory = memory;
    this.#u16 = u16;
    this.#mm = mm;
    this.domain = domain;
    this.#words = (domain.address + DomainLayout.offsets.grantPrivate) / 4;
  }

  #word(i: number): number {
    return this.#memory.u32[this.#words + i] ?? 0;
  }
  #setWord(i: number, v: number): void {
    this.#memory.u32[this.#words + i] = v;
  }
  #directory(i: number): number {
    return this.#memory.u32[this.#word(WORD.directory) * 1024 + i] ?? 0;
  }
  #setDirectory(i: number, v: number): void {
    this.#memory.u32[this.#word(WORD.directory) * 1024 + i] = v;
  }

  get version(): number {
    return this.domain.v.grantVersion;
  }
  get maxVersion(): number {
    return this.#word(WORD.maxVersion);
  }
  get frames(): number {
    return this.domain.v.grantFrames;
  }
  get statusFrames(): number {
    return this.#word(WORD.statusFrames);
  }
  /** How far the domain's own mappings have been undone. */
  get relinquished(): number {
    return this.#word(WORD.relinquish);
  }
  set relinquished(v: number) {
    this.#setWord(WORD.relinquish, v);
  }

  /** References that fit the present frames. */
  get entries(): number {
    return this.frames * (this.version === 2 ? V2_PER_FRAME : V1_PER_FRAME);
  }
  static statusFramesFor(frames: number): number {
    return Math.ceil((frames * V2_PER_FRAME) / STATUS_PER_FRAME);
  }

  init(maxFrames: number, maxMaptrackFrames: number, maxVersion: number): number {
    const directory = this.#mm.allocateXenFrame();
    if (directory === undefined) return -Errno.ENOMEM;
    this.#setWord(WORD.directory, directory);
    this.#setWord(WORD.maxVersion, maxVersion);
    const { v } = this.domain;
    v.grantVersion = 1;
    v.grantFrames = 0;
    v.grantMaxFrames = maxFrames;
    v.grantMaxMaptrack = maxMaptrackFrames;
    return maxFrames === 0 || this.grow(1) ? 0 : -Errno.ENOMEM;
  }

  /** More shared frames (and status frames); false when a limit or memory forbids it. */
  grow(wanted: number): boolean {
    if (wanted > this.domain.v.grantMaxFrames) return false;
    while (this.frames < wanted) {
      const index = this.frames;
      for (let i = 0; i < ACTIVE_FRAMES_PER_FRAME; i++) {
        const at = DIRECTORY.active + index * ACTIVE_FRAMES_PER_FRAME + i;
        if (this.#directory(at) !== 0) continue;
        const active = this.#mm.allocateXenFrame();
        if (active === undefined) return false;
        this.#setDirectory(at, active);
      }
      const shared = this.#mm.allocateXenFrame();
      if (shared === undefined) return false;
      this.#mm.shareXenFrame(this.domain, shared, true);
      this.#setDirectory(DIRECTORY.shared + index, shared);
      this.domain.v.grantFrames = index + 1;
    }
    return this.version !== 2 || this.populateStatus();
  }

  populateStatus(): boolean {
    const wanted = GrantTable.statusFramesFor(this.frames);
    while (this.statusFrames < wanted) {
      const status = this.#mm.allocateXenFrame();
      if (status === undefined) return false;
      this.#mm.shareXenFrame(this.domain, status, true);
      this.#setDirectory(DIRECTORY.status + this.statusFrames, status);
      this.#setWord(WORD.statusFrames, this.statusFrames + 1);
    }
    return true;
  }

  /** False when the guest still maps one of them: nothing is changed then. */
  unpopulateStatus(): boolean {
    for (let i = 0; i < this.statusFrames; i++)
      if (this.#mm.forGrants.references(this.statusFrame(i)) > 1) return false;
    this.#dropStatus();
    return true;
  }

  #dropStatus(): void {
    for (let i = 0; i < this.statusFrames; i++) {
      this.#mm.unshareXenFrame(this.domain, this.statusFrame(i));
      this.#setDirectory(DIRECTORY.status + i, 0);
    }
    this.#setWord(WORD.statusFrames, 0);
  }

  sharedFrame(i: number): number {
    return this.#directory(DIRECTORY.shared + i);
  }
  statusFrame(i: number): number {
    return this.#directory(DIRECTORY.status + i);
  }

  /** Zeroes the shared frames. */
  clear(): void {
    for (let i = 0; i < this.frames; i++) {
      this.#memory.frame(this.sharedFrame(i)).fill(0);
      this.#mm.frameWritten(this.sharedFrame(i));
    }
  }

  /** Byte address of a shared entry in the present version. */
  entryAddress(ref: number): number {
    const [perFrame, size] = this.version === 2 ? [V2_PER_FRAME, GrantEntryV2.size] : [V1_PER_FRAME, GrantEntryV1.size];
    return this.sharedFrame(Math.floor(ref / perFrame)) * PAGE_SIZE + (ref % perFrame) * size;
  }
  /** Byte address of the flags word that says what Xen does: in the entry (version 1) or the status array. */
  statusAddress(ref: number): number {
    if (this.version !== 2) return this.entryAddress(ref);
    return this.statusFrame(Math.floor(ref / STATUS_PER_FRAME)) * PAGE_SIZE + (ref % STATUS_PER_FRAME) * 2;
  }

  /** Flags and domid of an entry, read at once. */
  header(ref: number): number {
    return Atomics.load(this.#memory.u32, this.entryAddress(ref) / 4);
  }
  compareExchangeHeader(ref: number, expected: number, value: number): number {
    return Atomics.compareExchange(this.#memory.u32, this.entryAddress(ref) / 4, expected, value);
  }
  /** Sets flags of an entry itself, whatever the version. */
  setHeaderFlags(ref: number, flags: number): void {
    Atomics.or(this.#memory.u32, this.entryAddress(ref) / 4, flags);
  }
  setStatusFlags(ref: number, flags: number): void {
    Atomics.or(this.#u16, this.statusAddress(ref) / 2, flags);
  }
  clearStatusFlags(ref: number, flags: number): void {
    Atomics.and(this.#u16, this.statusAddress(ref) / 2, ~flags & 0xffff);
  }

  active(ref: number): ActiveEntry {
    const frame = this.#directory(DIRECTORY.active + Math.floor(ref / ACTIVE_PER_FRAME));
    return new ActiveEntry(this.#memory.u32, frame * 1024 + (ref % ACTIVE_PER_FRAME) * ACTIVE_WORDS);
  }

  /* ---- maptrack ---- */

  #track(handle: number): number {
    const frame = this.#memory.u32[this.#word(WORD.trackDirectory) * 1024 + Math.floor(handle / TRACKS_PER_FRAME)] ?? 0;
    return frame * 1024 + (handle % TRACKS_PER_FRAME) * TRACK_WORDS;
  }
  get handles(): number {
    return this.#word(WORD.trackFrames) * TRACKS_PER_FRAME;
  }

  /** A free handle, or undefined at the limit. */
  allocateHandle(): number | undefined {
    if (this.#word(WORD.freeTrack) === 0 && !this.#growTracks()) return undefined;
    const handle = this.#word(WORD.freeTrack) - 1;
    this.#setWord(WORD.freeTrack, this.#memory.u32[this.#track(handle) + 3] ?? 0);
    return handle;
  }

  #growTracks(): boolean {
    const frames = this.#word(WORD.trackFrames);
    if (frames >= Math.min(this.domain.v.grantMaxMaptrack, MAX_MAPTRACK_FRAMES)) return false;
    if (this.#word(WORD.trackDirectory) === 0) {
      const directory = this.#mm.allocateXenFrame();
      if (directory === undefined) return false;
      this.#setWord(WORD.trackDirectory, directory);
    }
    const frame = this.#mm.allocateXenFrame();
    if (frame === undefined) return false;
    this.#memory.u32[this.#word(WORD.trackDirectory) * 1024 + frames] = frame;
    this.#setWord(WORD.trackFrames, frames + 1);
    for (let i = TRACKS_PER_FRAME - 1; i >= 0; i--) this.freeHandle(frames * TRACKS_PER_FRAME + i);
    return true;
  }

  freeHandle(handle: number): void {
    const at = this.#track(handle);
    this.#memory.u32[at + 2] = 0;
    this.#memory.u32[at + 3] = this.#word(WORD.freeTrack);
    this.#setWord(WORD.freeTrack, handle + 1);
  }

  track(handle: number): Track | undefined {
    if (handle >= this.handles) return undefined;
    const at = this.#track(handle);
    const flags = this.#memory.u32[at + 2] ?? 0;
    if (flags === 0) return undefined;
    return { domid: this.#memory.u32[at] ?? 0, ref: this.#memory.u32[at + 1] ?? 0, flags };
  }
  setTrack(handle: number, track: Track): void {
    const at = this.#track(handle);
    this.#memory.u32[at] = track.domid;
    this.#memory.u32[at + 1] = track.ref;
    this.#memory.u32[at + 2] = track.flags;
  }

  /** Gives everything back. */
  free(): void {
    const directory = this.#word(WORD.directory);
    if (directory === 0) return;
    this.#dropStatus();
    for (let i = 0; i < this.frames; i++) this.#mm.unshareXenFrame(this.domain, this.sharedFrame(i));
    for (let i = 0; i < MAX_FRAMES * ACTIVE_FRAMES_PER_FRAME; i++) {
      const active = this.#directory(DIRECTORY.active + i);
      if (active !== 0) this.#mm.freeXenFrame(active);
    }
    const tracks = this.#word(WORD.trackDirectory);
    for (let i = 0; i < this.#word(WORD.trackFrames); i++)
      this.#mm.freeXenFrame(this.#memory.u32[tracks * 1024 + i] ?? 0);
    if (tracks !== 0) this.#mm.freeXenFrame(tracks);
    this.#mm.freeXenFrame(directory);
    for (const word of Object.values(WORD)) this.#setWord(word, 0);
    this.domain.v.grantFrames = 0;
  }
}
