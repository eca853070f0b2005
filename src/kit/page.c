/*
 * The status page: how often an address may try tokens at the login form, and the URL that drivers should use.
 */
#include "kit/kit_priv.h"

#include "relay/front.h"
#include "wire/name.h"

#include <stdio.h>

#define MAX_WRONG 10
#define WINDOW_MS 60000

/* ---- wrong tokens ---- */

static struct ht_slice trimmed(struct ht_slice s) {
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s = ht_slice_of(s.p + 1, s.n - 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Cuts the last item off a list. */
static struct ht_slice last_item(struct ht_slice *list) {
    const char *comma = memrchr(list->p, ',', list->n);
    const char *from = comma ? comma + 1 : list->p;
    struct ht_slice item = ht_slice_of(from, (size_t)(list->p + list->n - from));
    *list = ht_slice_of(list->p, comma ? (size_t)(comma - list->p) : 0);
    return trimmed(item);
}

/*
 * The client's address behind trusted proxies: the last one in X-Forwarded-For that is not a trusted proxy's. Whatever
 * is left of it may be forged by the client. False: there is none, or the text is no address.
 */
static bool forwarded_for(const struct base_client *c, struct io_addr *out) {
    const struct http_head *h = &c->web.head;
    const char *bytes = web_bytes(&c->web);
    for (size_t i = h->n_fields; i-- > 0;) {
        if (!ht_slice_case_eq(http_text(bytes, h->fields[i].name), ht_slice_str("x-forwarded-for")))
            continue;
        struct ht_slice list = http_text(bytes, h->fields[i].value);
        while (list.n) {
            struct ht_slice item = last_item(&list);
            char text[IO_ADDR_TEXT];
            if (item.n == 0 || item.n >= sizeof text)
                return false;
            memcpy(text, item.p, item.n);
            text[item.n] = '\0';
            if (io_addr_parse(out, text, 0) < 0)
                return false;
            if (!base_peer_trusted(c->kit, out))
                return true;
        }
    }
    return false;
}

static void source_of(const struct base_client *c, uint8_t out[IO_SOURCE_LEN]) {
    struct io_addr a;
    if (base_peer_is_proxy(c->kit, &c->from) && forwarded_for(c, &a))
        io_addr_source(&a, out);
    else
        io_addr_source(&c->from, out);
}

/* The entry of an address. A new address takes an unused entry, or else the oldest one. */
static struct page_tries *tries_of(struct kit *k, const uint8_t source[IO_SOURCE_LEN], uint64_t now) {
    struct page_tries *oldest = &k->tries[0];
    for (size_t i = 0; i < HT_ARRAY_LEN(k->tries); i++) {
        struct page_tries *t = &k->tries[i];
        if (t->n && now >= t->since_ms + WINDOW_MS)
            t->n = 0;
        if (t->n && memcmp(t->source, source, IO_SOURCE_LEN) == 0)
            return t;
        if (t->n == 0 || (oldest->n && t->since_ms < oldest->since_ms))
            oldest = t;
    }
    *oldest = (struct page_tries){.since_ms = now};
    memcpy(oldest->source, source, IO_SOURCE_LEN);
    return oldest;
}

unsigned page_must_wait(struct base_client *c, bool wrong) {
    uint8_t source[IO_SOURCE_LEN];
    uint64_t now = io_now_ms(c->kit->loop);
    source_of(c, source);
    struct page_tries *t = tries_of(c->kit, source, now);
    if (t->n >= MAX_WRONG)
        return (unsigned)((t->since_ms + WINDOW_MS - now + 999) / 1000);
    t->n += wrong;
    return 0;
}

/* ---- at a public address ---- */

/*
 * The host is checked for each request: a browser uses one connection for several hosts if they share an address and a
 * certificate. Strangers reach public addresses, so the page needs a kit with a token. The exception is a client on
 * this machine that asks for a name below localhost, which browsers never look up elsewhere (RFC 6761 6.3), so that no
 * other site can use it.
 */
uint16_t page_refuses(const struct base_client *c, const char **text) {
    struct kit *k = c->kit;
    const struct http_head *h = &c->web.head;
    struct http_span asked = h->flags & HTTP_TARGET_ABSOLUTE ? h->authority : h->host;
    char host[WIRE_HOST_ROOM];
    size_t n = wire_asked_host(host, http_text(web_bytes(&c->web), asked));
    if (!n || !relay_front_is_own(relay_table_front(k->table), host)) {
        *text = "this connection is for another host";
        return 421;
    }
    bool of_this_machine = io_addr_is_loopback(&c->from) && io_host_is_localhost(ht_slice_of(host, n));
    if (!kit_user_of_nobody(k) || of_this_machine)
        return 0;
    *text = "the kit's own page is served here once it has a token (--token-file), and on its own listener meanwhile";
    return 403;
}

/* ---- the kit's own URL ---- */

static bool is_host(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] | 32) >= 'a' && (s.p[i] | 32) <= 'z') && !(s.p[i] >= '0' && s.p[i] <= '9') &&
            !memchr(".-_:[]", s.p[i], 6))
            return false;
    return s.n > 0 && s.n <= 255;
}

struct ht_slice page_url(const struct base_client *c, char out[PAGE_URL_TEXT]) {
    const struct kit *k = c->kit;
    struct ht_slice host = web_field(&c->web, "host"), proto = web_field(&c->web, "x-forwarded-proto");
    char text[IO_ADDR_TEXT];
    bool tls = c->https || (base_peer_is_proxy(k, &c->from) && ht_slice_case_eq(proto, ht_slice_str("https")));
    if (!is_host(host))
        host = ht_slice_str(io_addr_text(&k->listen_addr, text));
    int n = snprintf(out, PAGE_URL_TEXT, "%s://%.*s", tls ? "wss" : "ws", (int)host.n, host.p);
    return ht_slice_of(out, (size_t)n);
}
