/*
 * Who a driver is beyond its process: an unguessable id that stays in a file of the user's, so that the next process
 * gets the ports of one that died. Whoever reads the id can take this user's ports: it is shown to nobody.
 * The file is kept as state_priv.h says.
 */
#ifndef HT_DRIVER_IDENTITY_PRIV_H
#define HT_DRIVER_IDENTITY_PRIV_H

#include "base/base.h"
#include "base/err.h"
#include "wire_gen.h"

#define IDENTITY_LEN 32     /* hexadecimal digits: 128 bits */
#define IDENTITY_MIN_LEN 22 /* of one that is given; the longest has WIRE_LIMIT_CLIENT_ID */

/*
 * The id from the file, which is made when there is none yet; processes that start at the same time get the same. A
 * file that is damaged, or that others could read, is replaced. 0 or a negative error with one sentence about why there
 * is no id; nothing is left half-done then.
 */
int identity_load(char out[IDENTITY_LEN + 1], struct ht_errmsg *err) HT_MUST_USE;

/* Whether a text may be an id: its length, and characters that can be seen. */
bool identity_is_good(struct ht_slice id);

#endif
