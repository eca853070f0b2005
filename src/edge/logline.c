#include "edge/logline.h"

#include "base/text.h"
#include "base/utf8.h"
#include "inspect/mask.h"

#include <arpa/inet.h>
#include <stdio.h>

#define WORDS_MAX 1024
#define DAY_MS (INT64_C(86400) * 1000)

const char *const edge_log_kinds[EDGE_LOG_KINDS] = {"request", "refused", "error", "engine"};
const char *const edge_log_levels[EDGE_LOG_LEVELS] = {"info", "warn", "error"};

/* ---- framing ---- */

int edge_log_frame(struct ht_slice bytes, struct ht_slice *line) {
    size_t n = 0, i = 0;
    for (; i < bytes.n && ht_is_digit(bytes.p[i]); i++) {
        n = n * 10 + (size_t)(bytes.p[i] - '0');
        if (n == 0 || n > EDGE_LOG_LINE)
            return HT_EPROTO;
    }
    if (i == bytes.n)
        return 0;
    if (i == 0 || bytes.p[i] != ' ')
        return HT_EPROTO;
    i++;
    if (bytes.n - i < n)
        return 0;
    *line = ht_slice_of(bytes.p + i, n);
    return (int)(i + n);
}

/* ---- privacy ---- */

static bool is_secret(struct ht_slice name, const struct edge_log_privacy *p) {
    char plain[256];
    size_t n = 0;
    for (size_t i = 0; i < name.n; i++) {
        if (n == sizeof plain) /* nobody calls a parameter like that, and its end is not looked at */
            return true;
        int high = name.p[i] == '%' && i + 2 < name.n ? ht_hex_digit(name.p[i + 1]) : -1;
        int low = high >= 0 ? ht_hex_digit(name.p[i + 2]) : -1;
        plain[n++] = low >= 0 ? (char)(16 * high + low) : name.p[i];
        i += low >= 0 ? 2 : 0;
    }
    struct ht_slice s = ht_slice_of(plain, n);
    if (inspect_is_secret_member(NULL, s))
        return true;
    for (size_t i = 0; i < HAPROXY_LOG_SECRETS; i++)
        if (ht_slice_case_eq(s, ht_slice_str(haproxy_log_secrets[i])))
            return true;
    for (size_t i = 0; p && i < p->n_secrets; i++)
        if (ht_slice_case_eq(s, ht_slice_str(p->secrets[i])))
            return true;
    return false;
}

static bool is_base64url(char c) {
    return ht_is_digit(c) || (ht_lower(c) >= 'a' && ht_lower(c) <= 'z') || c == '-' || c == '_';
}

/* The length of what looks like a JSON Web Token at the front of s, wherever in a URL it stands; 0: none. */
static size_t web_token(struct ht_slice s) {
    size_t i = 0, dots = 0;
    if (s.n < 8 || memcmp(s.p, "eyJ", 3) != 0)
        return 0;
    for (; i < s.n && (is_base64url(s.p[i]) || s.p[i] == '.'); i++)
        dots += s.p[i] == '.';
    return dots >= 1 ? i : 0;
}

struct masked {
    char *out;
    size_t n, cap;
};

static void put(struct masked *m, struct ht_slice s) {
    size_t n = ht_min(s.n, m->cap - m->n);
    if (n)
        memcpy(m->out + m->n, s.p, n);
    m->n += n;
}

static void put_all_but_tokens(struct masked *m, struct ht_slice s) {
    size_t told = 0;
    for (size_t i = 0, n; i < s.n; i += n) {
        n = web_token(ht_slice_of(s.p + i, s.n - i));
        if (n) {
            put(m, ht_slice_of(s.p + told, i - told));
            put(m, ht_slice_str(INSPECT_DOTS));
            told = i + n;
        }
        n += n == 0;
    }
    put(m, ht_slice_of(s.p + told, s.n - told));
}

/* name=value, with what separates it from the next one. */
static size_t put_pair(struct masked *m, struct ht_slice s, const struct edge_log_privacy *p) {
    size_t n = 0, name;
    while (n < s.n && s.p[n] != '&' && s.p[n] != ';')
        n++;
    const char *equal = n ? memchr(s.p, '=', n) : NULL;
    name = equal ? (size_t)(equal - s.p) : n;
    if (equal && name + 1 < n && is_secret(ht_slice_of(s.p, name), p)) {
        put_all_but_tokens(m, ht_slice_of(s.p, name));
        put(m, ht_slice_str("=" INSPECT_DOTS));
    } else {
        put_all_but_tokens(m, ht_slice_of(s.p, n));
    }
    put(m, ht_slice_of(s.p + n, n < s.n));
    return n + (n < s.n);
}

