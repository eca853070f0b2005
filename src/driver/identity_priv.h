/*
 * The client id of a driver: an unguessable id in a file of the user (state_priv.h). It outlives the process, so that
 * the next process gets the ports of one that died. The id is a secret: who knows it can take this user's ports.
 */
#ifndef HT_DRIVER_IDENTITY_PRIV_H
#define HT_DRIVER_IDENTITY_PRIV_H

#include "base/base.h"
#include "base/err.h"
#include "wire_gen.h"

#define IDENTITY_LEN 32     /* hexadecimal digits: 128 bits */
#define IDENTITY_MIN_LEN 22 /* shortest id that a caller may give; the longest has WIRE_LIMIT_CLIENT_ID */

/*
 * Reads the id from the file, or makes both when there is no file. Processes that start at the same time get the same
 * id. A file that is damaged, or that other users could read, is replaced. 0, or a negative error: *err is one
 * sentence, and nothing has changed.
 */
int identity_load(char out[IDENTITY_LEN + 1], struct ht_errmsg *err) HT_MUST_USE;

/* True when a text may be an id: it has a valid length and only visible ASCII characters. */
bool identity_is_good(struct ht_slice id);

#endif
