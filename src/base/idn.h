/* Names with letters beyond ASCII. */
#ifndef HT_BASE_IDN_H
#define HT_BASE_IDN_H

#include "base/base.h"

/* Writes the A-labels (RFC 5891) of a name in UTF-8, where libidn2 is at hand, which glibc recommends; nothing else
 * depends on it. False: it has no letter beyond ASCII, or they are not known, or do not fit. */
bool ht_idn_ascii(const char *text, char *out, size_t cap);

#endif
