/** Characters that no document may hold, whichever way it goes. */

/** What XML 1.0 cannot carry at all: most control characters, two non-characters, halves of surrogate pairs. */
/* eslint-disable no-control-regex -- the control characters are the point */
export const UNSENDABLE =
  /[\0-\x08\x0B\x0C\x0E-\x1F\uFFFE\uFFFF]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;
