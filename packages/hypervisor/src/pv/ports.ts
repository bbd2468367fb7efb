/**
 * What is behind the I/O ports of a PV domU: nothing (reads are all ones), but for the latches that Xen keeps:
 * channel 2 of the PIT with the speaker gate, the index of the CMOS, CONFIG_ADDRESS. `guest_io_read` and
 * `guest_io_write` in xen/arch/x86/pv/emul-priv-op.c, `pv_pit_handler`. The latches are per vCPU here.
 */
import type { VcpuRef } from '../state/refs.ts';
import type { PvVcpuState, PvVcpuView } from './vcpu-state.ts';

const PIT_CHANNEL_2 = 0x42;
const PIT_CONTROL = 0x43;
const SPEAKER = 0x61;
const CMOS_INDEX = 0x70;
const CONFIG_ADDRESS = 0xcf8;
const PIT_HZ = 1_193_182n;
const NS = 1_000_000_000n;
/** Control word: which bytes are read and written. */
const ACCESS_LATCH = 0;
const ACCESS_LOW = 1;
const ACCESS_HIGH = 2;
const SPEAKER_GATE = 1;
const SPEAKER_WRITABLE = 3;
const SPEAKER_REFRESH = 0x10;
const SPEAKER_OUT = 0x20;
const MODE_ONE_SHOT = 0;
const MODE_SQUARE = 3;

export class PvPorts {
  readonly #states: PvVcpuState;
  readonly #nowNs: () => bigint;

  constructor(states: PvVcpuState, nowNs: () => bigint) {
    this.#states = states;
    this.#nowNs = nowNs;
  }

  /** `size` bytes as an unsigned number. */
  read(vcpu: VcpuRef, port: number, size: number): number {
    const state = this.#states.private(vcpu);
    if (port === CONFIG_ADDRESS && size === 4) return state.pciAddress;
    let data = 0;
    for (let i = 0; i < size; i++) data += this.#readByte(state, port + i) * 2 ** (8 * i);
    return data;
  }

  write(vcpu: VcpuRef, port: number, size: number, data: number): void {
    const state = this.#states.private(vcpu);
    if (port === CONFIG_ADDRESS && size === 4) {
      state.pciAddress = data;
      return;
    }
    for (let i = 0; i < size; i++) this.#writeByte(state, port + i, (data >>> (8 * i)) & 0xff);
  }

  #readByte(state: PvVcpuView, port: number): number {
    switch (port) {
      case PIT_CHANNEL_2:
        return this.#readCounter(state);
      case PIT_CONTROL:
        return 0;
      case SPEAKER: {
        const refresh = (this.#nowNs() / 15_000n) & 1n ? SPEAKER_REFRESH : 0;
        return state.pitSpeaker | refresh | (this.#output(state) ? SPEAKER_OUT : 0);
      }
      case CMOS_INDEX:
        return state.cmosIndex;
      default:
        return 0xff;
    }
  }

  #writeByte(state: PvVcpuView, port: number, value: number): void {
    switch (port) {
      case PIT_CHANNEL_2:
        this.#writeCounter(state, value);
        break;
      case PIT_CONTROL:
        if (value >> 6 !== 2) break;
        if (((value >> 4) & 3) === ACCESS_LATCH) {
          state.pitLatch = this.#count(state);
          state.pitLatched = 1;
          break;
        }
        state.pitControl = value;
        state.pitAccess = 0;
        state.pitLatched = 0;
        state.pitReload = 0;
        state.pitStartNs = 0n;
        break;
      case SPEAKER:
        if ((value & SPEAKER_GATE) !== 0 && (state.pitSpeaker & SPEAKER_GATE) === 0) state.pitStartNs = this.#nowNs();
        state.pitSpeaker = value & SPEAKER_WRITABLE;
        break;
      case CMOS_INDEX:
        state.cmosIndex = value & 0x7f;
        break;
    }
  }

  #mode(state: PvVcpuView): number {
    return (state.pitControl >> 1) & 7;
  }

  /** PIT ticks since the count was loaded. */
  #elapsed(state: PvVcpuView): bigint {
    return ((this.#nowNs() - state.pitStartNs) * PIT_HZ) / NS;
  }

  #count(state: PvVcpuView): number {
    const reload = BigInt(state.pitReload === 0 ? 0x10000 : state.pitReload);
    const elapsed = this.#elapsed(state);
    if (this.#mode(state) === MODE_ONE_SHOT) return Number(BigInt.asUintN(16, reload - elapsed));
    return Number(reload - (elapsed % reload)) & 0xffff;
  }

  #output(state: PvVcpuView): boolean {
    if (state.pitStartNs === 0n) return this.#mode(state) !== MODE_ONE_SHOT;
    const reload = BigInt(state.pitReload === 0 ? 0x10000 : state.pitReload);
    const elapsed = this.#elapsed(state);
    if (this.#mode(state) === MODE_SQUARE) return elapsed % reload < (reload + 1n) / 2n;
    return elapsed >= reload;
  }

  #readCounter(state: PvVcpuView): number {
    const count = state.pitLatched !== 0 ? state.pitLatch : this.#count(state);
    const access = (state.pitControl >> 4) & 3;
    const high = access === ACCESS_HIGH || (access !== ACCESS_LOW && state.pitAccess === 1);
    const done = access === ACCESS_LOW || access === ACCESS_HIGH || state.pitAccess === 1;
    if (done) state.pitLatched = 0;
    state.pitAccess = done ? 0 : 1;
    return high ? count >> 8 : count & 0xff;
  }

  #writeCounter(state: PvVcpuView, value: number): void {
    const access = (state.pitControl >> 4) & 3;
    if (access === ACCESS_LOW) state.pitReload = value;
    else if (access === ACCESS_HIGH) state.pitReload = value << 8;
    else if (state.pitAccess === 0) {
      state.pitReload = value;
      state.pitAccess = 1;
      return;
    } else {
      state.pitReload = (state.pitReload & 0xff) | (value << 8);
      state.pitAccess = 0;
    }
    state.pitStartNs = this.#nowNs();
  }
}
