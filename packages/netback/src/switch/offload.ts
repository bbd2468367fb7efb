/** What a frame becomes for a port whose other side cannot do what its sender left undone. Made once, however many ports. */
import { completeChecksum } from './checksum.ts';
import type { EthernetFrame, PortOffloads } from './frame.ts';
import { segmentFrame } from './segment.ts';

const NONE: readonly EthernetFrame[] = [];

export class OffloadedFrame {
  readonly #frame: EthernetFrame;
  readonly #whole: readonly EthernetFrame[];
  #cut: readonly EthernetFrame[] | undefined;
  #completed: readonly EthernetFrame[] | undefined;

  constructor(frame: EthernetFrame) {
    this.#frame = frame;
    this.#whole = [frame];
  }

  /** Whether the port takes it as it is. */
  static asItIs({ checksum, gso }: Pick<EthernetFrame, 'checksum' | 'gso'>, accepts: PortOffloads): boolean {
    if (checksum === 'complete' && !gso) return true;
    return accepts.checksumPartial && (!gso || accepts.gso.has(gso.type));
  }

  /** Frames that the port can take; none when the frame is not what its flags say. */
  for(accepts: PortOffloads): readonly EthernetFrame[] {
    const { bytes, checksum, gso } = this.#frame;
    if (gso && !(accepts.checksumPartial && accepts.gso.has(gso.type))) {
      this.#cut ??= segmentFrame(bytes, gso)?.map((segment) => ({ bytes: segment, checksum: 'complete' })) ?? NONE;
      return this.#cut;
    }
    if (checksum === 'partial' && !accepts.checksumPartial) {
      this.#completed ??= completed(bytes);
      return this.#completed;
    }
    return this.#whole;
  }
}

function completed(frame: Uint8Array): readonly EthernetFrame[] {
  const bytes = completeChecksum(frame);
  return bytes ? [{ bytes, checksum: 'complete' }] : NONE;
}
