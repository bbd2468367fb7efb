/** Limits of documents, in one place. Callers may lower or raise them for one call. */
export interface XmlRpcLimits {
  /** Characters of a document. */
  readonly maxLength: number;
  /** Arrays and structs inside one another. */
  readonly maxDepth: number;
  /** Values of a document, members and elements included. */
  readonly maxValues: number;
}

export const DEFAULT_LIMITS: XmlRpcLimits = { maxLength: 4 << 20, maxDepth: 64, maxValues: 200_000 };

/** What a client grants a server's answer: a long list of domains or a whole log. */
export const RESPONSE_LIMITS: XmlRpcLimits = { maxLength: 64 << 20, maxDepth: 64, maxValues: 4_000_000 };
