#include "wire/name.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define CERTIFICATES 4u
#define SHOWN 96 /* bytes of a text that is refused */

/* ---- hosts ---- */

static bool is_alnum(char c) { return ht_is_digit(c) || (c >= 'a' && c <= 'z'); }

static bool is_hex(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!ht_is_digit(p[i]) && !(p[i] >= 'a' && p[i] <= 'f'))
            return false;
    return true;
}

/* What some resolvers take for a number: 12, 0x7f, 017 (WHATWG URL, "ends in a number"). */
static bool is_number(const char *p, size_t n) {
    if (n >= 2 && p[0] == '0' && p[1] == 'x')
        return is_hex(p + 2, n - 2);
    for (size_t i = 0; i < n; i++)
        if (!ht_is_digit(p[i]))
            return false;
    return n > 0;
}

/* `host` is a name in lower case without a dot at its end: NULL, or what is wrong with it. */
static const char *wrong_with(const char *host, size_t n) {
    const char *p = host, *end = host + n;
    if (n == 0)
        return "the host is missing";
    while (p < end) {
        const char *dot = memchr(p, '.', (size_t)(end - p));
        size_t len = (size_t)((dot ? dot : end) - p);
        if (len == 0)
            return "a part between two dots is empty";
        if (len > WIRE_LIMIT_NAME_LABEL)
            return "a part between two dots has more than 63 characters";
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)p[i] >= 0x80)
                return "letters beyond ASCII must be written as A-labels (xn--...)";
            if (!is_alnum(p[i]) && p[i] != '-' && p[i] != '_')
                return "a host has letters, digits, dots, - and _";
        }
        if (p[0] == '-' || p[len - 1] == '-')
            return "a part between two dots begins or ends with -";
        if (!dot)
            return is_number(p, len) ? "it ends in a number, which some would read as an address" : NULL;
        p = dot + 1;
    }
    return "a part between two dots is empty";
}

/* 0: it is an address, and was written. HT_EAGAIN: it is not an address. */
static int address(char out[WIRE_HOST_ROOM], const char *host) {
    uint8_t bytes[16];
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (inet_pton(AF_INET, host, bytes) == 1)
        return inet_ntop(AF_INET, bytes, out, WIRE_HOST_ROOM) ? HT_OK : HT_EAGAIN;
    if (inet_pton(AF_INET6, host, bytes) != 1)
        return HT_EAGAIN;
    if (memcmp(bytes, mapped, sizeof mapped) == 0)
        return inet_ntop(AF_INET, bytes + sizeof mapped, out, WIRE_HOST_ROOM) ? HT_OK : HT_EAGAIN;
    return inet_ntop(AF_INET6, bytes, out, WIRE_HOST_ROOM) ? HT_OK : HT_EAGAIN;
}

bool wire_host_is_address(const char *host) {
    uint8_t bytes[16];
    return strchr(host, ':') || inet_pton(AF_INET, host, bytes) == 1;
}

/* NULL, or what is wrong. `bare`: a name only, no address. */
static const char *read_host(char out[WIRE_HOST_ROOM], struct ht_slice host, bool bare) {
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    if (host.n >= WIRE_HOST_ROOM)
        return "a host has at most 253 characters";
    for (size_t i = 0; i < host.n; i++)
        out[i] = ht_lower(host.p[i]);
    out[host.n] = '\0';
    if (memchr(out, '\0', host.n))
        return "a host has letters, digits, dots, - and _";
    if (!bare) {
        char canonical[WIRE_HOST_ROOM];
        if (address(canonical, out) == HT_OK) {
            memcpy(out, canonical, sizeof canonical);
            return NULL;
        }
    }
    return wrong_with(out, host.n);
}

static int refuse(struct ht_errmsg *err, struct ht_slice text, const char *why) {
    char shown[SHOWN];
    return ht_fail(err, HT_EINVAL, "\"%s\": %s", ht_text_clean(text, shown, sizeof shown), why);
}

