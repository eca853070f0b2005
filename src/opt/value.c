/* Reads one value by the type of its option, and stores it in the command's structure. */
#include "opt/opt_priv.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <stdio.h>

#define BAD(src, ...) bad_value(src, text, __VA_ARGS__)

/* `text` is the value, cut where a terminal line would end. */
static int bad_value(const struct opt_source *src, const char *text, const char *right) {
    return ht_fail(src->err, HT_EINVAL, "%s%s: \"%.80s\" %s", src->dashes, src->name, text, right);
}

/* Digits at *text, advanced behind them; UINT64_MAX stands for any number too large for the rest to matter. */
static bool take_number(const char **text, uint64_t *out) {
    const char *p = *text;
    uint64_t n = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        n = n > (UINT64_MAX - 9) / 10 ? UINT64_MAX : n * 10 + (uint64_t)(*p - '0');
    if (p == *text)
        return false;
    *text = p;
    *out = n;
    return true;
}

static uint64_t times(uint64_t n, uint64_t by) { return n > UINT64_MAX / by ? UINT64_MAX : n * by; }

static bool take_unit(const struct opt_option *o, const char *p, uint64_t *n) {
    static const struct unit {
        enum opt_type type;
        const char *name;
        uint64_t by;
    } units[] = {
        {OPT_TYPE_INT, "", 1},          {OPT_TYPE_DURATION, "ms", 1},    {OPT_TYPE_DURATION, "s", 1000},
        {OPT_TYPE_DURATION, "", 1000},  {OPT_TYPE_DURATION, "m", 60000}, {OPT_TYPE_DURATION, "h", 3600000},
        {OPT_TYPE_SIZE, "", 1},         {OPT_TYPE_SIZE, "K", 1u << 10},  {OPT_TYPE_SIZE, "M", 1u << 20},
        {OPT_TYPE_SIZE, "G", 1u << 30}, {OPT_TYPE_SIZE, "k", 1u << 10},  {OPT_TYPE_SIZE, "m", 1u << 20},
        {OPT_TYPE_SIZE, "g", 1u << 30},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(units); i++)
        if (units[i].type == o->type && strcmp(units[i].name, p) == 0) {
            *n = times(*n, units[i].by);
            return true;
        }
    return false;
}

static int parse_number(const struct opt_option *o, const struct opt_source *src, const char *text, uint64_t *out) {
    const char *p = text;
    if (!take_number(&p, out) || !take_unit(o, p, out)) {
        if (o->type == OPT_TYPE_DURATION)
            return BAD(src, "is not a duration; write 500ms, 5s, 2m or 1h, a bare number is seconds");
        if (o->type == OPT_TYPE_SIZE)
            return BAD(src, "is not a size; write bytes, or 64K, 1M, 2G");
        return BAD(src, "is not a whole number");
    }
    if (*out < o->min || *out > o->max)
        return ht_fail(src->err, HT_EINVAL, "%s%s: %.80s is out of range; it must be %s to %s%s%s", src->dashes,
                       src->name, text, opt_text(o->min_text), opt_text(o->max_text), o->unit ? " " : "",
                       o->unit ? opt_text(o->unit) : "");
    return HT_OK;
}

/* "host:port", "[v6]:port", ":port", "port"; without a host the one that is in `out` already stays. */
static int parse_addr(const struct opt_source *src, const char *text, struct opt_addr *out) {
    const char *colon = strrchr(text, ':');
    const char *p = colon ? colon + 1 : text;
    const char *host = text;
    size_t host_len = colon ? (size_t)(colon - text) : 0;
    bool bracketed = host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']';
    if (bracketed) {
        host++;
        host_len -= 2;
    }
    uint64_t port = 0;
    if (!take_number(&p, &port) || *p != '\0' || port > 65535)
        return BAD(src, "has no port from 0 to 65535 at its end; write host:port or [address]:port");
    if (host_len >= sizeof out->host)
        return BAD(src, "has a host longer than 255 bytes");
    if (!bracketed && memchr(host, ':', host_len))
        return BAD(src, "is ambiguous; write an IPv6 address as [address]:port");
    if (bracketed || host_len > 0) {
        memcpy(out->host, host, host_len);
        out->host[host_len] = '\0';
        struct in6_addr ignored;
        if (bracketed && inet_pton(AF_INET6, out->host, &ignored) != 1)
            return BAD(src, "has no IPv6 address between its brackets");
    }
    out->text = text;
    out->port = (uint16_t)port;
    return HT_OK;
}

