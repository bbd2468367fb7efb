/** Who this hypervisor says it is, to guests and tools. */
export const XEN_MAJOR = 4;
export const XEN_MINOR = 17;
export const XEN_EXTRAVERSION = '.5';
export const XEN_VERSION_TEXT = `${XEN_MAJOR}.${XEN_MINOR}${XEN_EXTRAVERSION}`;
export const XEN_CHANGESET = 'unavailable';
/** Guest ABIs offered. */
export const XEN_CAPABILITIES = 'xen-3.0-x86_64 ';
export const XEN_COMPILER = 'xenhost';
export const XEN_COMPILE_BY = 'xenhost';
export const XEN_COMPILE_DOMAIN = 'localdomain';
export const XEN_COMPILE_DATE = 'Thu Jan  1 00:00:00 UTC 2026';
/** First address of the part of the address space that is Xen's. */
export const XEN_VIRT_START = 0xffff_8000_0000_0000n;
/** 20 bytes, as a linker's SHA-1 build id. */
export const XEN_BUILD_ID = new TextEncoder().encode('xenhost-typescript-1');
