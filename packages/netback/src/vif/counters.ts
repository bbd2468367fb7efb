/** What a vif has done, as Linux's /sys/class/net counts it: rx is what came from the guest, tx what went to it. */
export interface VifCounters {
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}

export const newCounters = (): VifCounters => ({
  rxBytes: 0,
  rxPackets: 0,
  rxErrors: 0,
  rxDropped: 0,
  txBytes: 0,
  txPackets: 0,
  txErrors: 0,
  txDropped: 0,
});

/** Bytes that wait for the guests of all vifs. */
export interface QueueBudget {
  bytes: number;
}
