/* What is said to a proxy: CONNECT (RFC 9110 9.3.6) with Basic (RFC 7617), and SOCKS5 (RFC 1928, RFC 1929). */
#include "io/proxy.h"

#include "base/base64.h"
#include "base/text.h"

#include <stdio.h>
#include <strings.h>

#define GIVE_CREDENTIALS                                                                                               \
    "; give them with --proxy-auth-file, or in the proxy's URL, as in http://USER:PASSWORD@HOST:PORT"
#define GO_DIRECTLY "; --proxy none or NO_PROXY reaches the kit directly, where the network allows that"

/* Of the SOCKS conversation, which part of it is read. */
enum { SOCKS_METHOD, SOCKS_LOGIN, SOCKS_REPLY, SOCKS_BOUND };

static void refuse(struct io_hop *h, int err, const char *what) {
    h->step = IO_HOP_REFUSED;
    h->out_len = h->sent = 0;
    explicit_bzero(h->out, sizeof h->out);
    h->err = err;
    ht_fail(&h->text, err, "%s %s", h->proxy->name, what);
}

void io_hop_lost(struct io_hop *h, int err, const char *why) {
    char what[200];
    snprintf(what, sizeof what, "%s", why);
    refuse(h, err, what);
}

/* The server, as in "kit.example:443". */
static const char *server(const struct io_hop *h, char out[300]) {
    snprintf(out, 300, strchr(h->host, ':') ? "[%.255s]:%u" : "%.255s:%u", h->host, (unsigned)h->port);
    return out;
}

/* ---- CONNECT ---- */

static void write_connect(struct io_hop *h) {
    char to[300], login[2 * IO_PROXY_WORD + 2], coded[4 * IO_PROXY_WORD];
    const struct io_proxy *p = h->proxy;
    size_t n = 0;
    if (p->has_user) {
        int len = snprintf(login, sizeof login, "%s:%s", p->user, p->password);
        n = ht_base64_put(coded, login, (size_t)len);
    }
    server(h, to);
    int len = snprintf((char *)h->out, sizeof h->out,
                       "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: hoody-tunnel\r\n%s%.*s%s\r\n", to, to,
                       p->has_user ? "Proxy-Authorization: Basic " : "", (int)n, coded, p->has_user ? "\r\n" : "");
    h->out_len = (size_t)len;
    explicit_bzero(login, sizeof login);
    explicit_bzero(coded, sizeof coded);
}

/* The value of a parameter of a challenge, such as realm="Corp". */
static void parameter(const char *challenge, const char *name, char *out, size_t cap) {
    const char *p = strcasestr(challenge, name);
    p = p ? p + strlen(name) : "";
    size_t n = *p == '"' ? strcspn(++p, "\"") : strcspn(p, ", ");
    ht_text_clean(ht_slice_of(p, n), out, cap);
}

/* Proxy-Authenticate may be there several times, one for each way to log in. */
static void note_challenge(struct io_hop *h, const char *value) {
    char scheme[sizeof h->scheme];
    ht_text_clean(ht_slice_of(value, strcspn(value, " ,")), scheme, sizeof scheme);
    bool basic = strcasecmp(scheme, "basic") == 0 || strcasestr(value, ", basic");
    if (basic)
        parameter(value, "realm=", h->realm, sizeof h->realm);
    if (!h->scheme[0] || basic)
        memcpy(h->scheme, basic ? "Basic" : scheme, basic ? sizeof "Basic" : sizeof scheme);
    h->basic = h->basic || basic;
}

static bool field_is(struct io_hop *h, const char *name, const char **value) {
    const char *line = (const char *)h->line;
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    *value = line + n + 1 + strspn(line + n + 1, " \t");
    return true;
}

static void not_http(struct io_hop *h) {
    refuse(h, HT_EIO,
           h->line[0] == 5                            ? "speaks SOCKS, so its URL begins with socks5://"
           : h->line[0] == 0x15 || h->line[0] == 0x16 ? "speaks TLS, so its URL begins with https://"
                                                      : "is no HTTP proxy: its answer is not HTTP");
}

static bool begins_as_http(const struct io_hop *h) {
    static const char begin[] = "HTTP/1.";
    return memcmp(h->line, begin, ht_min(h->n_line, sizeof begin - 1)) == 0;
}

