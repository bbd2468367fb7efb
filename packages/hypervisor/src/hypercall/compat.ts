/**
 * Old forms of hypercalls, one structure holding command and arguments: event_channel_op (16) and physdev_op (19).
 * `xen/include/public/event_channel.h` struct evtchn_op, `physdev.h` struct physdev_op.
 */
import { Errno } from '@xenhost/base';
import type { HypercallCall, HypercallHandler, HypercallResult } from './types.ts';

/** Offset of the union behind `cmd`. */
const EVTCHN_UNION = 4n;
const PHYSDEV_UNION = 8n;
/** Commands the old forms know. */
const LAST_EVTCHN_CMD = 9;
const LAST_PHYSDEV_CMD = 11;

/** The handler of the new form, called with command and pointer taken apart. */
function compat(handler: HypercallHandler, union: bigint, lastCommand: number): HypercallHandler {
  return (call: HypercallCall): HypercallResult => {
    const at = call.args[0] ?? 0n;
    const head = call.memory.read(at, 4);
    if (!head) return -Errno.EFAULT;
    const cmd = new DataView(head.buffer, head.byteOffset).getUint32(0, true);
    if (cmd > lastCommand) return -Errno.ENOSYS;
    return handler({ ...call, args: [BigInt(cmd), at + union] });
  };
}

export const eventChannelOpCompat = (handler: HypercallHandler): HypercallHandler =>
  compat(handler, EVTCHN_UNION, LAST_EVTCHN_CMD);
export const physdevOpCompat = (handler: HypercallHandler): HypercallHandler =>
  compat(handler, PHYSDEV_UNION, LAST_PHYSDEV_CMD);
