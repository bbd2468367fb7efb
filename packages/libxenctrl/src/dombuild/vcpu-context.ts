/**
 * The first vCPU of a new PV guest, and its start_info and shared_info, by width. The 32-bit structures' offsets are
 * those that a C compiler gives for `arch-x86/xen-x86_32.h` and `xen.h`.
 */
import { bytesOf } from '@xenhost/base';
import { CpuUserRegs, MAX_GUEST_CMDLINE, PAGE_SIZE, StartInfo, VcpuGuestContext } from '@xenhost/xen-abi';

const RFLAGS_IF = 0x200;
const DR6_DEFAULT = 0xffff_0ff0n;
const DR7_DEFAULT = 0x400n;
const VGCF_IN_KERNEL = 4;
const VGCF_ONLINE = 32;
/** Xen's flat segments (`FLAT_KERNEL_*`). */
const CS64 = 0xe033;
const SS64 = 0xe02b;
const CS32 = 0xe019;
const DS32 = 0xe021;

export interface FirstVcpu {
  readonly entry: bigint;
  readonly stackTop: bigint;
  readonly startInfo: bigint;
  /** Machine frame of the top page table. */
  readonly rootMfn: number;
}

export function firstVcpuContext(bits: 32 | 64, vcpu: FirstVcpu): Uint8Array {
  return bits === 64 ? context64(vcpu) : context32(vcpu);
}

function context64({ entry, stackTop, startInfo, rootMfn }: FirstVcpu): Uint8Array {
  const { bytes } = VcpuGuestContext.create({
    flags: BigInt(VGCF_IN_KERNEL | VGCF_ONLINE),
    kernel_ss: BigInt(SS64),
    kernel_sp: stackTop,
  });
  Object.assign(CpuUserRegs.view(bytesOf(bytes), VcpuGuestContext.offsets.user_regs), {
    rip: entry,
    rsp: stackTop,
    rsi: startInfo,
    rflags: BigInt(RFLAGS_IF),
    cs: CS64,
    ss: SS64,
  });
  const { dv } = bytesOf(bytes);
  const { ctrlreg, debugreg } = VcpuGuestContext.offsets;
  dv.setBigUint64(ctrlreg + 3 * 8, BigInt(rootMfn) << 12n, true);
  dv.setBigUint64(debugreg + 6 * 8, DR6_DEFAULT, true);
  dv.setBigUint64(debugreg + 7 * 8, DR7_DEFAULT, true);
  return bytes;
}

/** `vcpu_guest_context` of a 32-bit guest. */
const C32 = {
  size: 2800, flags: 512, regs: 516, kernelSs: 2708, kernelSp: 2712, ctrlreg: 2716, debugreg: 2748,
  esi: 12, eip: 32, cs: 36, eflags: 40, esp: 44, ss: 48, es: 52, ds: 56, fs: 60, gs: 64,
} as const; // prettier-ignore

function context32({ entry, stackTop, startInfo, rootMfn }: FirstVcpu): Uint8Array {
  const bytes = new Uint8Array(C32.size);
  const { dv } = bytesOf(bytes);
  const u32 = (at: number, value: number | bigint): void => {
    dv.setUint32(at, Number(BigInt.asUintN(32, BigInt(value))), true);
  };
  u32(C32.flags, VGCF_IN_KERNEL | VGCF_ONLINE);
  u32(C32.regs + C32.esi, startInfo);
  u32(C32.regs + C32.eip, entry);
  u32(C32.regs + C32.cs, CS32);
  u32(C32.regs + C32.eflags, RFLAGS_IF);
  u32(C32.regs + C32.esp, stackTop);
  for (const segment of [C32.ss, C32.es, C32.ds, C32.fs, C32.gs]) u32(C32.regs + segment, DS32);
  u32(C32.kernelSs, DS32);
  u32(C32.kernelSp, stackTop);
  u32(C32.ctrlreg + 3 * 4, (BigInt(rootMfn) << 12n) | (BigInt(rootMfn) >> 20n));
  u32(C32.debugreg + 6 * 4, DR6_DEFAULT);
  u32(C32.debugreg + 7 * 4, DR7_DEFAULT);
  return bytes;
}

