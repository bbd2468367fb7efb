/** Port I/O: permission by IOPL and the TSS bitmap; the access itself is an exit. Intel SDM vol. 1 chapter 19. */
import { ExitReason } from '../../engine/exit-reason.ts';
import { VECTOR } from '../helper.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { isProtected, isVirtual8086 } from './addressing.ts';

/** Offset of the bitmap's address in a TSS. */
const TSS_IO_MAP = 0x66n;

function requirePermission(context: HelperContext, port: number, size: number): void {
  const { state, memory, fault } = context;
  if (!isProtected(state)) return;
  const iopl = (state.eflags >> 12) & 3;
  if (!isVirtual8086(state) && state.cpl <= iopl) return;
  if (!(state.trAttributes & 0x80) || Number(TSS_IO_MAP) + 1 > state.trLimit) fault(VECTOR.generalProtection, 0);
  const map = Number(memory.read(state.trBase + TSS_IO_MAP, 2, true));
  const at = map + (port >> 3);
  if (at + 1 > state.trLimit) fault(VECTOR.generalProtection, 0);
  const bits = Number(memory.read(state.trBase + BigInt(at), 2, true)) >> (port & 7);
  if (bits & ((1 << size) - 1)) fault(VECTOR.generalProtection, 0);
}

function access(context: HelperContext, port: bigint, size: bigint, isWrite: boolean): void {
  requirePermission(context, Number(port), Number(size));
  context.exit(ExitReason.io, true, { port: Number(port), size: Number(size), isWrite });
}

/** String I/O leaves with RIP at the instruction: the owner moves one element and the pointers (see docs/LIMITS.md). */
function stringAccess(context: HelperContext, args: readonly bigint[], isWrite: boolean): void {
  const [size = 1n, addressSize = 8n, mode = 0n] = args;
  const { state } = context;
  const port = Number(state.rdx & 0xffffn);
  requirePermission(context, port, Number(size));
  const mask = (1n << (addressSize * 8n)) - 1n;
  if (mode !== 0n && (state.rcx & mask) === 0n) return;
  context.exit(ExitReason.io, false, { port, size: Number(size), isWrite });
}

export const portHelpers: Readonly<Record<string, Helper>> = {
  in(context, [size = 1n, port = 0n]) {
    access(context, port, size, false);
  },
  out(context, [size = 1n, port = 0n]) {
    access(context, port, size, true);
  },
  ins(context, args) {
    stringAccess(context, args, false);
  },
  outs(context, args) {
    stringAccess(context, args, true);
  },
};