static int parse_ip(const struct opt_source *src, const char *text) {
    struct in6_addr ignored;
    if (inet_pton(AF_INET, text, &ignored) == 1 || inet_pton(AF_INET6, text, &ignored) == 1)
        return HT_OK;
    return BAD(src, "is not a numeric address such as 127.0.0.1 or ::1");
}

/* A token goes into a header as it is, so nothing but visible ASCII may be in it. Never shown. */
static int parse_secret(const struct opt_source *src, const char *text) {
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~')
            return ht_fail(src->err, HT_EINVAL, "%s%s: only visible ASCII characters may be in it, no spaces",
                           src->dashes, src->name);
    return HT_OK;
}

/* `text` is one network, `n` bytes long. */
static bool parse_port_range(const char *text, size_t n, struct opt_port_range *out) {
    const char *p = text;
    uint64_t first, last;
    if (!take_number(&p, &first))
        return false;
    last = first;
    if (p < text + n && *p == '-') {
        p++;
        if (!take_number(&p, &last))
            return false;
    }
    if (p != text + n || first < 1 || first > last || last > 65535)
        return false;
    *out = (struct opt_port_range){(uint16_t)first, (uint16_t)last};
    return true;
}

static bool is_texts(const struct opt_option *o) {
    return o->type == OPT_TYPE_DESTINATION || o->type == OPT_TYPE_FORWARD || o->type == OPT_TYPE_FILES ||
           o->type == OPT_TYPE_LISTEN || o->type == OPT_TYPE_HOSTS || o->type == OPT_TYPE_RULES ||
           o->type == OPT_TYPE_NETS || o->type == OPT_TYPE_PAGES;
}

bool opt_is_list(const struct opt_option *o) {
    return o->type == OPT_TYPE_CIDR || o->type == OPT_TYPE_PORTS || o->type == OPT_TYPE_HEADER || is_texts(o);
}

static int append_item(const struct opt_option *o, char *base, const void *item, size_t item_size) {
    void *list;
    size_t *n = (size_t *)(void *)(base + o->count);
    memcpy(&list, base + o->field, sizeof list);
    void *more = ht_realloc(list, (*n + 1) * item_size);
    if (!more)
        return HT_ENOMEM;
    memcpy(base + o->field, &more, sizeof more);
    memcpy((char *)more + *n * item_size, item, item_size);
    ++*n;
    return HT_OK;
}

/* RFC 9110 5.1: a token in front of the colon. The value may be a secret and is never shown. */
static int parse_header(const struct opt_option *o, const struct opt_source *src, const char *text, char *base) {
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t name = strspn(text, token);
    if (name == 0 || text[name] != ':')
        return ht_fail(src->err, HT_EINVAL, "%s%s: a header begins with its name and a colon; write 'Name: value'",
                       src->dashes, src->name);
    for (const char *p = text + name; *p; p++)
        if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
            return ht_fail(src->err, HT_EINVAL, "%s%s: the value of %.*s holds a control character", src->dashes,
                           src->name, (int)ht_min(name, 80), text);
    return append_item(o, base, &text, sizeof text);
}

