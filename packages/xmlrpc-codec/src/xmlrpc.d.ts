/** The part of `xmlrpc` 1.3.2 that is used, and only that: the package has no types of its own. */
declare module 'xmlrpc/lib/deserializer.js' {
  /** The stream that the deserializer would read from; its handlers may be told of elements directly instead. */
  export interface Source {
    setEncoding(encoding: string): void;
    on(event: 'error', listener: (error: Error) => void): void;
    pipe(sink: unknown): void;
  }
  class Deserializer {
    /** Values finished so far, names of struct members among them. */
    protected stack: unknown[];
    /** Where in `stack` each open array or struct began. */
    protected marks: number[];
    /** Whether a value without a type element is open. */
    protected value: boolean;
    protected push(value: unknown): void;
    onOpentag(node: { readonly name: string }): void;
    onText(characters: string): void;
    /** Values of elements are made here; what is wrong with them is told to the callback. */
    onClosetag(name: string): void;
    onDone(): void;
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
