#include "relay/dest.h"

#include <stdio.h>

/* ---- destinations ---- */

static int bad(const char **why, const char *text) {
    *why = text;
    return HT_EINVAL;
}

int relay_dest_set(struct relay_dest *d, struct ht_slice host, uint16_t port, const char **why) {
    struct ht_errmsg err;
    *d = (struct relay_dest){.port = port};
    if (port == 0)
        return bad(why, "the port must be 1 to 65535");
    if (wire_host_read(d->host, host, &err))
        return bad(why, "the host is neither a name nor an address in its usual form");
    d->is_addr = io_addr_parse(&d->addr, d->host, port) == HT_OK;
    wire_authority_put(d->host, port, d->text);
    return HT_OK;
}

static bool take_port(struct ht_slice s, uint16_t *port) {
    uint32_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        if (!ht_is_digit(s.p[i]) || (n = n * 10 + (uint32_t)(s.p[i] - '0')) > UINT16_MAX)
            return false;
    *port = (uint16_t)n;
    return s.n > 0;
}

int relay_dest_parse(struct relay_dest *d, struct ht_slice authority, uint16_t usual_port, const char **why) {
    struct ht_slice host = authority;
    const char *end = authority.p + authority.n, *behind;
    uint16_t port = usual_port;
    if (authority.n == 0)
        return bad(why, "there is no host");
    if (*authority.p == '[') {
        const char *close = memchr(authority.p, ']', authority.n);
        if (!close)
            return bad(why, "a bracket is missing");
        host = ht_slice_of(authority.p + 1, (size_t)(close - authority.p) - 1);
        behind = close + 1;
        if (!memchr(host.p, ':', host.n))
            return bad(why, "only an IPv6 address stands in brackets");
    } else {
        behind = memchr(authority.p, ':', authority.n);
        behind = behind ? behind : end;
        host.n = (size_t)(behind - authority.p);
    }
    if (behind < end && (*behind != ':' || !take_port(ht_slice_of(behind + 1, (size_t)(end - behind) - 1), &port)))
        return bad(why, "the port must be 1 to 65535");
    return relay_dest_set(d, host, port, why);
}

/* ---- rules ---- */

static bool parse_ports(const char *s, struct relay_rule *r) {
    const char *dash = strchr(s, '-');
    size_t n = dash ? (size_t)(dash - s) : strlen(s);
    if (strcmp(s, "*") == 0)
        return true;
    if (!take_port(ht_slice_of(s, n), &r->first))
        return false;
    r->last = r->first;
    if (dash && !take_port(ht_slice_str(dash + 1), &r->last))
        return false;
    return r->first > 0 && r->first <= r->last;
}

/* "10.0.0.0/8", "10.1.2.3", "fd00::/8" */
static bool parse_net(const char *s, struct relay_rule *r) {
    char text[64];
    const char *slash = strchr(s, '/');
    size_t n = slash ? (size_t)(slash - s) : strlen(s);
    struct io_addr a;
    uint16_t bits = 0;
    if (n >= sizeof text)
        return false;
    memcpy(text, s, n);
    text[n] = '\0';
    if (io_addr_parse(&a, text, 0))
        return false;
    r->kind = RULE_NET;
    r->family = io_addr_bytes(&a, r->addr);
    r->bits = r->family == 4 ? 32 : 128;
    if (!slash)
        return true;
    if (!take_port(ht_slice_str(slash + 1), &bits) || bits > r->bits)
        return false;
    r->bits = (uint8_t)bits;
    return true;
}

static bool parse_what(const char *s, struct relay_rule *r) {
    if (strcmp(s, "*") == 0)
        return true;
    if (parse_net(s, r))
        return true;
    bool below = s[0] == '*' && s[1] == '.';
    char host[WIRE_HOST_ROOM];
    struct ht_errmsg err;
    if (wire_host_read(host, ht_slice_str(below ? s + 2 : s), &err) || wire_host_is_address(host))
        return false;
    r->kind = below ? RULE_BELOW : RULE_NAME;
    return snprintf(r->host, sizeof r->host, "%s%s", below ? "." : "", host) < (int)sizeof r->host;
}

