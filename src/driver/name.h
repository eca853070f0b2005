/*
 * What a driver is called at its kit: `NAME-PORT.domain` is where an exposed port is reached, so a name is a label of
 * the DNS (RFC 1035 2.3.1) in its one spelling, lower case, with room behind it for the longest port.
 */
#ifndef HT_DRIVER_NAME_H
#define HT_DRIVER_NAME_H

#include "base/base.h"
#include "base/err.h"

#define DRIVER_NAME_MAX 57 /* 63 octets of a label without "-65535" (RFC 1035 2.3.4) */

/* HT_EINVAL with what is wrong and, where that can be known, the right spelling. */
int driver_name_check(const char *name, struct ht_errmsg *err) HT_MUST_USE;

/* The nearest name to a text: out is "" when nothing of it may stand in one. */
void driver_name_clean(struct ht_slice text, char out[DRIVER_NAME_MAX + 1]);

/*
 * The name that is kept for this machine and user (state_priv.h says where): the first label of the host's name,
 * cleaned, and four letters, made the first time. A negative error with one sentence about why it could not be kept;
 * then *out is one that was made for now.
 */
int driver_name_default(char out[DRIVER_NAME_MAX + 1], struct ht_errmsg *err) HT_MUST_USE;

#endif
