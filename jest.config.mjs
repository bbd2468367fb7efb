import { readdirSync } from 'node:fs';

const globals = [
  'Math', 'BigInt', 'DataView', 'Uint8Array', 'Uint16Array', 'Uint32Array', 'Int32Array', 'Int8Array', 'Int16Array',
  'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array', 'Atomics', 'WebAssembly', 'SharedArrayBuffer',
  'ArrayBuffer', 'Number', 'Object', 'Array', 'Map', 'Set',
];

const project = (name) => ({
  displayName: name,
  rootDir: `packages/${name}`,
  testMatch: ['<rootDir>/src/**/*.test.ts'],
  testEnvironment: 'node',
  sandboxInjectedGlobals: globals,
  extensionsToTreatAsEsm: [],
  transform: {
    '\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2024' }, module: { type: 'commonjs' }, sourceMaps: 'inline' },
    ],
  },
});

export default {
  projects: readdirSync(new URL('./packages', import.meta.url)).filter((name) => name !== 'e2e').map(project),
};