size_t edge_log_mask_url(struct ht_slice url, const struct edge_log_privacy *p, char *out, size_t cap) {
    struct masked m = {.out = out, .cap = cap};
    const char *query = url.n ? memchr(url.p, '?', url.n) : NULL;
    size_t path = query ? (size_t)(query - url.p) + 1 : url.n, at = 0;
    /* A path may have parameters of its own: /a;token=x/b. */
    while (at < path) {
        const char *semicolon = memchr(url.p + at, ';', path - at);
        size_t to = semicolon ? (size_t)(semicolon - url.p) + 1 : path;
        put_all_but_tokens(&m, ht_slice_of(url.p + at, to - at));
        at = to;
        if (semicolon) {
            size_t end = at;
            while (end < path && url.p[end] != '/' && url.p[end] != '?')
                end++;
            for (struct ht_slice rest = ht_slice_of(url.p + at, end - at); rest.n;) {
                size_t n = put_pair(&m, rest, p);
                rest = ht_slice_of(rest.p + n, rest.n - n);
            }
            at = end;
        }
    }
    while (at < url.n)
        at += put_pair(&m, ht_slice_of(url.p + at, url.n - at), p);
    return m.n;
}

size_t edge_log_mask_address(struct ht_slice address, char out[64]) {
    unsigned char b[16];
    char text[64];
    int family = memchr(address.p ? address.p : "", ':', address.n) ? AF_INET6 : AF_INET;
    out[0] = '\0';
    if (address.n >= sizeof text)
        return 0;
    snprintf(text, sizeof text, "%.*s", HT_SLICE_ARG(address));
    if (inet_pton(family, text, b) != 1)
        return 0;
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (family == AF_INET)
        b[3] = 0;
    else if (memcmp(b, mapped, sizeof mapped) == 0)
        b[15] = 0;
    else
        memset(b + 6, 0, 10);
    return inet_ntop(family, b, out, 64) ? strlen(out) : 0;
}

/* ---- rows ---- */

static void empty(struct edge_log_row *row, int64_t now_ms) {
    *row = (struct edge_log_row){.kind = EDGE_LOG_ENGINE};
    for (size_t i = 0; i < HAPROXY_LOG_FIELDS; i++)
        row->number[i] = EDGE_LOG_NONE;
    row->number[HAPROXY_LOG_TIME] = now_ms;
}

void edge_log_say(struct edge_log_row *row, int64_t now_ms, enum edge_log_level level, struct ht_slice text) {
    empty(row, now_ms);
    row->level = level;
    row->text[HAPROXY_LOG_MESSAGE] = text;
}

/* Digits alone; a dash and a negative number say that there is none. */
static int64_t number_of(struct ht_slice s) {
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!ht_is_digit(s.p[i]) || i == 17)
            return EDGE_LOG_NONE;
        n = n * 10 + (s.p[i] - '0');
    }
    return s.n ? n : EDGE_LOG_NONE;
}

static size_t field_of(struct ht_slice name, size_t guess) {
    if (guess < HAPROXY_LOG_FIELDS && ht_slice_is(name, haproxy_log[guess].name))
        return guess; /* they come in their order */
    for (size_t i = 0; i < HAPROXY_LOG_FIELDS; i++)
        if (ht_slice_is(name, haproxy_log[i].name))
            return i;
    return HAPROXY_LOG_FIELDS;
}

/* 0, or a negative code. Members of another version of the configuration, which still runs, are skipped. */
static int read_members(struct edge_log_reader *g, struct edge_log_row *row) {
    struct json_arena arena = {.p = g->text, .cap = sizeof g->text};
    struct ht_slice name, text;
    size_t next = 0;
    int rc = json_object_begin(&g->json);
    while (rc == 0 && (rc = json_object_next(&g->json, &name)) == 1) {
        size_t i = field_of(name, next);
        if (i == HAPROXY_LOG_FIELDS) {
            rc = json_skip(&g->json);
            continue;
        }
        next = i + 1;
        rc = json_read_string(&g->json, false, &arena, &text);
        if (rc < 0)
            return rc;
        rc = 0; /* U+0000 is kept */
        if (haproxy_log[i].number)
            row->number[i] = number_of(text);
        else if (!ht_slice_is(text, "-")) /* what HAProxy writes where there is nothing */
            row->text[i] = text;
    }
    return rc < 0 ? rc : json_end(&g->json);
}

