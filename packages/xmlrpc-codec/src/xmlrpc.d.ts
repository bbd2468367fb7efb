/** The two parts of `xmlrpc` 1.3.2 that are used, and only those: the package has no types of its own. */
declare module 'xmlrpc/lib/serializer.js' {
  const serializer: {
    serializeMethodCall(method: string, params: readonly unknown[]): string;
    serializeMethodResponse(value: unknown): string;
    serializeFault(fault: { faultCode: number; faultString: unknown }): string;
  };
  export default serializer;
}

declare module 'xmlrpc/lib/deserializer.js' {
  /** What the deserializer asks of its input; ours feeds the whole document when `pipe` is called. */
  export interface Source {
    setEncoding(encoding: string): void;
    on(event: 'error', listener: (error: Error) => void): void;
    pipe(sink: { write(text: string): void; end(): void }): void;
  }
  class Deserializer {
    /** Values finished so far, names of struct members among them. */
    protected stack: unknown[];
    /** Where in `stack` each open array or struct began. */
    protected marks: number[];
    /** Whether a value without a type element is open. */
    protected value: boolean;
    protected push(value: unknown): void;
    protected endInt(text: string): void;
    protected endI8(text: string): void;
    protected endDouble(text: string): void;
    protected endStruct(text: string): void;
    protected endBase64(text: string): void;
    protected endDateTime(text: string): void;
    deserializeMethodCall(source: Source, done: (error: Error | null, method: string, params: unknown[]) => void): void;
    deserializeMethodResponse(source: Source, done: (error: Error | null, value: unknown) => void): void;
  }
  export default Deserializer;
}

declare module 'xmlrpc/lib/customtype.js' {
  /** A scalar whose element name and text are given by us; the library escapes the text. */
  class CustomType {
    constructor(raw: string);
    readonly raw: string;
    readonly tagName: string;
  }
  export default CustomType;
}
