/*
 * From the tap of a target (relay/tap.h) into the store: exchanges as they run, the messages of their WebSockets, and
 * their server-sent events.
 */
#ifndef HT_INSPECT_WATCH_H
#define HT_INSPECT_WATCH_H

#include "inspect/store.h"
#include "relay/tap.h"

/* For relay_tap.begin, whose caller knows the store and the binding. The result is what the others get as `x`. */
void *inspect_watch_begin(struct inspect_store *s, int binding, struct ht_slice binding_name,
                          const struct wire_stream_open *open, struct ht_slice head) HT_MUST_USE;
/* All the others; `begin` is the caller's. */
extern const struct relay_tap inspect_watch_tap;

#endif
