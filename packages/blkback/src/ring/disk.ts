/** What a ring needs of the disk behind it. */
export interface Disk {
  /** 0: no medium. */
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly canDiscard: boolean;
  /** Fills the target. Offsets and lengths of all calls lie within the disk; rejections become errors of the requests. */
  read(offset: number, target: Uint8Array): Promise<void>;
  writev(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Resolves when every write that resolved before is on stable storage. */
  flush(): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
}

/** Counters with the names that Linux's xen-blkback gives them in sysfs. */
export interface Statistics {
  /** Times that requests had to wait for memory. */
  oo_req: number;
  rd_req: number;
  wr_req: number;
  /** Flushes and barriers. */
  f_req: number;
  ds_req: number;
  rd_sect: number;
  wr_sect: number;
}

export const newStatistics = (): Statistics => ({
  oo_req: 0, rd_req: 0, wr_req: 0, f_req: 0, ds_req: 0, rd_sect: 0, wr_sect: 0,
}); // prettier-ignore
