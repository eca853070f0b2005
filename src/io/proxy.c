/* Which proxy is on the way: its URL, and the environment's variables. */
#include "io/proxy.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

/* ---- the URL ---- */

static bool strip(const char **text, const char *scheme) {
    size_t n = strlen(scheme);
    if (strncasecmp(*text, scheme, n) != 0)
        return false;
    *text += n;
    return true;
}

/* Decodes %XX. False: it is too long, or holds what no login may have. */
static bool decode(const char *p, size_t n, char out[IO_PROXY_WORD + 1]) {
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)p[i];
        if (c == '%' && i + 2 < n && ht_hex_digit(p[i + 1]) >= 0 && ht_hex_digit(p[i + 2]) >= 0) {
            c = ht_hex_digit(p[i + 1]) << 4 | ht_hex_digit(p[i + 2]);
            i += 2;
        }
        if (c < ' ' || c == 0x7f || to == IO_PROXY_WORD)
            return false;
        out[to++] = (char)c;
    }
    out[to] = '\0';
    return true;
}

/* p[0..n) is USER[:PASSWORD]; percent-encoded if `coded`. Messages never repeat it. */
static int set_login(struct io_proxy *p, const char *text, size_t n, bool coded, const char *from,
                     struct ht_errmsg *err) {
    const char *colon = memchr(text, ':', n);
    size_t user = colon ? (size_t)(colon - text) : n, word = colon ? n - user - 1 : 0;
    bool good = user > 0 && user <= 3 * IO_PROXY_WORD && word <= 3 * IO_PROXY_WORD;
    if (good && coded)
        good =
            decode(text, user, p->user) && decode(colon ? colon + 1 : "", word, p->password) && !strchr(p->user, ':');
    else if (good && (good = user <= IO_PROXY_WORD && word <= IO_PROXY_WORD)) {
        memcpy(p->user, text, user);
        memcpy(p->password, colon ? colon + 1 : "", word);
    }
    for (const char *c = p->user; good && *c; c++)
        good = (unsigned char)*c >= ' ' && *c != 0x7f;
    for (const char *c = p->password; good && *c; c++)
        good = (unsigned char)*c >= ' ' && *c != 0x7f;
    p->has_user = good;
    return good ? HT_OK
                : ht_fail(err, HT_EINVAL,
                          "the credentials for the proxy of %s are not USER:PASSWORD with at most %d characters each",
                          from, IO_PROXY_WORD);
}

/* HOST[:PORT] or [V6][:PORT]. */
static int set_place(struct io_proxy *p, const char *text, size_t n, const char *from, struct ht_errmsg *err) {
    bool v6 = n > 0 && text[0] == '[';
    const char *end = v6 ? memchr(text, ']', n) : memchr(text, ':', n);
    size_t host = end ? (size_t)(end - text) : n, at = v6 && end ? host + 1 : host;
    struct io_addr a;
    unsigned port = p->port;
    bool good = (!v6 || end) && (at == n || text[at] == ':');
    if (good && at < n) {
        port = 0;
        for (size_t i = at + 1; i < n && good; i++)
            good = isdigit((unsigned char)text[i]) && (port = port * 10 + (unsigned)(text[i] - '0')) <= UINT16_MAX;
        good = good && port > 0;
    }
    text += v6;
    host -= v6 ? 1 : 0;
    good = good && host > 0 && host < sizeof p->host;
    for (size_t i = 0; i < host && good; i++)
        good = isalnum((unsigned char)text[i]) || strchr(v6 ? ":.%" : "-._", text[i]);
    if (!good)
        return ht_fail(err, HT_EINVAL, "the proxy of %s has no good host and port, as in http://proxy.example:3128",
                       from);
    memcpy(p->host, text, host);
    p->host[host] = '\0';
    p->port = (uint16_t)port;
    return v6 && io_addr_parse(&a, p->host, 0) < 0
               ? ht_fail(err, HT_EINVAL, "the proxy of %s has no IPv6 address in its brackets", from)
               : HT_OK;
}

static int set_url(struct io_proxy *p, const struct io_proxy_config *cfg, struct ht_errmsg *err) {
    const char *s = cfg->url;
    p->port = 80;
    if (strip(&s, "https://")) {
        p->kind = IO_PROXY_HTTPS;
        p->port = 443;
    } else if (strip(&s, "socks5://") || strip(&s, "socks5h://")) {
        p->kind = IO_PROXY_SOCKS5;
        p->port = 1080;
    } else if (!strip(&s, "http://") && strstr(s, "://")) {
        return ht_fail(err, HT_EINVAL,
                       "the proxy of %s is of a kind that is not known; it is http://, https:// or socks5://",
                       cfg->from);
    }
    size_t n = strcspn(s, "/?#");
    const char *at = s + n;
    while (at > s && at[-1] != '@')
        at--;
    int rc = at > s && !cfg->auth ? set_login(p, s, (size_t)(at - s) - 1, true, cfg->from, err) : HT_OK;
    return rc < 0 ? rc : set_place(p, at, n - (size_t)(at - s), cfg->from, err);
}