/* False: it is none. */
static bool status_line(struct io_hop *h) {
    const char *s = (const char *)h->line;
    if (h->n_line < 12 || !begins_as_http(h) || s[7] < '0' || s[7] > '9' || s[8] != ' ' || s[9] < '1' || s[9] > '5')
        return false;
    if (s[10] < '0' || s[10] > '9' || s[11] < '0' || s[11] > '9' || (s[12] && s[12] != ' '))
        return false;
    h->status = (uint16_t)((s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0'));
    ht_text_clean(ht_slice_str(s[12] ? s + 13 : ""), h->reason, sizeof h->reason);
    return true;
}

static void wants_login(struct io_hop *h) {
    char what[400], realm[80] = "";
    if (h->realm[0])
        snprintf(realm, sizeof realm, " for \"%s\"", h->realm);
    if (h->scheme[0] && !h->basic)
        snprintf(what, sizeof what,
                 "wants a login by %s (%u), which is not known here; Basic is. A helper on this machine that logs in, "
                 "such as cntlm, can stand between",
                 h->scheme, h->status);
    else
        snprintf(what, sizeof what, "%s%s (%u%s%s)%s",
                 h->proxy->has_user ? "refused the credentials" : "wants credentials", realm, h->status,
                 h->scheme[0] ? ", " : "", h->scheme, h->proxy->has_user ? "" : GIVE_CREDENTIALS);
    refuse(h, HT_EAUTH, what);
}

static void refused_by_status(struct io_hop *h) {
    char what[460], to[300], code[80];
    const char *why = "";
    int err = HT_EIO;
    snprintf(code, sizeof code, "%u%s%s", h->status, h->reason[0] ? " " : "", h->reason);
    server(h, to);
    switch (h->status) {
    case 401: /* some proxies say so of wrong ones */
    case 407:
        wants_login(h);
        return;
    case 403:
        err = HT_EACCESS;
        snprintf(what, sizeof what, "refuses connections to %.200s (%s); whoever runs it may allow them" GO_DIRECTLY,
                 to, code);
        break;
    case 502:
    case 503:
        err = HT_EUNREACH;
        why = "did not reach";
        break;
    case 504:
        err = HT_ETIMEDOUT;
        why = "got no answer from";
        break;
    case 400:
    case 404:
    case 405:
    case 501:
        snprintf(what, sizeof what,
                 "does not open connections by CONNECT (%s): it may be a web server, or a proxy for plain HTTP alone",
                 code);
        break;
    default:
        if (h->status / 100 == 3)
            snprintf(what, sizeof what,
                     "answered %s and leads to %s: the login page of this network may have to be opened in a browser "
                     "first",
                     code, h->location[0] ? h->location : "nowhere");
        else
            snprintf(what, sizeof what, "answered %s when it was asked to connect to %.200s", code, to);
        break;
    }
    if (*why)
        snprintf(what, sizeof what, "%s %.200s (%s): the kit's name or port may be wrong, or the kit is down", why, to,
                 code);
    refuse(h, err, what);
}

/* One line without its end. */
static void http_line(struct io_hop *h) {
    const char *value;
    h->line[h->n_line] = '\0';
    if (!h->status) {
        if (!status_line(h))
            not_http(h);
    } else if (h->n_line > 0) {
        if (field_is(h, "proxy-authenticate", &value))
            note_challenge(h, value);
        else if (field_is(h, "location", &value))
            ht_text_clean(ht_slice_str(value), h->location, sizeof h->location);
    } else if (h->status / 100 == 2) { /* RFC 9110 9.3.6: whatever the head says of a body, there is none */
        h->step = IO_HOP_OPEN;
    } else if (h->status / 100 == 1 && h->status != 101) { /* an interim answer (RFC 9110 15.2) */
        h->status = 0;
    } else {
        refused_by_status(h);
    }
    h->n_line = 0;
}

static void http_byte(struct io_hop *h, uint8_t c) {
    if (++h->n_in > IO_HOP_IN) {
        refuse(h, HT_EIO, "is no HTTP proxy: the head of its answer has no end");
        return;
    }
    if (c == '\n') {
        if (h->n_line > 0 && h->line[h->n_line - 1] == '\r')
            h->n_line--;
        http_line(h);
        return;
    }
    if (h->n_line < sizeof h->line - 1)
        h->line[h->n_line++] = c ? c : '?';
    if (!h->status && !begins_as_http(h))
        not_http(h);
}

/* ---- SOCKS5 ---- */

static void expect(struct io_hop *h, unsigned phase, size_t n) {
    h->phase = phase;
    h->wanted = n;
    h->n_line = 0;
}

static void say(struct io_hop *h, const void *p, size_t n) {
    memcpy(h->out, p, n);
    h->out_len = n;
    h->sent = 0;
}

static void socks_greet(struct io_hop *h) {
    if (h->proxy->has_user)
        say(h, "\5\2\0\2", 4);
    else
        say(h, "\5\1\0", 3);
    expect(h, SOCKS_METHOD, 2);
}

static void socks_login(struct io_hop *h) {
    const struct io_proxy *p = h->proxy;
    uint8_t b[3 + 2 * IO_PROXY_WORD];
    size_t user = strlen(p->user), word = strlen(p->password);
    b[0] = 1;
    b[1] = (uint8_t)user;
    memcpy(b + 2, p->user, user);
    b[2 + user] = (uint8_t)word;
    memcpy(b + 3 + user, p->password, word);
    say(h, b, 3 + user + word);
    explicit_bzero(b, sizeof b);
    expect(h, SOCKS_LOGIN, 2);
}

static void socks_ask(struct io_hop *h) {
    uint8_t b[4 + 1 + 255 + 2] = {5, 1, 0}, raw[16];
    struct io_addr a;
    size_t n = ht_min(strlen(h->host), 255), at = 4;
    int family = io_addr_parse(&a, h->host, 0) == HT_OK ? io_addr_bytes(&a, raw) : 0;
    b[3] = family == 4 ? 1 : family == 6 ? 4 : 3;
    if (!family)
        b[at++] = (uint8_t)n;
    n = family == 4 ? 4 : family == 6 ? 16 : n;
    memcpy(b + at, family ? (const void *)raw : h->host, n);
    at += n;
    b[at++] = (uint8_t)(h->port >> 8);
    b[at++] = (uint8_t)h->port;
    explicit_bzero(h->out, sizeof h->out);
    say(h, b, at);
    expect(h, SOCKS_REPLY, 2);
}

static void socks_method(struct io_hop *h, uint8_t version, uint8_t method) {
    if (version == 'H')
        refuse(h, HT_EIO, "speaks HTTP, so its URL begins with http://");
    else if (version != 5)
        refuse(h, HT_EIO, "is no SOCKS5 proxy");
    else if (method == 0)
        socks_ask(h);
    else if (method == 2 && h->proxy->has_user)
        socks_login(h);
    else if (method == 0xff)
        refuse(h, HT_EAUTH,
               h->proxy->has_user ? "wants another login than user name and password"
                                  : "wants credentials" GIVE_CREDENTIALS);
    else
        refuse(h, HT_EIO, "is no SOCKS5 proxy: it chose a login that was not offered");
}

static void socks_reply(struct io_hop *h, uint8_t code) {
    static const struct {
        int err;
        const char *said;
    } codes[] = {
        [1] = {HT_EUNREACH, "did not reach"},
        [2] = {HT_EACCESS, "refuses connections to"},
        [3] = {HT_EUNREACH, "has no way to the network of"},
        [4] = {HT_EUNREACH, "could not reach, or not resolve,"},
        [5] = {HT_EREFUSED, "was refused by"},
        [6] = {HT_ETIMEDOUT, "got no answer from"},
        [7] = {HT_EIO, "does not open connections (CONNECT), also not to"},
        [8] = {HT_EIO, "does not know addresses of the kind of"},
    };
    char what[460], to[300];
    if (code >= HT_ARRAY_LEN(codes)) {
        snprintf(what, sizeof what, "did not reach %.200s: code %u, which SOCKS5 does not know", server(h, to), code);
        refuse(h, HT_EIO, what);
        return;
    }
    snprintf(what, sizeof what, "%s %.200s (SOCKS5 code %u)%s", codes[code].said, server(h, to), code,
             code == 2 ? GO_DIRECTLY : "");
    refuse(h, codes[code].err, what);
}

/* What was waited for is there, in h->line. */
static void socks_part(struct io_hop *h) {
    const uint8_t *in = h->line;
    switch (h->phase) {
    case SOCKS_METHOD:
        socks_method(h, in[0], in[1]);
        break;
    case SOCKS_LOGIN:
        if (in[0] != 1 && in[0] != 5) /* some answer with the version of SOCKS itself */
            refuse(h, HT_EIO, "is no SOCKS5 proxy: its answer to the login is none");
        else if (in[1] != 0)
            refuse(h, HT_EAUTH, "refused the credentials");
        else
            socks_ask(h);
        break;
    case SOCKS_REPLY:
        if (in[0] != 5)
            refuse(h, HT_EIO, "is no SOCKS5 proxy: its answer is of another version");
        else if (in[1] != 0)
            socks_reply(h, in[1]);
        else
            expect(h, SOCKS_BOUND, 3);
        break;
    default: /* the address that it connects from: first how long that is */
        if (h->wanted > 3) {
            h->step = IO_HOP_OPEN;
            break;
        }
        h->wanted = in[1] == 1 ? 2 + 4 + 2 : in[1] == 4 ? 2 + 16 + 2 : in[1] == 3 ? (size_t)3 + in[2] + 2 : 0;
        if (!h->wanted)
            refuse(h, HT_EIO, "is no SOCKS5 proxy: its answer has an address of no known kind");
        break;
    }
}

static void socks_byte(struct io_hop *h, uint8_t c) {
    h->line[h->n_line++] = c;
    if (h->n_line == h->wanted)
        socks_part(h);
}

/* ---- both ---- */

void io_hop_begin(struct io_hop *h, const struct io_proxy *proxy, const char *host, uint16_t port) {
    *h = (struct io_hop){.proxy = proxy, .host = host, .port = port};
    if (proxy->kind == IO_PROXY_SOCKS5)
        socks_greet(h);
    else
        write_connect(h);
}

enum io_hop_step io_hop_feed(struct io_hop *h, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n && h->step != IO_HOP_REFUSED; i++) {
        if (h->step == IO_HOP_OPEN)
            refuse(h, HT_EIO, "sent bytes of its own behind its answer: the kit cannot have said anything yet");
        else if (h->proxy->kind == IO_PROXY_SOCKS5)
            socks_byte(h, p[i]);
        else
            http_byte(h, p[i]);
    }
    return h->step;
}
