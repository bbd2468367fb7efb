/**
 * What a crashed guest leaves in Xen's log: registers, code bytes and the top of its stack, in the form of Xen's
 * `domain_crash` (`arch/x86/x86_64/traps.c`), so that `xm dmesg` reads as people know it.
 */
import { CPU_STATE_SIZE, CpuState } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import { VCPU_CPU_STATE, VcpuFlag } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import { XEN_VERSION_TEXT } from '../version/identity.ts';

const STACK_ROWS = 5;
const WORDS_PER_ROW = 4;
const CODE_BEFORE = 8;
const CODE_BYTES = 24;

const hex = (value: bigint, digits = 16): string => BigInt.asUintN(64, value).toString(16).padStart(digits, '0');

/** Lines without the `(XEN) ` prefix. `engine` is given when it has the vCPU loaded; else the saved state is read. */
export function crashReport(memory: MachineMemory, vcpu: VcpuRef, engine?: Engine): string[] {
  const state = engine?.state ?? savedState(memory, vcpu);
  const mode = vcpu.v.kernelMode ? 'pv guest' : 'pv guest user';
  const lines = [
    `Domain ${vcpu.domid} (vcpu#${vcpu.vcpuId}) crashed on cpu#${vcpu.v.processor}:`,
    `----[ Xen-${XEN_VERSION_TEXT}  x86_64  debug=n  Not tainted ]----`,
    `CPU:    ${vcpu.v.processor}`,
    `RIP:    ${hex(BigInt(state.selector(1)), 4)}:[<${hex(state.rip)}>]`,
    `RFLAGS: ${hex(state.rflags)}   EM: 1   CONTEXT: ${mode} (d${vcpu.domid}v${vcpu.vcpuId})`,
    `rax: ${hex(state.rax)}   rbx: ${hex(state.rbx)}   rcx: ${hex(state.rcx)}`,
    `rdx: ${hex(state.rdx)}   rsi: ${hex(state.rsi)}   rdi: ${hex(state.rdi)}`,
    `rbp: ${hex(state.rbp)}   rsp: ${hex(state.rsp)}   r8:  ${hex(state.r8)}`,
    `r9:  ${hex(state.r9)}   r10: ${hex(state.r10)}   r11: ${hex(state.r11)}`,
    `r12: ${hex(state.r12)}   r13: ${hex(state.r13)}   r14: ${hex(state.r14)}`,
    `r15: ${hex(state.r15)}   cr0: ${hex(state.cr0)}   cr4: ${hex(state.cr4)}`,
    `cr3: ${hex(state.cr3)}   cr2: ${hex(state.cr2)}`,
    `fsb: ${hex(state.segmentBase(4))}   gsb: ${hex(state.segmentBase(5))}   gss: ${hex(state.kernelGsBase)}`,
    `ds: ${hex(BigInt(state.selector(3)), 4)}   es: ${hex(BigInt(state.selector(0)), 4)}   ` +
      `fs: ${hex(BigInt(state.selector(4)), 4)}   gs: ${hex(BigInt(state.selector(5)), 4)}   ` +
      `ss: ${hex(BigInt(state.selector(2)), 4)}   cs: ${hex(BigInt(state.selector(1)), 4)}`,
  ];
  if (engine) lines.push(...codeBytes(engine, state.rip), ...stackTrace(engine, state.rsp));
  return lines;
}

function savedState(memory: MachineMemory, vcpu: VcpuRef): CpuState {
  const at = vcpu.address + VCPU_CPU_STATE;
  return new CpuState(memory.u8.subarray(at, at + CPU_STATE_SIZE));
}

function codeBytes(engine: Engine, rip: bigint): string[] {
  const bytes: string[] = [];
  for (let i = -CODE_BEFORE; i < CODE_BYTES - CODE_BEFORE; i++) {
    const byte = new Uint8Array(1);
    const fault = engine.readVirtual(BigInt.asUintN(64, rip + BigInt(i)), byte, true);
    const text = fault ? '??' : (byte[0] ?? 0).toString(16).padStart(2, '0');
    bytes.push(i === 0 ? `<${text}>` : text);
  }
  return [`Guest code around <${hex(rip)}>:`, ` ${bytes.join(' ')}`];
}

function stackTrace(engine: Engine, rsp: bigint): string[] {
  const lines = [`Guest stack trace from rsp=${hex(rsp)}:`];
  for (let row = 0; row < STACK_ROWS; row++) {
    const words: string[] = [];
    for (let i = 0; i < WORDS_PER_ROW; i++) {
      const bytes = new Uint8Array(8);
      const address = BigInt.asUintN(64, rsp + BigInt((row * WORDS_PER_ROW + i) * 8));
      if (engine.readVirtual(address, bytes, true)) {
        if (words.length > 0) lines.push(`  ${words.join(' ')}`);
        return [...lines, '  Fault while accessing guest memory.'];
      }
      words.push(hex(new DataView(bytes.buffer).getBigUint64(0, true)));
    }
    lines.push(`  ${words.join(' ')}`);
  }
  return lines;
}

/** For debug keys: where a vCPU stands, what it waits for. Deadlines are system times in ms. */
export function vcpuLine(memory: MachineMemory, vcpu: VcpuRef): string {
  const state = savedState(memory, vcpu);
  const { flags } = vcpu.v;
  const { timerDeadlineNs, periodicDeadlineNs, pollDeadlineNs, infoMfn, infoOffset } = vcpu.v;
  const info = infoMfn * PAGE_SIZE + infoOffset;
  const upcall = [memory.u8[info] ?? 0, memory.u8[info + 1] ?? 0];
  const ms = (ns: bigint): string => (ns === 0n ? 'off' : String(ns / 1_000_000n));
  const words = Object.entries(VcpuFlag).filter(([, bit]) => flags & bit);
  return (
    `d${vcpu.domid}v${vcpu.vcpuId} cpu${vcpu.v.processor} running=${vcpu.v.isRunning} ` +
    `[${words.map(([name]) => name).join(' ')}] rip=${hex(state.rip)} rsp=${hex(state.rsp)} ` +
    `upcall_pend=${upcall[0]} upcall_mask=${upcall[1]} timer=${ms(timerDeadlineNs)} ` +
    `periodic=${ms(periodicDeadlineNs)} poll=${ms(pollDeadlineNs)}`
  );
}