export interface StartInfoValues {
  readonly magic: string;
  readonly nrPages: number;
  /** Machine address. */
  readonly sharedInfo: bigint;
  readonly flags: number;
  readonly storeMfn: number;
  readonly storePort: number;
  readonly consoleMfn: number;
  readonly consolePort: number;
  readonly ptBase: bigint;
  readonly nrPtFrames: number;
  readonly mfnList: bigint;
  readonly modStart: bigint;
  readonly modLen: number;
  /** With its NUL at most MAX_GUEST_CMDLINE bytes. */
  readonly cmdline: Uint8Array;
  readonly firstP2mPfn: number;
  readonly nrP2mFrames: number;
}

/** `start_info` of a 32-bit guest. */
const S32 = {
  nrPages: 32, sharedInfo: 36, flags: 40, storeMfn: 44, storeEvtchn: 48, consoleMfn: 52, consoleEvtchn: 56, ptBase: 60,
  nrPtFrames: 64, mfnList: 68, modStart: 72, modLen: 76, cmdLine: 80, firstP2mPfn: 1104, nrP2mFrames: 1108,
} as const; // prettier-ignore

/** A whole page. */
export function startInfoPage(bits: 32 | 64, v: StartInfoValues): Uint8Array {
  const page = new Uint8Array(PAGE_SIZE);
  const bytes = bytesOf(page);
  page.set(new TextEncoder().encode(v.magic));
  if (bits === 64) {
    Object.assign(StartInfo.view(bytes, 0), {
      nr_pages: BigInt(v.nrPages),
      shared_info: v.sharedInfo,
      flags: v.flags,
      store_mfn: BigInt(v.storeMfn),
      store_evtchn: v.storePort,
      console_mfn: BigInt(v.consoleMfn),
      console_evtchn: v.consolePort,
      pt_base: v.ptBase,
      nr_pt_frames: BigInt(v.nrPtFrames),
      mfn_list: v.mfnList,
      mod_start: v.modStart,
      mod_len: BigInt(v.modLen),
      first_p2m_pfn: BigInt(v.firstP2mPfn),
      nr_p2m_frames: BigInt(v.nrP2mFrames),
    });
    page.set(v.cmdline.subarray(0, MAX_GUEST_CMDLINE - 1), StartInfo.offsets.cmd_line);
    return page;
  }
  const words: readonly (readonly [number, number | bigint])[] = [
    [S32.nrPages, v.nrPages], [S32.sharedInfo, v.sharedInfo], [S32.flags, v.flags], [S32.storeMfn, v.storeMfn],
    [S32.storeEvtchn, v.storePort], [S32.consoleMfn, v.consoleMfn], [S32.consoleEvtchn, v.consolePort],
    [S32.ptBase, v.ptBase], [S32.nrPtFrames, v.nrPtFrames], [S32.mfnList, v.mfnList], [S32.modStart, v.modStart],
    [S32.modLen, v.modLen], [S32.firstP2mPfn, v.firstP2mPfn], [S32.nrP2mFrames, v.nrP2mFrames],
  ]; // prettier-ignore
  for (const [at, value] of words) bytes.dv.setUint32(at, Number(BigInt.asUintN(32, BigInt(value))), true);
  page.set(v.cmdline.subarray(0, MAX_GUEST_CMDLINE - 1), S32.cmdLine);
  return page;
}

const LEGACY_VCPUS = 32;
const VCPU_INFO_SIZE = 64;
const UPCALL_MASK = 1;

/** A fresh shared_info: zeros, events masked on every vCPU. The same in both widths. */
export function sharedInfoPage(): Uint8Array {
  const page = new Uint8Array(PAGE_SIZE);
  for (let i = 0; i < LEGACY_VCPUS; i++) page[i * VCPU_INFO_SIZE + UPCALL_MASK] = 1;
  return page;
}