int io_proxy_create(struct io_proxy **out, const struct io_proxy_config *cfg, struct ht_errmsg *err) {
    struct io_proxy *p = *out = ht_calloc(1, sizeof *p);
    if (!p)
        return ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    int rc = set_url(p, cfg, err);
    if (rc == HT_OK && cfg->auth)
        rc = set_login(p, cfg->auth, strlen(cfg->auth), false, "--proxy-auth-file", err);
    if (rc == HT_OK && p->kind == IO_PROXY_HTTPS) {
        const struct io_tls_config tls = {.ca_file = cfg->ca_file, .alpn = "http/1.1", .ca_option = cfg->ca_option};
        p->tls = io_tls_create_with(&tls, err);
        rc = p->tls ? HT_OK : HT_ETLS;
    }
    snprintf(p->name, sizeof p->name, strchr(p->host, ':') ? "the proxy [%s]:%u (%.60s)" : "the proxy %s:%u (%.60s)",
             p->host, p->port, cfg->from);
    if (rc < 0)
        io_proxy_destroy(out);
    return rc;
}

void io_proxy_destroy(struct io_proxy **pp) {
    struct io_proxy *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    io_tls_destroy(&p->tls);
    explicit_bzero(p, sizeof *p);
    ht_free(p);
}

/* ---- the environment ---- */

/* The lower-case variable, or the other one; `upper` NULL: there is none. NULL: not set. */
static const char *look(io_env *env, const char *lower, const char *upper, const char **from) {
    const char *value = env(lower);
    *from = lower;
    if (value && *value)
        return value;
    value = upper ? env(upper) : NULL;
    *from = upper;
    return value && *value ? value : NULL;
}

const char *io_proxy_from_env(io_env *env, bool tls, const char *host, uint16_t port, const char **from) {
    struct io_addr a;
    const char *unwanted, *list = look(env, "no_proxy", "NO_PROXY", &unwanted);
    if (io_host_is_localhost(ht_slice_str(host)) || (io_addr_parse(&a, host, 0) == HT_OK && io_addr_is_loopback(&a)))
        return NULL;
    if (list && io_proxy_skips(list, host, port))
        return NULL;
    const char *cgi = env("REQUEST_METHOD");
    const char *found = tls ? look(env, "https_proxy", "HTTPS_PROXY", from)
                            : look(env, "http_proxy", cgi && *cgi ? NULL : "HTTP_PROXY", from);
    return found ? found : look(env, "all_proxy", "ALL_PROXY", from);
}

/* ---- NO_PROXY ---- */

/* Takes :PORT off an item. False: it is for another port. */
static bool take_port(struct ht_slice *item, uint16_t port) {
    size_t colons = 0, at = 0;
    for (size_t i = 0; i < item->n; i++)
        if (item->p[i] == ':') {
            colons++;
            at = i;
        }
    bool bracket = item->n > 0 && item->p[0] == '[';
    if (colons == 0 || (colons > 1 && !bracket) || (bracket && at > 0 && item->p[at - 1] != ']'))
        return true; /* an IPv6 address without a port has colons, too */
    unsigned number = 0;
    for (size_t i = at + 1; i < item->n; i++) {
        if (!isdigit((unsigned char)item->p[i]) || number > UINT16_MAX)
            return false;
        number = number * 10 + (unsigned)(item->p[i] - '0');
    }
    item->n = at;
    return number == port;
}

/* An address, or a network with /BITS. False: it is none, or not this one. */
static bool network_has(struct ht_slice item, const struct io_addr *host) {
    char text[IO_ADDR_TEXT];
    uint8_t net[16], addr[16];
    struct io_addr a;
    if (item.n > 1 && item.p[0] == '[' && item.p[item.n - 1] == ']')
        item = ht_slice_of(item.p + 1, item.n - 2);
    if (item.n == 0 || item.n >= sizeof text)
        return false;
    memcpy(text, item.p, item.n);
    text[item.n] = '\0';
    char *slash = strchr(text, '/');
    if (slash)
        *slash++ = '\0';
    if (io_addr_parse(&a, text, 0) < 0)
        return false;
    int family = io_addr_bytes(&a, net);
    unsigned bits = family == 4 ? 32 : 128, most = bits;
    if (slash) {
        bits = 0;
        for (const char *c = slash; *c; c++) {
            if (!isdigit((unsigned char)*c) || (bits = bits * 10 + (unsigned)(*c - '0')) > most)
                return false;
        }
        if (!*slash)
            return false;
    }
    if (io_addr_bytes(host, addr) != family || memcmp(net, addr, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || (net[bits / 8] ^ addr[bits / 8]) >> (8 - bits % 8) == 0;
}

/* Both without a dot at the end. */
static bool name_covers(struct ht_slice item, struct ht_slice host) {
    while (item.n > 0 && (item.p[0] == '.' || (item.p[0] == '*' && item.n > 1 && item.p[1] == '.')))
        item = ht_slice_of(item.p + 1, item.n - 1);
    while (item.n > 0 && item.p[item.n - 1] == '.')
        item.n--;
    if (item.n == 0 || item.n > host.n || !ht_slice_case_eq(ht_slice_of(host.p + host.n - item.n, item.n), item))
        return false;
    return item.n == host.n || host.p[host.n - item.n - 1] == '.';
}

bool io_proxy_skips(const char *list, const char *host, uint16_t port) {
    struct io_addr a;
    bool is_addr = io_addr_parse(&a, host, 0) == HT_OK;
    struct ht_slice name = ht_slice_str(host);
    while (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ", \t");
        struct ht_slice item = ht_slice_of(p, n);
        p += n + (p[n] ? 1 : 0);
        if (n == 0)
            continue;
        if (ht_slice_is(item, "*"))
            return true;
        if (take_port(&item, port) && (is_addr ? network_has(item, &a) : name_covers(item, name)))
            return true;
    }
    return false;
}
