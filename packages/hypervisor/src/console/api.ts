/** The hypervisor's own log, as others write to it. */
export interface ConsolePort {
  /** Appends a line (newline added) to the console ring with the prefix `(XEN) `; lock held. */
  log(line: string): void;
  /** Appends text as it is. */
  write(bytes: Uint8Array): void;
}
