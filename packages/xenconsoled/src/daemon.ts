/** xenconsoled put together. */
import { join } from 'node:path';
import type { Logger } from '@xenhost/daemon-kit';
import type { Xenctrl } from '@xenhost/libxenctrl';
import type { XenstoreClient } from '@xenhost/xenstore-client';
import { serveWebSockets } from './attach.ts';
import type { WebSocketAttach, WebSocketOptions } from './attach.ts';
import { Consoles } from './consoles.ts';
import { followHypervisorLog } from './hypervisor-log.ts';
import { LOG_FILE_BYTES } from './limits.ts';
import { LogFile } from './log-file.ts';

export interface XenconsoledOptions {
  readonly socketDirectory: string;
  readonly logDirectory: string;
  /** Which logs are written. */
  readonly logs: { readonly guests: boolean; readonly hypervisor: boolean };
  readonly webSocket?: WebSocketOptions;
}

export interface XenconsoledModules {
  readonly xenctrl: Pick<Xenctrl, 'privcmd' | 'readconsolering'>;
  readonly xenstore: XenstoreClient;
  readonly log: Logger;
}

export interface Xenconsoled {
  readonly consoles: Consoles;
  readonly webSocketPort: number | undefined;
  stop(): Promise<void>;
}

export async function startXenconsoled(options: XenconsoledOptions, modules: XenconsoledModules): Promise<Xenconsoled> {
  const { xenctrl, xenstore, log } = modules;
  const consoles = new Consoles(
    { socketDirectory: options.socketDirectory, logDirectory: options.logs.guests ? options.logDirectory : undefined },
    { privcmd: xenctrl.privcmd, xenstore, log },
  );
  await consoles.start();
  if (options.logs.hypervisor) {
    const logFile = new LogFile(join(options.logDirectory, 'hypervisor.log'), LOG_FILE_BYTES);
    // A console without the hypervisor's log is worth more than none.
    await followHypervisorLog({ xenctrl, logFile, log }).catch((error: unknown) => {
      log.warn({ err: error }, 'no hypervisor log');
    });
  }
  let web: WebSocketAttach | undefined;
  if (options.webSocket) {
    web = await serveWebSockets(options.webSocket, { find: (domid) => consoles.find(domid), log });
  }
  return {
    consoles,
    webSocketPort: web?.port,
    stop: async () => {
      await web?.close();
      await consoles.stop();
    },
  };
}
