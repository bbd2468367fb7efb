/** Which queue of a frontend a frame goes to: one flow's frames stay in order in one queue. Not netif.h's hashing, which is the guest's. */
import { IP_PROTOCOL, ipPacket } from '../switch/headers.ts';

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
/** Spreads over the low bits what FNV leaves in the high ones (the finish of MurmurHash3). */
const FINISH = [0x85ebca6b, 0xc2b2ae35] as const;

/** Of addresses and ports where there are some, else of the Ethernet addresses. `length`: of the whole frame. */
export function flowHash(frame: Uint8Array, length = frame.length): number {
  const ip = ipPacket(frame, length);
  if (!ip) return finish(hash(frame, 0, 12, FNV_OFFSET));
  const [from, to] = ip.version === 4 ? [ip.ipAt + 12, ip.ipAt + 20] : [ip.ipAt + 8, ip.ipAt + 40];
  const addresses = hash(frame, from, to, FNV_OFFSET);
  const ported = (ip.protocol === IP_PROTOCOL.tcp || ip.protocol === IP_PROTOCOL.udp) && !ip.fragment;
  return finish(ported ? hash(frame, ip.transportAt, ip.transportAt + 4, addresses) : addresses);
}

function hash(bytes: Uint8Array, from: number, to: number, seed: number): number {
  let value = seed;
  for (const byte of bytes.subarray(from, to)) value = Math.imul(value ^ byte, FNV_PRIME);
  return value;
}

function finish(value: number): number {
  let mixed = value;
  for (const factor of FINISH) mixed = Math.imul(mixed ^ (mixed >>> 15), factor);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
