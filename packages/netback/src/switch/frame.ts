/**
 * What passes between a vif (or an uplink, a link, a capture) and the switch: Ethernet frames with what a checksum or
 * segmentation offload left undone, and the two interfaces that meet here. What the flags mean is netif.h's
 * (xen/include/public/io/netif.h): NETTXF_csum_blank and the GSO extra info.
 */

/** The kinds of large segments a frame may be (XEN_NETIF_GSO_TYPE_*). */
export type GsoType = 'tcpv4' | 'tcpv6';

/** A frame larger than its receiver's link: to be cut in TCP segments of `size` bytes of payload each. */
export interface Gso {
  readonly type: GsoType;
  /** Bytes of TCP payload of each segment but the last; above 0. */
  readonly size: number;
}

/** One layer 2 frame. The bytes belong to whoever got the frame last: nobody writes to them in place. */
export interface EthernetFrame {
  /** From the destination MAC on, without the frame check sequence; at least 14 bytes, up to 65,550 with GSO. */
  readonly bytes: Uint8Array;
  /** `partial`: the TCP or UDP checksum field holds only the sum of the pseudo header (csum_blank). */
  readonly checksum: 'complete' | 'partial';
  readonly gso?: Gso;
}

/** What a port's other side can take without our completing checksums or cutting segments for it. */
export interface PortOffloads {
  readonly checksumPartial: boolean;
  readonly gso: ReadonlySet<GsoType>;
}

/** Takes a frame; false when there is no room and it was dropped. */
export type FrameReceiver = (frame: EthernetFrame) => boolean;

/** The beginning of a frame whose rest is still in its sender's pages. */
export interface FrameHead {
  /** All headers, from the destination MAC to TCP's. */
  readonly bytes: Uint8Array;
  /** Of the whole frame. */
  readonly length: number;
  readonly checksum: EthernetFrame['checksum'];
  readonly gso?: Gso;
}

/** One port of a switch, as its owner (a vif, an uplink) sees it. */
export interface SwitchPort {
  /** As a bridge's tools would print it: vif1.0. */
  readonly name: string;
  readonly accepts: PortOffloads;
  /** From the port's owner (a guest) into the switch; never blocks and never throws for what a guest sent. */
  send(frame: EthernetFrame): void;
  /**
   * Calls `hand` with the one guest to which the frame would go, as it is and unseen by others: that may get it without the switch.
   * True, and the frame counts as passed, if `hand` says that it did; else it has to be sent whole.
   */
  direct?(head: FrameHead, hand: (to: FrameReceiver) => boolean): boolean;
  /** Where the switch puts what is for the owner; frames are dropped until it is set. */
  setReceiver(receiver: FrameReceiver): void;
  /** Leaves the switch; later sends are dropped. */
  close(): void;
}

/** What a port may send, beyond the switch's own rules; absent means anything. */
export interface PortFilter {
  /** Only frames from this MAC (antispoof). */
  readonly mac?: string;
  /** Only IPv4 packets and ARP from these addresses (the vif's `ip` key with a script that filters). */
  readonly ips?: readonly string[];
}

export interface AttachOptions {
  /** The bridge's name; it comes into being with its first port where the configuration lets it. */
  readonly bridge: string;
  readonly name: string;
  /** The guest's own address: aa:bb:cc:dd:ee:ff. */
  readonly mac: string;
  readonly accepts: PortOffloads;
  readonly filter?: PortFilter;
}

/** All switches of one daemon by name. */
export interface Switches {
  /** A new port; throws when the bridge may not be made (the message is for the backend's error node). */
  attach(options: AttachOptions): SwitchPort;
}
