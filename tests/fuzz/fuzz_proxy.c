/*
 * What a client of the CONNECT proxy says first: a head for a proxy, SOCKS5, a destination; and the operator's rules.
 * However the bytes are cut, the same is read; a destination that is taken has one form, and no address that leads into
 * this machine passes a policy that does not mean it.
 *
 * Input: 0 and a head; 1, whether a token is wanted, and SOCKS5; 2 and an authority; 3 and a rule (up to the first
 * NUL); 4 and an address of 4 or 16 bytes.
 */
#include "fuzz.h"
#include "http/http.h"
#include "relay/dest.h"
#include "relay/socks.h"

static bool no_token(void *ctx, struct ht_slice token, struct relay_known *out) {
    (void)ctx, (void)out;
    return token.n == 1;
}

static void check_dest(const struct relay_dest *d) {
    struct relay_dest again;
    const char *why;
    FUZZ_CHECK(d->port > 0 && d->host[0]);
    for (const char *p = d->host; *p; p++)
        FUZZ_CHECK((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || strchr(d->is_addr ? ".:" : "._-", *p));
    FUZZ_CHECK(relay_dest_parse(&again, ht_slice_str(d->text), 0, &why) == 0);
    FUZZ_CHECK(strcmp(again.text, d->text) == 0 && again.is_addr == d->is_addr && again.port == d->port);
}

static void check_head(const char *p, size_t n) {
    static struct http_head whole, piecemeal;
    struct http_error e, f;
    struct relay_dest d;
    const char *why;
    http_proxy_request_begin(&whole, NULL);
    http_proxy_request_begin(&piecemeal, NULL);
    int rc = http_head_parse(&whole, p, n, &e), by_byte = HT_EAGAIN;
    for (size_t at = 1; at <= n && by_byte == HT_EAGAIN; at++)
        by_byte = http_head_parse(&piecemeal, p, at, &f);
    FUZZ_CHECK(n == 0 || rc == by_byte);
    FUZZ_CHECK(rc != HT_EPROTO || (e.status == f.status && e.text == f.text));
    if (rc <= 0 || !(whole.flags & HTTP_CONNECT))
        return;
    FUZZ_CHECK(http_request_body(&whole) == HTTP_BODY_NONE);
    if (relay_dest_parse(&d, http_text(p, whole.authority), 0, &why) == 0)
        check_dest(&d);
}

static size_t feed(struct relay_socks *s, const uint8_t *p, size_t n, size_t piece, bool wants_token) {
    size_t at = 0;
    *s = (struct relay_socks){.wants_token = wants_token, .knows = no_token};
    for (size_t end = ht_min(piece, n);; end = ht_min(end + piece, n)) {
        int taken;
        while ((taken = relay_socks_feed(s, p + at, end - at)) > 0) {
            at += (size_t)taken;
            FUZZ_CHECK(at <= end && s->reply_len <= sizeof s->reply);
        }
        FUZZ_CHECK(taken == HT_EAGAIN);
        if (end == n || s->step == SOCKS_BAD || s->step == SOCKS_DONE)
            return at;
    }
}

static void check_socks(const uint8_t *p, size_t n, bool wants_token) {
    static struct relay_socks whole, piecemeal;
    size_t a = feed(&whole, p, n, n, wants_token), b = feed(&piecemeal, p, n, 1, wants_token);
    FUZZ_CHECK(whole.step == piecemeal.step && (whole.step == SOCKS_BAD || a == b));
    FUZZ_CHECK((whole.step == SOCKS_BAD) == (whole.why != NULL));
    if (whole.step == SOCKS_DONE)
        check_dest(&whole.dest);
}

static void check_rule(const char *text) {
    struct relay_rule r;
    struct ht_errmsg err = {""};
    if (relay_rule_parse(&r, text, &err)) {
        FUZZ_CHECK(err.text[0] && memchr(err.text, 0, sizeof err.text));
        return;
    }
    FUZZ_CHECK(r.first > 0 && r.first <= r.last && r.bits <= 128 && memchr(r.host, 0, sizeof r.host));
}

/* Whatever is in it: neither a wide rule nor a name opens loopback or the metadata of clouds. */
static void check_addr(const uint8_t *p, size_t n) {
    static const char *const wide[] = {"*", "0.0.0.0/0", "::/0", "x.example"};
    struct relay_rule rules[HT_ARRAY_LEN(wide)];
    struct relay_policy policy = {.pass = true, .allow = rules, .n_allow = HT_ARRAY_LEN(wide)};
    struct relay_dest d;
    const char *why;
    char host[IO_ADDR_TEXT];
    for (size_t i = 0; i < HT_ARRAY_LEN(wide); i++)
        FUZZ_CHECK(relay_rule_parse(&rules[i], wide[i], NULL) == 0);
    FUZZ_CHECK(relay_dest_set(&d, ht_slice_str("x.example"), 80, &why) == 0);
    struct io_addr a = io_addr_of_bytes(n == 4 ? 4 : 6, p, 80);
    io_addr_host(&a, host);
    bool bad = io_addr_is_loopback(&a) || strncmp(host, "169.254.", 8) == 0 || strncmp(host, "0.", 2) == 0;
    FUZZ_CHECK(!bad || relay_policy_addr(&policy, &d, &a, false));
    FUZZ_CHECK(relay_policy_addr(&policy, &d, &a, true)); /* an own one needs a rule of its own */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct relay_dest d;
    const char *why;
    if (size < 2)
        return 0;
    char *rest = malloc(size);
    if (!rest)
        abort();
    memcpy(rest, data + 1, size - 1);
    rest[size - 1] = '\0';
    switch (data[0] % 5) {
    case 0:
        check_head(rest, size - 1);
        break;
    case 1:
        check_socks(data + 2, size - 2, data[1] & 1);
        break;
    case 2:
        if (relay_dest_parse(&d, ht_slice_of(rest, size - 1), 0, &why) == 0)
            check_dest(&d);
        break;
    case 3:
        check_rule(rest);
        break;
    default:
        if (size == 5 || size == 17)
            check_addr(data + 1, size - 1);
        break;
    }
    free(rest);
    return 0;
}
