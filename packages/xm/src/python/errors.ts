/** Why a config file cannot be used, with the line. */
export class ConfigFileError extends Error {
  /** 1-based. */
  readonly line: number;
  constructor(message: string, line: number) {
    super(message);
    this.name = 'ConfigFileError';
    this.line = line;
  }
}
