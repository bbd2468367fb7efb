/**
 * The Network Backend Driver: answers to `/local/domain/0/backend/vif`.
 *
 * Today it answers honestly: every device is refused at once with a reason (docs/LIMITS.md), so that a guest with one
 * fails to start with a clear message instead of waiting for a driver that is not there.
 */
import type { Logger } from '@xenhost/daemon-kit';
import { refuseDevices } from '@xenhost/xenstore-client';
import type { XenstoreClient } from '@xenhost/xenstore-client';

/** The directory of this backend's devices in xenstore. */
export const DEVICE_CLASS = 'vif';
/** What xm shows. */
export const REFUSAL = 'network backend: not available in this version (docs/LIMITS.md)';

export interface BackendModules {
  readonly xenstore: XenstoreClient;
  readonly log: Logger;
}

/** Serves until the signal aborts; rejects when xenstored is gone. */
export function runNetback({ xenstore, log }: BackendModules, signal: AbortSignal): Promise<void> {
  return refuseDevices(xenstore, { deviceClass: DEVICE_CLASS, reason: REFUSAL }, log, signal);
}
