/** Files that tcpdump and Wireshark read: pcap with nanoseconds (draft-ietf-opsawg-pcap), Ethernet frames. */

const MAGIC_NANOSECONDS = 0xa1b2_3c4d;
const VERSION = [2, 4] as const;
const LINKTYPE_ETHERNET = 1;
const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const NS_PER_S = 1_000_000_000n;

/** What a file begins with. `snapLength`: bytes kept of each frame. */
export function pcapHeader(snapLength: number): Uint8Array {
  const bytes = new Uint8Array(FILE_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC_NANOSECONDS, true);
  view.setUint16(4, VERSION[0], true);
  view.setUint16(6, VERSION[1], true);
  view.setUint32(16, snapLength, true);
  view.setUint32(20, LINKTYPE_ETHERNET, true);
  return bytes;
}

/** One frame; `wallNs` since the Unix epoch. A copy: the frame may go on. */
export function pcapRecord(wallNs: bigint, frame: Uint8Array, snapLength: number): Uint8Array {
  const kept = Math.min(frame.length, snapLength);
  const bytes = new Uint8Array(RECORD_HEADER_BYTES + kept);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Number(wallNs / NS_PER_S), true);
  view.setUint32(4, Number(wallNs % NS_PER_S), true);
  view.setUint32(8, kept, true);
  view.setUint32(12, frame.length, true);
  bytes.set(frame.subarray(0, kept), RECORD_HEADER_BYTES);
  return bytes;
}
