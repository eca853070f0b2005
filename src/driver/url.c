#include "driver/url.h"

#include "io/io.h"

#include <stdio.h>

int driver_port_parse(struct ht_slice text, uint16_t *out) {
    unsigned n = 0;
    if (text.n == 0 || text.n > 5)
        return HT_EINVAL;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return HT_EINVAL;
        n = n * 10 + (unsigned)(text.p[i] - '0');
    }
    if (n > UINT16_MAX)
        return HT_EINVAL;
    *out = (uint16_t)n;
    return HT_OK;
}

static bool all_digits(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

bool driver_host_is_local(const char *host) {
    struct io_addr a;
    if (io_host_is_localhost(ht_slice_str(host)))
        return true;
    return io_addr_parse(&a, host, 0) == 0 && io_addr_is_loopback(&a);
}

/* Checks the characters of a name, so that a typing error is reported here and not by a name server. */
static bool is_host_name(struct ht_slice s) {
    if (s.n == 0 || s.n > DRIVER_HOST_MAX || s.p[0] == '-' || s.p[0] == '.')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                  c == '_';
        if (!ok || (c == '.' && i + 1 < s.n && s.p[i + 1] == '.'))
            return false;
    }
    return true;
}

/*
 * True when a name ends in a number and is no IPv4 address. No name server knows such a name, but the C library reads
 * some of them as addresses: 8080 as 0.0.31.144, 127.1 as 127.0.0.1. The URL standard refuses them as well (WHATWG
 * URL 3.5).
 */
static bool ends_in_number(struct ht_slice s, const char *host) {
    struct io_addr addr;
    size_t end = s.n > 0 && s.p[s.n - 1] == '.' ? s.n - 1 : s.n, at = end;
    while (at > 0 && s.p[at - 1] != '.')
        at--;
    bool hex = end - at > 1 && s.p[at] == '0' && (s.p[at + 1] | 0x20) == 'x';
    bool number = end > at;
    for (size_t i = hex ? at + 2 : at; i < end && number; i++) {
        char c = (char)(s.p[i] | 0x20); /* lower case; digits stay as they are */
        number = (c >= '0' && c <= '9') || (hex && c >= 'a' && c <= 'f');
    }
    return number && io_addr_parse(&addr, host, 0) < 0;
}

/*
 * Splits "host", "host:port", "[v6]" and "[v6]:port". Without a port, *port is not changed, and *has_port is false.
 * `text` is the whole argument, for messages.
 */
static int split_authority(struct ht_slice a, const char *text, char host[DRIVER_HOST_MAX + 1], uint16_t *port,
                           bool *has_port, struct ht_errmsg *err) {
    struct ht_slice h = a, p = {0};
    *has_port = false;
    if (a.n && a.p[0] == '[') {
        const char *close = memchr(a.p, ']', a.n);
        if (!close)
            return ht_fail(err, HT_EINVAL, "\"%s\": a ']' is missing", text);
        h = ht_slice_of(a.p + 1, (size_t)(close - a.p) - 1);
        struct ht_slice rest = ht_slice_of(close + 1, a.n - h.n - 2);
        if (rest.n && rest.p[0] != ':')
            return ht_fail(err, HT_EINVAL, "\"%s\": only \":port\" may follow the ']'", text);
        *has_port = rest.n > 0;
        p = rest.n ? ht_slice_of(rest.p + 1, rest.n - 1) : p;
    } else {
        const char *colon = a.n ? memchr(a.p, ':', a.n) : NULL;
        if (colon) {
            h = ht_slice_of(a.p, (size_t)(colon - a.p));
            p = ht_slice_of(colon + 1, a.n - h.n - 1);
            *has_port = true;
            if (memchr(p.p, ':', p.n))
                return ht_fail(err, HT_EINVAL, "\"%s\": an IPv6 address needs brackets, as in [::1]:3000", text);
        }
    }
    if (*has_port && (driver_port_parse(p, port) < 0 || *port == 0))
        return ht_fail(err, HT_EINVAL, "\"%s\": \"%.*s\" is not a port: it must be a number from 1 to 65535", text,
                       HT_SLICE_ARG(p));
    if (h.n > DRIVER_HOST_MAX)
        return ht_fail(err, HT_EINVAL, "the host name has more than %d characters", DRIVER_HOST_MAX);
    if (h.n)
        memcpy(host, h.p, h.n);
    host[h.n] = '\0';
    struct io_addr addr;
    if (a.n && a.p[0] == '[') {
        if (!memchr(h.p, ':', h.n) || io_addr_parse(&addr, host, 0) < 0)
            return ht_fail(err, HT_EINVAL, "\"%s\": \"%s\" is not an IPv6 address", text, host);
    } else if (h.n && !is_host_name(h)) {
        return ht_fail(err, HT_EINVAL, "\"%s\": \"%s\" is not a host name", text, host);
    } else if (h.n && ends_in_number(h, host)) {
        return ht_fail(err, HT_EINVAL, "\"%s\": \"%s\" is neither a host name nor an IPv4 address", text, host);
    }
    return HT_OK;
}

