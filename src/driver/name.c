#include "driver/name.h"

#include "base/clock.h"
#include "driver/state_priv.h"

#include <stdio.h>
#include <unistd.h>

#define LETTERS 4 /* random letters behind the host's name, since two laptops often have the same name */

static bool is_ldh(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }

void driver_name_clean(struct ht_slice text, char out[DRIVER_NAME_MAX + 1]) {
    size_t n = 0;
    for (size_t i = 0; i < text.n && n < DRIVER_NAME_MAX; i++) {
        char c = ht_lower(text.p[i]);
        c = is_ldh(c) ? c : '-';
        if (c != '-' || (n > 0 && out[n - 1] != '-'))
            out[n++] = c;
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    out[n] = '\0';
}

int driver_name_check(const char *name, struct ht_errmsg *err) {
    char right[DRIVER_NAME_MAX + 1], shown[2 * DRIVER_NAME_MAX];
    size_t n = strlen(name);
    bool ldh = true;
    for (size_t i = 0; i < n; i++)
        ldh = ldh && is_ldh(name[i]);
    /* "--" at the third place marks an encoded label (RFC 5891 4.2.3.1), and the port would become a part of the code.
     */
    bool tagged = n >= 4 && memcmp(name + 2, "--", 2) == 0;
    if (n > 0 && n <= DRIVER_NAME_MAX && ldh && name[0] != '-' && name[n - 1] != '-' && !tagged)
        return HT_OK;
    driver_name_clean(ht_slice_of(name, n), right);
    snprintf(shown, sizeof shown, "%s%s", *right ? "; write " : "", right);
    return ht_fail(err, HT_EINVAL,
                   "\"%.80s\" is no name for URLs: that is up to %d of a-z, 0-9 and hyphens, with none %s%s", name,
                   DRIVER_NAME_MAX, tagged ? "in the third and fourth place" : "at either end", shown);
}

/* ---- the stored name ---- */

static bool is_kept(struct ht_slice text) {
    char name[DRIVER_NAME_MAX + 1];
    if (text.n < 2 || text.n > sizeof name)
        return false;
    memcpy(name, text.p, text.n - 1);
    name[text.n - 1] = '\0';
    return !memchr(name, '\0', text.n - 1) && driver_name_check(name, NULL) == HT_OK;
}

static int make(char *out, size_t *n, struct ht_errmsg *err) {
    static const char letters[] = "bcdfghjkmnpqrstvwxz"; /* without vowels there are no words */
    char host[256] = "", name[DRIVER_NAME_MAX + 1];
    uint8_t random[LETTERS];
    (void)err;
    ht_random_bytes(random, sizeof random);
    if (gethostname(host, sizeof host - 1) < 0)
        host[0] = '\0';
    driver_name_clean(ht_slice_of(host, ht_min(strcspn(host, "."), DRIVER_NAME_MAX - LETTERS - 1)), name);
    int len = snprintf(out, DRIVER_NAME_MAX + 1, "%s-", *name ? name : "laptop");
    for (size_t i = 0; i < LETTERS; i++)
        out[len++] = letters[random[i] % (sizeof letters - 1)];
    out[len] = '\n';
    *n = (size_t)len + 1;
    return 0;
}

int driver_name_default(char out[DRIVER_NAME_MAX + 1], struct ht_errmsg *err) {
    static const struct state_kind kind = {
        .name = "name", .max = DRIVER_NAME_MAX + 1, .is_good = is_kept, .make = make};
    char text[DRIVER_NAME_MAX + 2];
    size_t n;
    int rc = state_load(&kind, text, &n, err);
    if (rc < 0)
        (void)make(text, &n, err);
    memcpy(out, text, n - 1);
    out[n - 1] = '\0';
    return rc;
}
