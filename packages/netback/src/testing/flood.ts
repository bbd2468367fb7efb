/** The simplest of switches, for tests: what comes in at one port goes out at all others. */
import type { AttachOptions, EthernetFrame, FrameReceiver, SwitchPort, Switches } from '../switch/frame.ts';

export class Flood implements Switches {
  readonly ports = new Map<string, { readonly options: AttachOptions; receiver: FrameReceiver }>();

  attach(options: AttachOptions): SwitchPort {
    if (this.ports.has(options.name)) throw new Error(`${options.name} is there already`);
    const port = { options, receiver: (): boolean => false };
    this.ports.set(options.name, port);
    return {
      name: options.name,
      accepts: options.accepts,
      send: (frame: EthernetFrame) => {
        for (const [name, other] of this.ports) if (name !== options.name) other.receiver(frame);
      },
      setReceiver: (receiver) => {
        Object.assign(port, { receiver });
      },
      close: () => {
        this.ports.delete(options.name);
      },
    };
  }
}
