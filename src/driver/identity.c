#include "driver/identity_priv.h"

#include "base/clock.h"
#include "driver/state_priv.h"

#include <stdio.h>

bool identity_is_good(struct ht_slice id) {
    if (id.n < IDENTITY_MIN_LEN || id.n > WIRE_LIMIT_CLIENT_ID)
        return false;
    for (size_t i = 0; i < id.n; i++)
        if (id.p[i] <= 0x20 || id.p[i] >= 0x7f)
            return false;
    return true;
}

static bool is_ours(struct ht_slice text) {
    size_t n = 0;
    while (n < text.n && text.p[n] && strchr("0123456789abcdef", text.p[n]))
        n++;
    return n == IDENTITY_LEN && text.n == IDENTITY_LEN + 1;
}

static int make(char *out, size_t *n, struct ht_errmsg *err) {
    uint8_t random[IDENTITY_LEN / 2];
    (void)err;
    ht_random_bytes(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(out + 2 * i, 3, "%02x", random[i]);
    out[IDENTITY_LEN] = '\n';
    *n = IDENTITY_LEN + 1;
    explicit_bzero(random, sizeof random);
    return 0;
}

int identity_load(char out[IDENTITY_LEN + 1], struct ht_errmsg *err) {
    static const struct state_kind kind = {.name = "client", .max = IDENTITY_LEN + 1, .is_good = is_ours, .make = make};
    char text[IDENTITY_LEN + 2];
    size_t n;
    int rc = state_load(&kind, text, &n, err);
    if (rc == 0) {
        memcpy(out, text, IDENTITY_LEN);
        out[IDENTITY_LEN] = '\0';
    }
    explicit_bzero(text, sizeof text);
    return rc;
}