/* Appends the items of a comma list to the list at `o->field`. */
static int parse_list(const struct opt_option *o, const struct opt_source *src, const char *text, char *base) {
    bool ports = o->type == OPT_TYPE_PORTS;
    if (o->type == OPT_TYPE_HEADER)
        return parse_header(o, src, text, base);
    if (is_texts(o))
        return *text ? append_item(o, base, &text, sizeof text) : BAD(src, "is empty");
    size_t item_size = ports ? sizeof(struct opt_port_range) : sizeof(struct ht_cidr);
    if (ports && strcmp(text, "none") == 0)
        return HT_OK;
    for (const char *list = text; list;) {
        struct ht_slice one = ht_list_item(&list);
        union {
            struct ht_cidr cidr;
            struct opt_port_range range;
        } item;
        if (!(ports ? parse_port_range(one.p, one.n, &item.range) : ht_cidr_read(one.p, one.n, &item.cidr)))
            return BAD(src, ports ? "is not a list of ports; write 80,443,3000-3010, or none"
                                  : "is not a network; write 10.0.0.0/8, 192.168.1.7 or fd00::/8");
        int rc = append_item(o, base, &item, item_size);
        if (rc != HT_OK)
            return rc;
    }
    return HT_OK;
}

static int parse_enum(const struct opt_option *o, const struct opt_source *src, const char *text, int *out) {
    const struct opt_choice *choices = opt_choices + o->choices;
    for (size_t i = 0; i < o->n_choices; i++)
        if (strcmp(opt_text(choices[i].name), text) == 0) {
            *out = choices[i].number;
            return HT_OK;
        }
    char right[160] = "is none of ";
    for (size_t i = 0; i < o->n_choices; i++) {
        size_t used = strlen(right);
        snprintf(right + used, sizeof right - used, "%s%s", i ? ", " : "", opt_text(choices[i].name));
    }
    return BAD(src, right);
}

static int parse_bool(const struct opt_source *src, const char *text, bool *out) {
    static const char *const yes[] = {"1", "true", "yes", "on"}, *const no[] = {"0", "false", "no", "off"};
    for (size_t i = 0; i < HT_ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return HT_OK;
        }
    }
    return BAD(src, "is neither true nor false; write 1, true, yes, on, or 0, false, no, off");
}

int opt_set_value(const struct opt_option *o, const struct opt_source *src, const char *text, char *base) {
    char *field = base + o->field;
    uint64_t number = 0;
    unsigned small;
    int chosen = 0, rc = HT_OK;
    switch (o->type) {
    case OPT_TYPE_STRING:
    case OPT_TYPE_FILE:
    case OPT_TYPE_SECRET:
    case OPT_TYPE_IP:
        if (o->type == OPT_TYPE_IP)
            rc = parse_ip(src, text);
        else if (o->type == OPT_TYPE_SECRET)
            rc = parse_secret(src, text);
        else if (*text == '\0')
            rc = BAD(src, "is empty");
        if (rc == HT_OK)
            memcpy(field, &text, sizeof text);
        return rc;
    case OPT_TYPE_BOOL:
        return parse_bool(src, text, (bool *)field);
    case OPT_TYPE_INT:
        rc = parse_number(o, src, text, &number);
        small = (unsigned)number;
        if (rc == HT_OK)
            memcpy(field, &small, sizeof small);
        return rc;
    case OPT_TYPE_DURATION:
    case OPT_TYPE_SIZE:
        rc = parse_number(o, src, text, &number);
        if (rc == HT_OK)
            memcpy(field, &number, sizeof number);
        return rc;
    case OPT_TYPE_ADDR:
        return parse_addr(src, text, (struct opt_addr *)(void *)field);
    case OPT_TYPE_CIDR:
    case OPT_TYPE_PORTS:
    case OPT_TYPE_HEADER:
    case OPT_TYPE_DESTINATION:
    case OPT_TYPE_FORWARD:
    case OPT_TYPE_FILES:
    case OPT_TYPE_LISTEN:
    case OPT_TYPE_HOSTS:
    case OPT_TYPE_RULES:
    case OPT_TYPE_NETS:
    case OPT_TYPE_PAGES:
        return parse_list(o, src, text, base);
    case OPT_TYPE_ENUM:
        rc = parse_enum(o, src, text, &chosen);
        if (rc == HT_OK)
            memcpy(field, &chosen, sizeof chosen);
        return rc;
    }
    return HT_EINVAL;
}

bool opt_ports_contain(const struct opt_port_range *list, size_t n, uint16_t port) {
    for (size_t i = 0; i < n; i++)
        if (port >= list[i].first && port <= list[i].last)
            return true;
    return false;
}
