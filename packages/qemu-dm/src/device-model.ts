/** The device model of one PV guest put together: the backends of its framebuffer and keyboard, and the VNC server between. */
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import { XENFB_DEFAULT_SIZE } from '@xenhost/xen-abi';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import type { DeviceModelOptions } from './command-line.ts';
import { SplitDevice } from './device/split-device.ts';
import { Keymap } from './keymap/keymap.ts';
import { keycodeOfScancode } from './keymap/special-keys.ts';
import { Vfb } from './pvfb/backend.ts';
import { Vkbd } from './pvkbd/backend.ts';
import { listenVnc, type VncListener } from './rfb/listen.ts';
import { RfbServer } from './rfb/server.ts';
import { Screen } from './screen.ts';

export interface DeviceModelModules {
  readonly privcmd: PrivcmdPort;
  readonly xenstore: XenstoreClient;
  readonly log: Logger;
  /** The domain is no more. */
  readonly onDomainGone: () => void;
}

export interface DeviceModel {
  readonly screen: Screen;
  readonly listener: VncListener | undefined;
  stop(): Promise<void>;
}

export async function startDeviceModel(options: DeviceModelOptions, modules: DeviceModelModules): Promise<DeviceModel> {
  const { privcmd, xenstore, log, onDomainGone } = modules;
  const { domid } = options;
  const keymap = Keymap.named(options.keymap);
  if (!keymap) throw new Error(`no keymap '${options.keymap}'`);
  const screen = new Screen(XENFB_DEFAULT_SIZE);
  const stopping = new AbortController();
  await followDomain(domid, xenstore, onDomainGone, stopping.signal);

  const vkbd = new Vkbd({ domid }, { privcmd, log });
  const keyboard = new SplitDevice({ deviceClass: 'vkbd', domid, deviceId: 0 }, { xenstore, driver: vkbd, log });
  const vfb = new Vfb({ domid, videoramMiB: options.videoramMiB }, { privcmd, screen, log });
  const framebuffer = new SplitDevice({ deviceClass: 'vfb', domid, deviceId: 0 }, { xenstore, driver: vfb, log });

  let server: RfbServer | undefined;
  let listener: VncListener | undefined;
  if (options.vnc) {
    const password = options.vnc.password ? await takePassword(domid, xenstore) : undefined;
    server = new RfbServer(
      { name: `Xen-${options.name}`, password },
      {
        screen,
        log,
        input: {
          keycode: (keysym, scancode) => (scancode ? keycodeOfScancode(scancode) : undefined) ?? keymap.keycode(keysym),
          key: (keycode, pressed) => {
            vkbd.key(keycode, pressed);
          },
          pointer: (state) => {
            vkbd.pointer(state);
          },
        },
      },
    );
    listener = await listenVnc(options.vnc, server);
    log.info({ port: listener.port, webSocketPort: listener.webSocketPort }, 'VNC');
  }
  await Promise.all([keyboard.start(), framebuffer.start()]);
  await announce(options, xenstore, listener?.port);
  return {
    screen,
    listener,
    stop: async () => {
      stopping.abort();
      server?.close();
      await Promise.all([listener?.close(), keyboard.stop(), framebuffer.stop()]);
    },
  };
}

/** Where clients find the screen, and that it is there; nothing of a domain whose nodes are gone already. */
function announce(
  { domid, vnc }: DeviceModelOptions,
  xenstore: XenstoreClient,
  port: number | undefined,
): Promise<void> {
  return xenstore.transaction(async (t) => {
    if (!(await t.exists(`/local/domain/${domid}/vm`))) return;
    if (port !== undefined && vnc?.address.kind === 'tcp') {
      await t.write(`/local/domain/${domid}/console/vnc-port`, port);
      await t.write(`/local/domain/${domid}/console/vnc-listen`, vnc.address.host);
    }
    await t.write(`/local/domain/0/device-model/${domid}/state`, 'running');
  });
}

/** xend leaves it beside the machine; what has been read is taken away. */
async function takePassword(domid: number, xenstore: XenstoreClient): Promise<string> {
  const vm = await xenstore.tryRead(`/local/domain/${domid}/vm`);
  if (vm === undefined) return '';
  const path = `${vm}/vncpasswd`;
  const password = await xenstore.tryRead(path);
  if (password === undefined) return '';
  await xenstore.rm(path);
  return password;
}

/** Rejects when the domain is not there to begin with. */
async function followDomain(
  domid: number,
  xenstore: XenstoreClient,
  onGone: () => void,
  signal: AbortSignal,
): Promise<void> {
  const releases = xenstore.watch('@releaseDomain', { signal });
  await releases.registered;
  if (!(await xenstore.isDomainIntroduced(domid))) throw new Error(`there is no domain ${domid}`);
  const follow = async (): Promise<void> => {
    while (!(await releases.next()).done) {
      // Where xenstored cannot say now, it does so once it is back: the watch is told anew then.
      if (await xenstore.isDomainIntroduced(domid).catch(() => true)) continue;
      onGone();
      return;
    }
  };
  // A connection that is gone for good is told elsewhere.
  follow().catch(() => undefined);
}