int relay_rule_parse(struct relay_rule *r, const char *text, struct ht_errmsg *err) {
    char what[RELAY_HOST_MAX + 8];
    const char *ports = NULL, *from = text, *close = text[0] == '[' ? strchr(text, ']') : NULL;
    size_t n = strlen(text);
    *r = (struct relay_rule){.kind = RULE_ANY, .first = 1, .last = UINT16_MAX};
    if (close) {
        from = text + 1;
        n = (size_t)(close - from);
        ports = close[1] == ':' ? close + 2 : close[1] ? "" : NULL;
    } else if (strchr(text, ':') && strchr(text, ':') == strrchr(text, ':')) { /* more of them: an IPv6 address */
        n = (size_t)(strchr(text, ':') - text);
        ports = text + n + 1;
    }
    bool good = n > 0 && n < sizeof what;
    if (good) {
        memcpy(what, from, n);
        what[n] = '\0';
        good = parse_what(what, r) && (!close || (r->kind == RULE_NET && r->family == 6));
    }
    if (good && (!ports || parse_ports(ports, r)))
        return HT_OK;
    return ht_fail(err, HT_EINVAL,
                   "\"%.80s\" is no destination; write a name, *.example.com, 10.0.0.0/8 or [fd00::/8], and behind it "
                   ":443 or :8000-8999 for some ports alone",
                   text);
}

/* ---- addresses ---- */

struct face { /* one way to read an address */
    int family;
    uint8_t addr[16];
};

/* What an address may lead to: itself, and the IPv4 addresses inside. */
#define MOST_FACES 4

static void add_v4(struct face *f, size_t *n, const uint8_t *bytes, uint8_t flip) {
    f[*n].family = 4;
    for (size_t i = 0; i < 4; i++)
        f[*n].addr[i] = bytes[i] ^ flip;
    ++*n;
}

static bool begins(const uint8_t *addr, const uint8_t *with, unsigned bits) {
    unsigned whole = bits / 8;
    uint8_t rest = (uint8_t)(0xff00u >> bits % 8);
    return memcmp(addr, with, whole) == 0 && (rest == 0 || ((addr[whole] ^ with[whole]) & rest) == 0);
}

static size_t faces_of(const struct io_addr *a, struct face f[MOST_FACES]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, translated[12] = {[8] = 0xff, [9] = 0xff},
                         compatible[12] = {0}, loopback[16] = {0}, nat64[12] = {0x00, 0x64, 0xff, 0x9b},
                         isatap[4] = {0, 0, 0x5e, 0xfe}, six_to_four[2] = {0x20, 0x02}, teredo[4] = {0x20, 0x01, 0, 0};
    uint8_t b[16];
    size_t n = 0;
    int family = io_addr_bytes(a, b);
    if (family == 6 && begins(b, mapped, 96)) { /* the kernel takes it for nothing else */
        add_v4(f, &n, b + 12, 0);
        return n;
    }
    f[n].family = family;
    memcpy(f[n++].addr, b, sizeof b);
    if (family != 6)
        return n;
    bool is_compatible = begins(b, compatible, 96) && !begins(b, loopback, 127);
    if (is_compatible || begins(b, translated, 96) || begins(b, nat64, 96))
        add_v4(f, &n, b + 12, 0);
    if (begins(b, six_to_four, 16))
        add_v4(f, &n, b + 2, 0);
    if (begins(b, teredo, 32)) {
        add_v4(f, &n, b + 4, 0);
        add_v4(f, &n, b + 12, 0xff);
    }
    if ((b[8] & 0xfd) == 0 && begins(b + 9, isatap + 1, 24)) /* RFC 5214 6.1: universal or not */
        add_v4(f, &n, b + 12, 0);
    return n;
}

struct guarded {
    int family;
    unsigned bits;
    uint8_t addr[16];
    const char *what;
};

#define N_HERE 3 /* the first rows: addresses that always mean this machine */