int wire_host_read(char out[WIRE_HOST_ROOM], struct ht_slice host, struct ht_errmsg *err) {
    const char *why = read_host(out, host, false);
    return why ? refuse(err, host, why) : HT_OK;
}

/* ---- host and port ---- */

/*
 * Cuts the text in two: *port is what stands behind the colon, p NULL without one. Brackets are taken away. NULL, or
 * what is wrong.
 */
static const char *split(struct ht_slice text, struct ht_slice *host, struct ht_slice *port, bool *bracketed) {
    const char *end = text.p + text.n, *colon;
    *port = ht_slice_of(NULL, 0);
    *bracketed = text.n && text.p[0] == '[';
    if (*bracketed) {
        const char *close = memchr(text.p, ']', text.n);
        if (!close || (close + 1 < end && close[1] != ':'))
            return "an IPv6 address with a port must stand in brackets, as in [fd00::1]:443";
        *host = ht_slice_of(text.p + 1, (size_t)(close - text.p - 1));
        colon = close + 1 < end ? close + 1 : NULL;
    } else {
        colon = text.n ? memchr(text.p, ':', text.n) : NULL;
        *host = ht_slice_of(text.p, colon ? (size_t)(colon - text.p) : text.n);
    }
    if (!colon)
        return NULL;
    *port = ht_slice_of(colon + 1, (size_t)(end - colon - 1));
    return memchr(colon + 1, ':', port->n) ? "an IPv6 address with a port must stand in brackets, as in [fd00::1]:443"
                                           : NULL;
}

static bool read_port(struct ht_slice text, uint16_t *out) {
    unsigned n = 0;
    if (text.n == 0 || text.n > 5 || text.p[0] == '0')
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (!ht_is_digit(text.p[i]))
            return false;
        n = n * 10 + (unsigned)(text.p[i] - '0');
    }
    *out = (uint16_t)n;
    return n <= UINT16_MAX;
}

static const char *read_bracketed(char out[WIRE_HOST_ROOM], struct ht_slice host) {
    const char *why = memchr(host.p, ':', host.n) ? read_host(out, host, false) : "";
    return why ? "the text in brackets is not an IPv6 address" : NULL;
}

int wire_authority_read(char host[WIRE_HOST_ROOM], uint16_t *port, struct ht_slice text, struct ht_errmsg *err) {
    struct ht_slice h, p;
    bool bracketed;
    const char *why = split(text, &h, &p, &bracketed);
    if (!why)
        why = bracketed ? read_bracketed(host, h) : read_host(host, h, false);
    if (!why && !p.p)
        why = "the port is missing";
    if (!why && !read_port(p, port))
        why = "the port must be a number from 1 to 65535";
    return why ? refuse(err, text, why) : HT_OK;
}