/* HAProxy had no room for lines: "12 events dropped". */
static unsigned long dropped(struct ht_slice line) {
    unsigned long n = 0;
    size_t i = 0;
    for (; i < line.n && i < 9 && ht_is_digit(line.p[i]); i++)
        n = n * 10 + (unsigned long)(line.p[i] - '0');
    struct ht_slice rest = ht_slice_of(line.p + i, line.n - i);
    static const char begin[] = " event", end[] = "dropped";
    while (rest.n && (rest.p[rest.n - 1] == '\n' || rest.p[rest.n - 1] == '.'))
        rest.n--;
    bool is = i && rest.n >= sizeof begin + sizeof end - 2 && memcmp(rest.p, begin, sizeof begin - 1) == 0 &&
              memcmp(rest.p + rest.n - (sizeof end - 1), end, sizeof end - 1) == 0;
    return is ? n : 0;
}

static void read_own_words(struct edge_log_reader *g, struct ht_slice line, struct edge_log_row *row) {
    row->lost = dropped(line);
    row->level = row->lost ? EDGE_LOG_WARN : EDGE_LOG_INFO;
    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    size_t n = ht_text_put(line, HT_TEXT_PLAIN, g->text, WORDS_MAX);
    row->text[HAPROXY_LOG_MESSAGE] = ht_slice_of(g->text, n);
}

static void judge(struct edge_log_row *row) {
    int64_t status = row->number[HAPROXY_LOG_STATUS];
    if (status == 0)
        row->number[HAPROXY_LOG_STATUS] = status = EDGE_LOG_NONE;
    row->kind = row->text[HAPROXY_LOG_MESSAGE].n  ? EDGE_LOG_ERROR
                : row->text[HAPROXY_LOG_REASON].n ? EDGE_LOG_REFUSED
                                                  : EDGE_LOG_REQUEST;
    row->level = row->kind == EDGE_LOG_ERROR || status == EDGE_LOG_NONE || (status >= 400 && status < 500)
                     ? EDGE_LOG_WARN
                 : status >= 500 ? EDGE_LOG_FAIL
                                 : EDGE_LOG_INFO;
    if (row->kind == EDGE_LOG_ERROR && ht_slice_is(row->text[HAPROXY_LOG_MESSAGE], "Success"))
        row->text[HAPROXY_LOG_MESSAGE] = ht_slice_str(status == EDGE_LOG_NONE ? "no request came on the connection"
                                                                              : "the request could not be read");
}

static void make_private(struct edge_log_reader *g, const struct edge_log_privacy *p, struct edge_log_row *row) {
    struct ht_slice *url = &row->text[HAPROXY_LOG_URL], *client = &row->text[HAPROXY_LOG_CLIENT];
    if (url->n)
        *url = ht_slice_of(g->url, edge_log_mask_url(*url, p, g->url, sizeof g->url));
    if (!p || !p->mask_addresses)
        return;
    *client = ht_slice_of(g->client, edge_log_mask_address(*client, g->client));
    row->number[HAPROXY_LOG_CLIENT_PORT] = EDGE_LOG_NONE;
}

bool edge_log_read(struct edge_log_reader *g, struct ht_slice line, int64_t now_ms, const struct edge_log_privacy *p,
                   struct edge_log_row *row) {
    static const struct json_limits limits = {.max_depth = 2, .max_keys = JSON_MAX_KEYS};
    empty(row, now_ms);
    if (line.n == 0 || *line.p != '{') {
        read_own_words(g, line, row);
        return true;
    }
    json_begin(&g->json, line.p, line.n, &limits);
    if (line.n > sizeof g->text || read_members(g, row) < 0) {
        empty(row, now_ms); /* its bytes are not told: nothing in them was masked */
        row->level = EDGE_LOG_WARN;
        int n = snprintf(g->text, WORDS_MAX, "a line of HAProxy that cannot be read: %s at byte %zu of %zu",
                         json_reason_text(g->json.error.reason), g->json.error.offset, line.n);
        row->text[HAPROXY_LOG_MESSAGE] = ht_slice_of(g->text, (size_t)n);
        return false;
    }
    int64_t at = row->number[HAPROXY_LOG_TIME];
    if (at < now_ms - 366 * DAY_MS || at > now_ms + DAY_MS) /* a clock that is not set, or no time at all */
        row->number[HAPROXY_LOG_TIME] = now_ms;
    judge(row);
    make_private(g, p, row);
    return true;
}