static const struct guarded guarded[] = {
    {4, 8, {127}, "it is a loopback address"},
    {4, 8, {0}, "the address stands for this machine"},
    {6, 127, {0}, "it is the loopback address, or stands for this machine"},
    {4, 16, {169, 254}, "it is a link-local address"},
    {4, 32, {100, 100, 100, 200}, "it is a metadata service"},
    {4, 32, {168, 63, 129, 16}, "it is a metadata service"},
    {4, 24, {192, 0, 0}, "it is a reserved address"},
    {4, 4, {224}, "it is a multicast address"},
    {4, 4, {240}, "it is a reserved address"},
    {6, 96, {0}, "it is a reserved address"},
    {6, 48, {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, "nobody knows which IPv4 address is in it"}, /* RFC 8215 */
    {6, 10, {0xfe, 0x80}, "it is a link-local address"},
    {6, 10, {0xfe, 0xc0}, "it is a site-local address"},
    {6, 8, {0xff}, "it is a multicast address"},
    {6, 128, {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, "it is a metadata service"},
    {6, 128, {0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}, "it is a metadata service"},
};

static const struct guarded *guard_of(const struct face *f) {
    for (size_t i = 0; i < HT_ARRAY_LEN(guarded); i++)
        if (guarded[i].family == f->family && begins(f->addr, guarded[i].addr, guarded[i].bits))
            return &guarded[i];
    return NULL;
}

/* ---- the policy ---- */

static bool has_port(const struct relay_rule *r, uint16_t port) { return port >= r->first && port <= r->last; }

static bool covers(const struct relay_rule *r, const struct face *f, uint16_t port) {
    return r->kind == RULE_NET && r->family == f->family && begins(f->addr, r->addr, r->bits) && has_port(r, port);
}

static bool names(const struct relay_rule *r, const struct relay_dest *d) {
    size_t n = strlen(d->host), tail = strlen(r->host);
    if (!has_port(r, d->port))
        return false;
    switch (r->kind) {
    case RULE_ANY:
        return true;
    case RULE_NAME:
        return !d->is_addr && strcmp(d->host, r->host) == 0;
    case RULE_BELOW:
        return !d->is_addr && n > tail && strcmp(d->host + n - tail, r->host) == 0;
    case RULE_NET:
        break;
    }
    return false;
}

static bool is_own_port(const struct relay_policy *p, uint16_t port) {
    for (size_t i = 0; i < HT_ARRAY_LEN(p->own_ports); i++)
        if (port == p->own_ports[i])
            return true;
    return false;
}

/* A rule that says in so many words that this is meant. */
static bool is_meant(const struct relay_policy *p, const struct face *f, uint16_t port, unsigned bits, bool own_port) {
    for (size_t i = 0; i < p->n_allow; i++) {
        const struct relay_rule *r = &p->allow[i];
        if (covers(r, f, port) && r->bits >= bits && (!own_port || r->first == r->last))
            return true;
    }
    return false;
}

const char *relay_policy_name(const struct relay_policy *p, const struct relay_dest *d) {
    for (size_t i = 0; i < p->n_deny; i++)
        if (names(&p->deny[i], d))
            return "--connect-deny has it";
    if (p->pass || d->is_addr)
        return NULL;
    bool by_addr = false;
    for (size_t i = 0; i < p->n_allow; i++) {
        if (names(&p->allow[i], d))
            return NULL;
        by_addr |= p->allow[i].kind == RULE_NET && has_port(&p->allow[i], d->port);
    }
    /* Only its addresses can tell whether a network of the list has it. */
    return by_addr ? NULL : "--connect-default is deny, and --connect-allow does not have it";
}

const char *relay_policy_addr(const struct relay_policy *p, const struct relay_dest *d, const struct io_addr *a,
                              bool own) {
    struct face f[MOST_FACES];
    size_t n = faces_of(a, f);
    bool allowed = p->pass;
    for (size_t i = 0; i < p->n_allow && !allowed; i++)
        allowed = names(&p->allow[i], d) || covers(&p->allow[i], &f[0], d->port);
    for (size_t i = 0; i < p->n_deny; i++)
        for (size_t k = 0; k < n; k++)
            if (covers(&p->deny[i], &f[k], d->port))
                return "--connect-deny has its address";
    for (size_t k = 0; k < n; k++) {
        const struct guarded *g = guard_of(&f[k]);
        bool mine = own && k == 0, own_port = (mine || (g && g < guarded + N_HERE)) && is_own_port(p, d->port);
        if ((!g && !mine) || is_meant(p, &f[k], d->port, g ? g->bits : f[k].family == 4 ? 32 : 128, own_port))
            continue;
        return own_port ? "it is a port of the kit" : g ? g->what : "it is an address of this machine";
    }
    return allowed ? NULL : "--connect-default is deny, and --connect-allow does not have it";
}
