/* Clients' ids (rule CLIENT-1). They are secrets, so records of sessions hold digests of them. */
#include "kit/kit_priv.h"

#include "base/clock.h"

#include <assert.h>

static_assert(KIT_DIGEST <= WIRE_LIMIT_CLIENT_ID, "a digest fits in the place of an id");

void kit_client_set(struct kit_client *c, struct ht_slice id, bool digested) {
    explicit_bzero(c, sizeof *c);
    c->n = id.n <= sizeof c->id ? id.n : 0;
    c->digested = digested;
    if (c->n)
        memcpy(c->id, id.p, c->n);
}

bool kit_client_digest(const struct kit_client *c, uint8_t out[KIT_DIGEST]) {
    if (c->n == 0)
        return false;
    if (c->digested)
        memcpy(out, c->id, KIT_DIGEST);
    else
        kit_token_digest(ht_slice_of(c->id, c->n), out);
    return true;
}

bool kit_client_same(const struct kit_client *a, const struct kit_client *b) {
    uint8_t x[KIT_DIGEST], y[KIT_DIGEST];
    if (a->n == 0 || b->n == 0)
        return false;
    if (a->digested == b->digested)
        return ht_const_time_eq(a->id, a->n, b->id, b->n);
    return kit_client_digest(a, x) && kit_client_digest(b, y) && ht_const_time_eq(x, sizeof x, y, sizeof y);
}
