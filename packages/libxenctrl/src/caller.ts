/**
 * How this library makes a hypercall: structures are laid into an arena as C lays them on its stack, pointers are arena
 * addresses, a negative result becomes a `XenError` that names the operation.
 */
import { bytesOf, XenError } from '@xenhost/base';
import type { Fields, Layout, View } from '@xenhost/base';
import type { ArenaSegment, PrivcmdPort } from '@xenhost/privcmd';
import {
  DOMCTL_U, Hypercall, SYSCTL_U, XEN_DOMCTL_INTERFACE_VERSION, XEN_SYSCTL_INTERFACE_VERSION, XenDomctl, XenSysctl,
} from '@xenhost/xen-abi'; // prettier-ignore

/** Something in the arena: its address for others to point at, its bytes. */
export interface Placed {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

const FIRST_ADDRESS = 0x10_0000n;
const GAP = 0x1000n;

/** Memory for one hypercall; segments are a page apart so that an overrun faults instead of reading a neighbour. */
export class CallArena {
  readonly segments: ArenaSegment[] = [];
  #next = FIRST_ADDRESS;

  /** Bytes the hypervisor reads; with `output` also writes. */
  put(bytes: Uint8Array, output = false): Placed {
    const placed = { address: this.#next, bytes, output };
    this.segments.push(placed);
    this.#next += ((BigInt(bytes.length) + GAP - 1n) / GAP) * GAP + GAP;
    return placed;
  }

  output(size: number): Placed {
    return this.put(new Uint8Array(size), true);
  }

  /** A structure, read and written. */
  struct<F extends Fields>(layout: Layout<F>, init: Partial<View<F>>): Placed & { readonly view: View<F> } {
    const { bytes, view } = layout.create(init);
    return { ...this.put(bytes, true), view };
  }
}

export class Caller {
  readonly port: PrivcmdPort;

  constructor(port: PrivcmdPort) {
    this.port = port;
  }

  /** RAX as a number. @throws XenError when it is negative */
  async call(operation: string, op: number, args: readonly bigint[], arena?: CallArena): Promise<number> {
    const result = await this.port.hypercall({ op, args, arena: arena?.segments ?? [] });
    if (result < 0n) throw new XenError(Number(-result), operation);
    return Number(result);
  }

  /** A domctl; resolves to what the hypervisor left in the structure. `member` is the part of the union. */
  async domctl<F extends Fields>(
    operation: string,
    cmd: number,
    domid: number,
    member: Layout<F>,
    init: Partial<View<F>> = {},
    arena = new CallArena(),
  ): Promise<{ readonly domid: number; readonly view: View<F>; readonly bytes: Uint8Array }> {
    const { bytes, address, view } = arena.struct(XenDomctl, {
      cmd,
      interface_version: XEN_DOMCTL_INTERFACE_VERSION,
      domain: domid,
    });
    const part = member.view(bytesOf(bytes), DOMCTL_U);
    Object.assign(part, init);
    await this.call(operation, Hypercall.domctl, [address], arena);
    return { domid: view.domain, view: part, bytes: bytes.subarray(DOMCTL_U, DOMCTL_U + member.size) };
  }

  /** A domctl whose part of the union is given as bytes: for structures with arrays. */
  async domctlBytes(
    operation: string,
    cmd: number,
    domid: number,
    part: Uint8Array,
    arena = new CallArena(),
  ): Promise<number> {
    const { bytes, address, view } = arena.struct(XenDomctl, {
      cmd,
      interface_version: XEN_DOMCTL_INTERFACE_VERSION,
      domain: domid,
    });
    bytes.set(part, DOMCTL_U);
    await this.call(operation, Hypercall.domctl, [address], arena);
    return view.domain;
  }

  async sysctl<F extends Fields>(
    operation: string,
    cmd: number,
    member: Layout<F>,
    init: Partial<View<F>> = {},
    arena = new CallArena(),
  ): Promise<{ readonly view: View<F>; readonly bytes: Uint8Array }> {
    const { bytes, address } = arena.struct(XenSysctl, { cmd, interface_version: XEN_SYSCTL_INTERFACE_VERSION });
    const view = member.view(bytesOf(bytes), SYSCTL_U);
    Object.assign(view, init);
    await this.call(operation, Hypercall.sysctl, [address], arena);
    return { view, bytes: bytes.subarray(SYSCTL_U, SYSCTL_U + member.size) };
  }

  /** A sysctl whose part of the union is given as bytes; resolves to that part after the call. */
  async sysctlBytes(operation: string, cmd: number, part: Uint8Array, arena = new CallArena()): Promise<Uint8Array> {
    const { bytes, address } = arena.struct(XenSysctl, { cmd, interface_version: XEN_SYSCTL_INTERFACE_VERSION });
    bytes.set(part, SYSCTL_U);
    await this.call(operation, Hypercall.sysctl, [address], arena);
    return bytes.subarray(SYSCTL_U, SYSCTL_U + part.length);
  }
}
