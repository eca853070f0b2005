/*
 * Who may come: users, and the tokens that they show. A token is only ever compared here, as its digest, with all that
 * there are and to the end of each (rule AUTH-2).
 */
#include "kit/kit_priv.h"

#include "base/clock.h"

#include <openssl/evp.h>
#include <stdio.h>

void kit_token_digest(struct ht_slice token, uint8_t out[KIT_DIGEST]) {
    if (EVP_Digest(token.n ? token.p : "", token.n, out, NULL, EVP_sha256(), NULL) != 1)
        ht_random_bytes(out, KIT_DIGEST); /* no memory: it matches nothing */
}

void users_set_up(struct kit *k) {
    uint8_t once[KIT_DIGEST];
    snprintf(k->one_user.name, sizeof k->one_user.name, "admin");
    k->one_user.admin = true;
    kit_token_digest(ht_slice_str("now, as what the library reads at first may be out of reach later"), once);
}

struct kit_user *kit_user_of_token(struct kit *k, struct ht_slice token) {
    uint8_t digest[KIT_DIGEST];
    if (!k->has_token)
        return NULL;
    kit_token_digest(token, digest);
    return ht_const_time_eq(k->token, sizeof k->token, digest, sizeof digest) && token.n ? &k->one_user : NULL;
}

struct kit_user *kit_user_of_nobody(struct kit *k) {
    return k->has_token ? NULL : &k->one_user;
}

struct admin_viewer kit_viewer(const struct kit_user *user) {
    return user ? (struct admin_viewer){.name = user->name, .admin = user->admin, .user = user}
                : (struct admin_viewer){.name = ""};
}

bool kit_may_see(const struct admin_viewer *viewer, const struct kit_user *owner) {
    return viewer->admin || (viewer->user && viewer->user == owner);
}
