/** vm_assist (21): which conveniences of Xen a PV guest has switched on. `xen/include/public/xen.h`, VMASST_*. */
import { Errno } from '@xenhost/base';
import { VMASST } from '@xenhost/xen-abi';
import type { HypercallCall, HypercallResult } from './types.ts';

const ENABLE = 0;
const DISABLE = 1;
/** Some mean nothing to 64-bit guests, which may ask for them all the same. */
const VALID: readonly number[] = Object.values(VMASST);
/** The same as a bitmap (PV64_VM_ASSIST_MASK), as a vCPU's context has it. */
export const VALID_ASSISTS = VALID.reduce((mask, type) => mask | (1n << BigInt(type)), 0n);

export function vmAssist(call: HypercallCall): HypercallResult {
  const cmd = Number(BigInt.asUintN(32, call.args[0] ?? 0n));
  const type = Number(BigInt.asUintN(32, call.args[1] ?? 0n));
  if (!VALID.includes(type)) return -Errno.EINVAL;
  if (cmd !== ENABLE && cmd !== DISABLE) return -Errno.ENOSYS;
  // m2p_strict hides the M2P from user mode; the record has no place for it and the M2P holds nothing secret.
  if (type >= 32) return 0;
  const { v } = call.domain;
  const bit = 1 << type;
  v.vmAssist = (cmd === ENABLE ? v.vmAssist | bit : v.vmAssist & ~bit) >>> 0;
  return 0;
}