static bool strip_scheme(struct ht_slice *s, const char *scheme) {
    size_t n = strlen(scheme);
    if (s->n < n || !ht_slice_case_eq(ht_slice_of(s->p, n), ht_slice_of(scheme, n)))
        return false;
    *s = ht_slice_of(s->p + n, s->n - n);
    return true;
}

static bool ends_with(struct ht_slice s, const char *tail) {
    size_t n = strlen(tail);
    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

/*
 * Writes the path of a kit's URL with its query. A path that ends in "/connect" is used as it is. Any other path is a
 * prefix of an edge, and the rest of the protocol's own path is put behind it. The result is that of snprintf().
 */
static int complete_path(char *out, size_t cap, struct ht_slice given, const char *connect_path) {
    const char *query = given.n ? memchr(given.p, '?', given.n) : NULL;
    const char *last = strrchr(connect_path, '/'); /* "/connect" */
    struct ht_slice path = ht_slice_of(given.p, query ? (size_t)(query - given.p) : given.n);
    struct ht_slice rest = ht_slice_of(query, given.n - path.n);
    char root[DRIVER_PATH_MAX];
    snprintf(root, sizeof root, "%.*s", (int)(last - connect_path), connect_path);
    while (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    const char *more = ends_with(path, last) ? "" : ends_with(path, root) ? last : connect_path;
    return snprintf(out, cap, "%.*s%s%.*s", HT_SLICE_ARG(path), more, HT_SLICE_ARG(rest));
}

int driver_url_parse(struct driver_url *u, const char *text, const char *default_path, struct ht_errmsg *err) {
    struct ht_slice s = ht_slice_str(text);
    *u = (struct driver_url){0};
    if (s.n == 0)
        return ht_fail(err, HT_EINVAL, "the kit's URL is empty: it may look like wss://kit.example or 127.0.0.1:50");
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 0x7f)
            return ht_fail(err, HT_EINVAL, "the kit's URL holds a space or a character that must be percent-encoded");
    if (memchr(s.p, '#', s.n))
        return ht_fail(err, HT_EINVAL, "\"%s\": a fragment (#...) has no meaning here", text);
    bool bare = false;
    if (strip_scheme(&s, "wss://") || strip_scheme(&s, "https://"))
        u->tls = true;
    else if (!strip_scheme(&s, "ws://") && !strip_scheme(&s, "http://"))
        bare = true;
    if (bare && strstr(text, "://"))
        return ht_fail(err, HT_EINVAL, "\"%s\": the scheme must be ws, wss, http or https", text);
    size_t n = 0;
    while (n < s.n && s.p[n] != '/' && s.p[n] != '?')
        n++;
    struct ht_slice authority = ht_slice_of(s.p, n), path = ht_slice_of(s.p + n, s.n - n);
    if (memchr(authority.p, '@', authority.n)) /* the message does not repeat it: a password may be before the @ */
        return ht_fail(err, HT_EINVAL,
                       "the kit's URL contains a user name; a token goes into --token-file or HOODY_TUNNEL_TOKEN");
    bool has_port;
    bool port_only = authority.n > 1 && authority.p[0] == ':';
    struct ht_slice lonely = port_only ? ht_slice_of(authority.p + 1, authority.n - 1) : authority;
    if (all_digits(lonely))
        return ht_fail(err, HT_EINVAL, "\"%s\": the host is missing; a kit on this machine is 127.0.0.1:%.*s", text,
                       HT_SLICE_ARG(lonely));
    int rc = split_authority(authority, text, u->host, &u->port, &has_port, err);
    if (rc < 0)
        return rc;
    if (!u->host[0])
        return ht_fail(err, HT_EINVAL, "\"%s\": the host is missing", text);
    if (bare)
        u->tls = !driver_host_is_local(u->host);
    uint16_t own = u->tls ? 443 : 80;
    if (!has_port)
        u->port = own;
    bool v6 = strchr(u->host, ':') != NULL;
    int at = snprintf(u->host_field, sizeof u->host_field, "%s%s%s", v6 ? "[" : "", u->host, v6 ? "]" : "");
    if (u->port != own)
        snprintf(u->host_field + at, sizeof u->host_field - (size_t)at, ":%u", u->port);
    if (default_path)
        at = complete_path(u->path, sizeof u->path, path, default_path);
    else
        at = snprintf(u->path, sizeof u->path, "%s%.*s", path.n && path.p[0] == '/' ? "" : "/", HT_SLICE_ARG(path));
    if (at < 0 || (size_t)at >= sizeof u->path)
        return ht_fail(err, HT_EINVAL, "the path of the kit's URL has more than %d characters", DRIVER_PATH_MAX);
    return HT_OK;
}

int driver_url_admin_path(const struct driver_url *u, const char *connect_path, const char *resource, char *out,
                          size_t cap) {
    const char *last = strrchr(connect_path, '/'); /* "/connect" */
    const char *query = strchr(u->path, '?');
    size_t n = query ? (size_t)(query - u->path) : strlen(u->path), tail = strlen(last);
    while (n > 0 && u->path[n - 1] == '/')
        n--;
    if (n >= tail && memcmp(u->path + n - tail, last, tail) == 0)
        n -= tail;
    int len = snprintf(out, cap, "%.*s%s", (int)n, u->path, resource);
    return len < 0 || (size_t)len >= cap ? HT_ESPACE : HT_OK;
}

/* The schemes of a target. */
static const struct scheme {
    const char *text;
    enum driver_target_tls tls;
    bool https;
} schemes[] = {
    {"http://", DRIVER_PLAIN, false},
    {"https://", DRIVER_TLS, true},
    {"https+insecure://", DRIVER_TLS_INSECURE, true},
    {"tls://", DRIVER_TLS, false},
    {"tls+insecure://", DRIVER_TLS_INSECURE, false},
};

/* Reduces "http://host:port/" to "host:port". Other URLs are refused with a message that says what would be right.
 * `text` is the whole argument. */
static int target_of_url(struct driver_target *t, struct ht_slice *s, const char *text, struct ht_errmsg *err) {
    const struct scheme *scheme = NULL;
    for (size_t i = 0; i < HT_ARRAY_LEN(schemes) && !scheme; i++)
        if (strip_scheme(s, schemes[i].text))
            scheme = &schemes[i];
    bool ws = !scheme && strip_scheme(s, "ws://"), wss = !scheme && !ws && strip_scheme(s, "wss://");
    const char *rest = scheme || ws || wss ? s->p : strstr(text, "://") + 3;
    size_t n = strcspn(rest, "/?#");
    bool has_path = rest[n] == '/' ? rest[n + 1] != '\0' : rest[n] != '\0';
    struct ht_slice authority = ht_slice_of(rest, n);
    if (memchr(rest, '@', n)) /* the message does not repeat it: it may hold a password */
        return ht_fail(err, HT_EINVAL, "a target contains a user name; it is a host and a port, as in localhost:3000");
    if (ws || wss)
        return ht_fail(err, HT_EINVAL, "\"%s\": WebSockets come by the same target as requests; write http%s://%.*s",
                       text, wss ? "s" : "", HT_SLICE_ARG(authority));
    if (!scheme)
        return ht_fail(err, HT_EINVAL, "\"%s\": a target is a host and a port; write %.*s", text,
                       HT_SLICE_ARG(authority));
    t->tls = scheme->tls;
    t->https = scheme->https;
    int n_scheme = t->tls ? (int)strlen(scheme->text) : 0;
    if (has_path && t->tls && !t->https)
        return ht_fail(err, HT_EINVAL, "\"%s\": a target has no path; write %.*s%.*s", text, n_scheme, scheme->text,
                       HT_SLICE_ARG(authority));
    if (has_path)
        return ht_fail(err, HT_EINVAL, "\"%s\": requests keep their own paths, so a target has none; write %.*s%.*s",
                       text, n_scheme, scheme->text, HT_SLICE_ARG(authority));
    *s = authority;
    return HT_OK;
}

/* Reads what stands behind "unix:". */
static int target_of_path(struct driver_target *t, struct ht_slice s, const char *text, struct ht_errmsg *err) {
    struct ht_slice path = s;
    (void)(strip_scheme(&path, "//localhost/") || strip_scheme(&path, "///"));
    if (path.p != s.p)
        path = ht_slice_of(path.p - 1, path.n + 1); /* the path's own slash */
    if (path.n < 2 || path.p[0] != '/' || path.p[1] == '/')
        return ht_fail(err, HT_EINVAL, "\"%s\": a Unix socket is named by its whole path, as in unix:/run/app.sock",
                       text);
    if (path.n > IO_UNIX_PATH_MAX)
        return ht_fail(err, HT_EINVAL, "\"%s\": the path of a Unix socket has at most %zu bytes, and this one has %zu",
                       text, IO_UNIX_PATH_MAX, path.n);
    for (size_t i = 0; i < path.n; i++)
        if ((unsigned char)path.p[i] < ' ' || path.p[i] == 0x7f)
            return ht_fail(err, HT_EINVAL, "the path of a Unix socket holds a control character");
    memcpy(t->host, path.p, path.n);
    return HT_OK;
}

int driver_target_check(const struct driver_target *t, bool expose, const char *text, struct ht_errmsg *err) {
    char whole[DRIVER_TARGET_TEXT];
    if (t->tls == DRIVER_PLAIN || t->https == expose)
        return HT_OK;
    const char *host = strstr(driver_target_text(t, whole), "://") + 3;
    if (expose)
        return ht_fail(err, HT_EINVAL,
                       "\"%s\": tls:// is for pull, which carries bytes; to expose a service of HTTP over TLS write "
                       "https%s://%s",
                       text, t->tls == DRIVER_TLS_INSECURE ? "+insecure" : "", host);
    return ht_fail(
        err, HT_EINVAL,
        "\"%s\": https:// is for expose; pull tls%s://%s speaks TLS from here, and pull %s carries it as it is, "
        "to programs in the container",
        text, t->tls == DRIVER_TLS_INSECURE ? "+insecure" : "", host, host);
}

char *driver_target_text(const struct driver_target *t, char out[DRIVER_TARGET_TEXT]) {
    const char *scheme = "";
    bool v6 = strchr(t->host, ':') != NULL;
    for (size_t i = 0; i < HT_ARRAY_LEN(schemes); i++)
        if (t->tls && schemes[i].tls == t->tls && schemes[i].https == t->https)
            scheme = schemes[i].text;
    if (driver_target_is_unix(t))
        snprintf(out, DRIVER_TARGET_TEXT, "unix:%s", t->host);
    else
        snprintf(out, DRIVER_TARGET_TEXT, "%s%s%.255s%s:%u", scheme, v6 ? "[" : "", t->host, v6 ? "]" : "", t->port);
    return out;
}

bool driver_target_is_pair(const char *text, struct ht_slice *port, const char **local) {
    struct driver_target t;
    uint16_t number;
    size_t n = strcspn(text, ":");
    *port = ht_slice_of(text, n);
    *local = text[n] ? text + n + 1 : "";
    return text[n] && driver_port_parse(*port, &number) == HT_OK && driver_target_parse(&t, *local, NULL) == HT_OK;
}

int driver_target_parse(struct driver_target *t, const char *text, struct ht_errmsg *err) {
    *t = (struct driver_target){0};
    struct ht_slice s = ht_slice_str(text), container;
    const char *local;
    if (s.n == 0)
        return ht_fail(err, HT_EINVAL, "a target is empty: it may look like 3000, host:3000 or [::1]:3000");
    if (strip_scheme(&s, "unix:"))
        return target_of_path(t, s, text, err);
    if (s.p[0] == '/')
        return ht_fail(err, HT_EINVAL, "\"%s\": a Unix socket is written unix:%s", text, text);
    bool has_port = false, url = strstr(text, "://") != NULL;
    int rc = url ? target_of_url(t, &s, text, err) : HT_OK;
    if (rc < 0)
        return rc;
    if (!url && all_digits(s)) { /* a port alone: "3000" is ":3000" */
        if (driver_port_parse(s, &t->port) < 0 || t->port == 0)
            return ht_fail(err, HT_EINVAL, "\"%s\" is not a port: it must be a number from 1 to 65535", text);
        has_port = true;
    } else if (!url && driver_target_is_pair(text, &container, &local)) {
        return ht_fail(err, HT_EINVAL,
                       "\"%s\": %.*s is not a host; the target is %s, and the container's port is given separately",
                       text, HT_SLICE_ARG(container), local);
    } else {
        rc = split_authority(s, text, t->host, &t->port, &has_port, err);
    }
    if (rc < 0)
        return rc;
    if (url && !t->host[0])
        return ht_fail(err, HT_EINVAL, "\"%s\": the host is missing, as in %s", text,
                       t->https ? "https://localhost:3443"
                       : t->tls ? "tls://www.example.com:443"
                                : "http://localhost:3000");
    if (!has_port && url)
        t->port = t->tls ? 443 : 80;
    else if (!has_port)
        return ht_fail(err, HT_EINVAL, "\"%s\": the port is missing, as in %s:3000", text, text);
    t->any_loopback = !t->host[0];
    if (t->any_loopback)
        memcpy(t->host, "127.0.0.1", sizeof "127.0.0.1");
    return HT_OK;
}