char *wire_authority_put(const char *host, uint16_t port, char out[WIRE_NAME_ROOM]) {
    bool v6 = strchr(host, ':') != NULL;
    snprintf(out, WIRE_NAME_ROOM, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
    return out;
}

/* ---- names ---- */

static const char *read_ports(struct wire_name *out, struct ht_slice port) {
    out->ports = WIRE_NAME_WEB;
    if (!port.p)
        return NULL;
    out->ports = WIRE_NAME_ANY_PORT;
    if (ht_slice_is(port, "*"))
        return NULL;
    out->ports = WIRE_NAME_ONE_PORT;
    return read_port(port, &out->port) ? NULL : "the port must be a number from 1 to 65535, or * for all of them";
}

static const char *read_name(struct wire_name *out, struct ht_slice text) {
    struct ht_slice host, port;
    bool bracketed;
    const char *why = split(text, &host, &port, &bracketed);
    if (why)
        return why;
    if (bracketed)
        why = read_bracketed(out->host, host);
    else if (host.n >= 2 && memcmp(host.p, "*.", 2) == 0) {
        out->wildcard = true;
        why = read_host(out->host, ht_slice_of(host.p + 2, host.n - 2), true);
    } else if (host.n && memchr(host.p, '*', host.n))
        why = "a * may stand only at the beginning, as in *.corp.example";
    else
        why = read_host(out->host, host, false);
    return why ? why : read_ports(out, port);
}

int wire_name_read(struct wire_name *out, struct ht_slice text, struct ht_errmsg *err) {
    *out = (struct wire_name){.wildcard = false};
    const char *why = read_name(out, text);
    return why ? refuse(err, text, why) : HT_OK;
}

static bool covers_port(const struct wire_name *name, uint16_t port) {
    switch (name->ports) {
    case WIRE_NAME_WEB:
        return port == 80 || port == 443;
    case WIRE_NAME_ONE_PORT:
        return port == name->port;
    case WIRE_NAME_ANY_PORT:
        return true;
    }
    return false;
}

bool wire_name_covers(const struct wire_name *name, const char *host, uint16_t port) {
    size_t n = strlen(host), own = strlen(name->host);
    if (!covers_port(name, port))
        return false;
    if (!name->wildcard)
        return strcmp(host, name->host) == 0;
    return n > own + 1 && host[n - own - 1] == '.' && memcmp(host + n - own, name->host, own) == 0;
}

char *wire_name_put(const struct wire_name *name, char out[WIRE_NAME_ROOM]) {
    bool v6 = strchr(name->host, ':') != NULL;
    int at =
        snprintf(out, WIRE_NAME_ROOM, "%s%s%s%s", name->wildcard ? "*." : "", v6 ? "[" : "", name->host, v6 ? "]" : "");
    if (name->ports == WIRE_NAME_ONE_PORT)
        snprintf(out + at, (size_t)(WIRE_NAME_ROOM - at), ":%u", name->port);
    else if (name->ports == WIRE_NAME_ANY_PORT)
        snprintf(out + at, (size_t)(WIRE_NAME_ROOM - at), ":*");
    return out;
}

/* ---- certificates ---- */

static bool is_base64(struct ht_slice line) {
    size_t n = line.n;
    while (n > 0 && line.n - n < 2 && line.p[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) {
        char c = line.p[i];
        if (!is_alnum(ht_lower(c)) && c != '+' && c != '/')
            return false;
    }
    return line.n > 0 && line.n <= 76;
}

static bool next_line(struct ht_slice *rest, struct ht_slice *line) {
    if (rest->n == 0)
        return false;
    const char *end = memchr(rest->p, '\n', rest->n);
    size_t n = end ? (size_t)(end - rest->p) : rest->n, used = end ? n + 1 : n;
    *line = ht_slice_of(rest->p, n && rest->p[n - 1] == '\r' ? n - 1 : n);
    *rest = ht_slice_of(rest->p + used, rest->n - used);
    return true;
}

int wire_ca_check(struct ht_slice pem, struct ht_errmsg *err) {
    enum { OUTSIDE, BEGUN, INSIDE } at = OUTSIDE;
    unsigned found = 0;
    struct ht_slice line;
    while (next_line(&pem, &line)) {
        if (at == OUTSIDE && line.n == 0)
            continue;
        if (at == OUTSIDE && ht_slice_is(line, "-----BEGIN CERTIFICATE-----") && ++found <= CERTIFICATES)
            at = BEGUN;
        else if (at != OUTSIDE && is_base64(line))
            at = INSIDE;
        else if (at == INSIDE && ht_slice_is(line, "-----END CERTIFICATE-----"))
            at = OUTSIDE;
        else
            return ht_fail(err, HT_EINVAL, "ca must be one to four certificates in PEM, and nothing else");
    }
    if (at != OUTSIDE || found == 0)
        return ht_fail(err, HT_EINVAL, "ca must be one to four whole certificates in PEM, and nothing else");
    return HT_OK;
}
