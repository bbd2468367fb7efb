/** Layer rules: an import goes down or stays within its layer; daemons never import one another; no cycles. */
const layer = {
  base: 'base|xen-abi',
  wire: 'xs-wire|xmlrpc-codec|sxp|pv-ring|elf|cpu',
  library: 'privcmd|libxenctrl|xenstore-client|daemon-kit|disk-image',
  daemon: 'hypervisor|xenstored|xenconsoled|blkback|netback|xend|qemu-dm',
  app: 'xm|xenhost|xentrace',
  image: 'guest-kernels',
};
const below = { base: [], wire: ['base'], library: ['base', 'wire'], daemon: ['base', 'wire', 'library'], app: ['base', 'wire', 'library', 'image'], image: ['base', 'wire'] };
const inLayers = (names) => `^packages/(${names.map((n) => layer[n]).join('|')})/`;
const tests = '\\.test\\.ts$';

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    ...Object.keys(layer).map((name) => ({
      name: `layer-${name}`,
      severity: 'error',
      from: { path: inLayers([name]), pathNot: tests + '|/src/testing/' },
      to: { path: '^packages/', pathNot: inLayers(name === 'daemon' || name === 'app' ? below[name] : [name, ...below[name]]) + (name === 'daemon' || name === 'app' ? '|^packages/$1/' : '') },
    })),
    { name: 'engine-without-node', severity: 'error', from: { path: '^packages/cpu/src', pathNot: tests }, to: { dependencyTypes: ['core'] } },
    { name: 'hypervisor-node-at-its-edges', severity: 'error', from: { path: '^packages/hypervisor/src', pathNot: `${tests}|/src/(main|control/host|pcpu/worker|pcpu/messages|pcpu/compiler|pcpu/compiler-client|pcpu/tier|pcpu/thread-heap|pcpu/shared-code)\\.ts$` }, to: { dependencyTypes: ['core'] } },
    { name: 'door-only', severity: 'error', from: { path: '^packages/([^/]+)/' }, to: { path: '^packages/([^/]+)/src/(?!index\\.ts|testing/index\\.ts)', pathNot: '^packages/$1/' } },
    { name: 'testing-only-in-tests', severity: 'error', from: { path: '^packages/', pathNot: tests + '|/src/testing/' }, to: { path: '/src/testing/' } },
  ],
  options: { tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' }, tsConfig: { fileName: 'tsconfig.json' }, enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'default'] } },
};
