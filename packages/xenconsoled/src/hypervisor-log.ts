/** Xen's own console ring (what `xm dmesg` shows), copied to a log file as it grows. */
import type { Xenctrl } from '@xenhost/libxenctrl';
import type { Logger } from '@xenhost/daemon-kit';
import type { LogFile } from './log-file.ts';

/** VIRQ_CON_RING (`xen.h`): bytes were added to the hypervisor's console. */
const VIRQ_CON_RING = 8;

export interface HypervisorLogModules {
  readonly xenctrl: Pick<Xenctrl, 'privcmd' | 'readconsolering'>;
  readonly logFile: LogFile;
  readonly log: Logger;
}

/** Starts copying; resolves when the first part is written. The link's end ends it. */
export async function followHypervisorLog(modules: HypervisorLogModules): Promise<void> {
  const { xenctrl, logFile, log } = modules;
  let fromIndex: number | undefined;
  let running = false;
  let again = false;
  const copy = async (): Promise<void> => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        const { text, index } = await xenctrl.readconsolering(fromIndex === undefined ? {} : { fromIndex });
        fromIndex = index;
        if (text.length > 0) {
          logFile.write(Buffer.from(text, 'latin1'));
          again = true;
        }
      }
    } finally {
      running = false;
    }
  };
  const port = await xenctrl.privcmd.bindVirq(VIRQ_CON_RING);
  xenctrl.privcmd.onEvent((event) => {
    if (event !== port) return;
    copy().catch((error: unknown) => {
      log.warn({ err: error }, 'cannot read the hypervisor console');
    });
  });
  await copy();
}
