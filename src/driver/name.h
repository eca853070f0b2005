/*
 * The name of a driver at its kit. An exposed port is reached at `NAME-PORT.domain`, so a name is a DNS label (RFC 1035
 * 2.3.1) in lower case, short enough for the longest port behind it.
 */
#ifndef HT_DRIVER_NAME_H
#define HT_DRIVER_NAME_H

#include "base/base.h"
#include "base/err.h"

#define DRIVER_NAME_MAX 57 /* 63 octets of a label without "-65535" (RFC 1035 2.3.4) */

/* Checks a name. 0, or HT_EINVAL: *err says what is wrong and, if it can be known, the right spelling. */
int driver_name_check(const char *name, struct ht_errmsg *err) HT_MUST_USE;

/* Makes a valid name that is similar to a text. `out` is "" when no character of the text may be in a name. */
void driver_name_clean(struct ht_slice text, char out[DRIVER_NAME_MAX + 1]);

/*
 * The name that is stored for this machine and user (state_priv.h says where). It is made the first time, of the first
 * label of the host's name and four letters. 0, or a negative error: the name could not be stored, *err is one
 * sentence, and `out` has a name that was made for this process.
 */
int driver_name_default(char out[DRIVER_NAME_MAX + 1], struct ht_errmsg *err) HT_MUST_USE;

#endif
