/* Reads a HAR 1.2 file into a store. */
#ifndef HT_INSPECT_HAR_H
#define HT_INSPECT_HAR_H

#include "inspect/store.h"

struct har_in;

/* `text` must outlive it. NULL: out of memory. */
struct har_in *har_in_create(struct inspect_store *store, struct ht_slice text) HT_MUST_USE;
/* Reads on until that time (ht_now_ms()). 0: all was read; HT_EAGAIN: call it again; HT_EPROTO: it is no HAR file, and
 * har_in_why() says what is wrong; HT_ENOMEM. What was read before an error is in the store. */
int har_in_read(struct har_in *h, uint64_t until_ms) HT_MUST_USE;
uint64_t har_in_count(const struct har_in *h);
void har_in_why(const struct har_in *h, struct ht_errmsg *err);
void har_in_destroy(struct har_in **h);

#endif
