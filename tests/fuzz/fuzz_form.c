/*
 * What a browser sends to log in: any bytes are a form whose members fit where they are to go; a way back is a path of
 * the same host, so that no browser reads another host into it; and a form of another site is never one of this host.
 *
 * Input: the form, a NUL, a way back, a NUL, a host, a NUL, an Origin.
 */
#include "edge/form.h"
#include "fuzz.h"
#include "haproxy_gen.h"

static struct ht_slice piece(const uint8_t **p, const uint8_t *end) {
    const uint8_t *nul = *p < end ? memchr(*p, '\0', (size_t)(end - *p)) : NULL;
    struct ht_slice s = ht_slice_of(*p, (size_t)((nul ? nul : end) - *p));
    *p = nul ? nul + 1 : end;
    return s;
}

static void read_form(struct ht_slice body) {
    char *user = malloc(8), *password = malloc(16);
    struct edge_form_member m[] = {{.name = "user", .out = user, .cap = 8},
                                   {.name = "password", .out = password, .cap = 16}};
    edge_form_read(body, m, 2);
    for (size_t i = 0; i < 2; i++) {
        FUZZ_CHECK(m[i].n <= m[i].cap && m[i].times <= 2 && (!m[i].too_long || (m[i].n == 0 && m[i].times)));
        FUZZ_CHECK(m[i].times || m[i].n == 0);
        FUZZ_CHECK(m[i].n == 0 || !memchr(m[i].out, '\0', m[i].n));
    }
    free(user);
    free(password);
}

/* How a browser reads Location (WHATWG URL): white space at the ends goes, tabs and line ends go everywhere, a
 * backslash is a slash. Whatever it is then, it must begin with one slash that is not followed by another. */
static bool stays_here(struct ht_slice t) {
    char first[2] = {0};
    size_t n = 0;
    bool begun = false;
    for (size_t i = 0; i < t.n && n < 2; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c == '\t' || c == '\n' || c == '\r' || (!begun && c <= ' '))
            continue;
        begun = true;
        first[n++] = c == '\\' ? '/' : (char)c;
    }
    return first[0] == '/' && first[1] != '/';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *at = data, *end = data + size;
    if (size > 20000)
        return 0;
    size_t live = ht_mem_live();
    struct ht_slice body = piece(&at, end), to = piece(&at, end), host = piece(&at, end), origin = piece(&at, end);
    char *copy = fuzz_copy(body.p, body.n), *way = fuzz_copy(to.p, to.n);
    read_form(ht_slice_of(copy, body.n));
    to = ht_slice_of(way, to.n);
    if (edge_is_return(to)) {
        FUZZ_CHECK(stays_here(to) && to.n <= EDGE_RETURN_MAX && !memchr(to.p, '\r', to.n) && !memchr(to.p, '\n', to.n));
        FUZZ_CHECK(!memmem(to.p, ht_min(to.n, sizeof HAPROXY_LOGIN_PATH - 1), HAPROXY_LOGIN_PATH,
                           sizeof HAPROXY_LOGIN_PATH - 1));
    }
    if (edge_is_own_form(host, origin, ht_slice_of("", 0))) {
        FUZZ_CHECK(host.n && origin.n >= host.n && memcmp(origin.p, "https://", 8) == 0);
        FUZZ_CHECK(!edge_is_own_form(host, origin, ht_slice_str("cross-site")));
    }
    free(copy);
    free(way);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
