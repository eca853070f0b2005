#include "inspect/mask.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

#define NAME_MAX_READ 64 /* a longer name is compared by its beginning */

int inspect_secrets_init(struct inspect_secrets *s, const char *const *names, size_t n) {
    *s = (struct inspect_secrets){.names = n ? ht_calloc(n, sizeof(char *)) : NULL};
    if (n && !s->names)
        return HT_ENOMEM;
    for (; s->n < n; s->n++) {
        char *copy = s->names[s->n] = ht_strndup(names[s->n], strlen(names[s->n]));
        if (!copy)
            return HT_ENOMEM;
        for (; *copy; copy++)
            *copy = ht_lower(*copy);
    }
    return HT_OK;
}

void inspect_secrets_free(struct inspect_secrets *s) {
    for (size_t i = 0; i < s->n; i++)
        ht_free(s->names[i]);
    ht_free(s->names);
    *s = (struct inspect_secrets){.n = 0};
}

/* ---- names ---- */

static struct ht_slice behind(struct ht_slice s, size_t n) { return ht_slice_of(s.p + n, s.n - n); }

static bool is_one_of(struct ht_slice name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ht_slice_case_eq(name, ht_slice_str(list[i])))
            return true;
    return false;
}

/* The first place of `part`, which is in lower case, whatever the case in `s`; s.n: there is none. */
static size_t find(struct ht_slice s, const char *part) {
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= s.n; i++)
        if (ht_slice_case_eq(ht_slice_of(s.p + i, n), ht_slice_of(part, n)))
            return i;
    return s.n;
}

static bool holds_one_of(struct ht_slice name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (find(name, list[i]) < name.n)
            return true;
    return false;
}

static const char *const with_scheme[] = {"authorization", "proxy-authorization"};

bool inspect_is_secret(const struct inspect_secrets *s, struct ht_slice name) {
    static const char *const whole[] = {"authorization", "proxy-authorization", "cookie", "set-cookie"};
    static const char *const parts[] = {"token", "secret", "api-key", "signature"};
    return is_one_of(name, whole, HT_ARRAY_LEN(whole)) || holds_one_of(name, parts, HT_ARRAY_LEN(parts)) ||
           (s && is_one_of(name, (const char *const *)s->names, s->n));
}

bool inspect_is_secret_member(const struct inspect_secrets *s, struct ht_slice name) {
    static const char *const parts[] = {"password", "passwd", "api_key", "apikey"};
    return inspect_is_secret(s, name) || holds_one_of(name, parts, HT_ARRAY_LEN(parts));
}

/* ---- values ---- */

static int put(struct ht_buf *out, struct ht_slice s) { return ht_buf_append(out, s.p, s.n); }
static int put_dots(struct ht_buf *out) { return ht_buf_append_str(out, INSPECT_DOTS); }

/* The length of a scheme that is known with the space behind it; 0: there is none, and the first word may be a secret.
 */
static size_t scheme_length(struct ht_slice value) {
    static const char *const known[] = {"basic",  "bearer",    "digest", "dpop",  "hawk",  "hoba",
                                        "mutual", "negotiate", "ntlm",   "oauth", "token", "aws4-hmac-sha256"};
    const char *space = value.n ? memchr(value.p, ' ', value.n) : NULL;
    size_t n = space ? (size_t)(space - value.p) : 0;
    return n && is_one_of(ht_slice_of(value.p, n), known, HT_ARRAY_LEN(known)) ? n + 1 : 0;
}

/* Takes a pair up to `end` from the front of *s: *name with its "=", if it has one, and *value; *rest is the end. */
static void pair(struct ht_slice *s, char end, struct ht_slice *name, struct ht_slice *value, struct ht_slice *rest) {
    const char *stop = memchr(s->p, end, s->n);
    size_t n = stop ? (size_t)(stop - s->p) : s->n;
    const char *equal = memchr(s->p, '=', n);
    size_t n_name = equal ? (size_t)(equal - s->p) + 1 : 0;
    *name = ht_slice_of(s->p, n_name);
    *value = ht_slice_of(s->p + n_name, n - n_name);
    *rest = ht_slice_of(s->p + n, stop ? 1 : 0);
    *s = behind(*s, n + rest->n);
}

enum form { WHOLE, SCHEME, COOKIES, SET_COOKIE };

static enum form form_of(struct ht_slice name) {
    return ht_slice_case_eq(name, ht_slice_str("cookie"))            ? COOKIES
           : ht_slice_case_eq(name, ht_slice_str("set-cookie"))      ? SET_COOKIE
           : is_one_of(name, with_scheme, HT_ARRAY_LEN(with_scheme)) ? SCHEME
                                                                     : WHOLE;
}

int inspect_mask_value(struct ht_slice name, struct ht_slice value, struct ht_buf *out) {
    enum form form = form_of(name);
    struct ht_slice n, v, rest;
    int rc = HT_OK;
    if (form == SCHEME)
        rc = put(out, ht_slice_of(value.p, scheme_length(value)));
    if (form == WHOLE || form == SCHEME)
        return rc < 0 ? rc : put_dots(out);
    while (rc == HT_OK && value.n) {
        pair(&value, ';', &n, &v, &rest);
        if (rc == HT_OK)
            rc = put(out, n);
        if (rc == HT_OK)
            rc = put_dots(out);
        if (rc == HT_OK)
            rc = put(out, rest);
        if (form == SET_COOKIE) /* what follows are its attributes */
            return rc < 0 ? rc : put(out, value);
    }
    return rc;
}

size_t inspect_secret_parts(struct ht_slice name, struct ht_slice value, struct ht_slice *parts, size_t max) {
    enum form form = form_of(name);
    struct ht_slice n, v, rest;
    size_t found = 0;
    if (max && (form == WHOLE || form == SCHEME))
        parts[found++] = form == SCHEME ? behind(value, scheme_length(value)) : value;
    while (found < max && value.n && (form == COOKIES || form == SET_COOKIE)) {
        pair(&value, ';', &n, &v, &rest);
        parts[found++] = v;
        if (form == SET_COOKIE)
            break;
    }
    return found;
}

/* ---- queries and forms ---- */

/* The name without its "=" and with percent-encoding undone, in to[]. */
static struct ht_slice plain_name(struct ht_slice name, char to[NAME_MAX_READ]) {
    size_t n = 0;
    for (size_t i = 0; i < name.n && name.p[i] != '=' && n < NAME_MAX_READ; i++) {
        bool coded =
            name.p[i] == '%' && i + 2 < name.n && ht_hex_digit(name.p[i + 1]) >= 0 && ht_hex_digit(name.p[i + 2]) >= 0;
        to[n++] = coded ? (char)(16 * ht_hex_digit(name.p[i + 1]) + ht_hex_digit(name.p[i + 2])) : name.p[i];
        i += coded ? 2 : 0;
    }
    return ht_slice_of(to, n);
}

static int mask_form(const struct inspect_secrets *s, struct ht_slice form, struct ht_buf *out) {
    char room[NAME_MAX_READ];
    struct ht_slice n, v, rest;
    int rc = HT_OK;
    while (rc == HT_OK && form.n) {
        pair(&form, '&', &n, &v, &rest);
        rc = put(out, n);
        if (rc == HT_OK)
            rc = n.n && inspect_is_secret_member(s, plain_name(n, room)) ? put_dots(out) : put(out, v);
        if (rc == HT_OK)
            rc = put(out, rest);
    }
    return rc;
}

int inspect_mask_target(const struct inspect_secrets *s, struct ht_slice target, struct ht_buf *out) {
    const char *query = target.n ? memchr(target.p, '?', target.n) : NULL;
    struct ht_slice path = ht_slice_of(target.p, query ? (size_t)(query - target.p) + 1 : target.n);
    struct ht_slice rest = behind(target, path.n);
    size_t colons = find(path, "://");
    const char *at = colons < path.n ? memchr(path.p + colons, '@', path.n - colons) : NULL;
    int rc = HT_OK;
    if (at) {
        rc = put(out, ht_slice_of(path.p, colons + 3));
        if (rc == HT_OK)
            rc = put_dots(out);
        path = behind(path, (size_t)(at - path.p));
    }
    if (rc == HT_OK)
        rc = put(out, path);
    return rc < 0 ? rc : mask_form(s, rest, out);
}

/* The place of `what` in s; s.n: there is none. */
static size_t place(struct ht_slice s, struct ht_slice what) {
    const char *at = s.n ? memmem(s.p, s.n, what.p, what.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}

/* True when the lines before a part's content say that it is a secret: Content-Disposition: form-data; name="token". */
static bool is_secret_part(const struct inspect_secrets *s, struct ht_slice lines) {
    static const char mark[] = "name=\"";
    struct ht_slice rest = behind(lines, find(lines, mark));
    if (rest.n < sizeof mark - 1)
        return false;
    rest = behind(rest, sizeof mark - 1);
    return inspect_is_secret_member(s, ht_slice_of(rest.p, place(rest, ht_slice_str("\""))));
}

/* RFC 7578. The first line is the delimiter; a body that begins otherwise is no form. */
static int mask_parts(const struct inspect_secrets *s, struct ht_slice body, struct ht_buf *out) {
    struct ht_slice delimiter = ht_slice_of(body.p, place(body, ht_slice_str("\r\n")));
    int rc = HT_OK;
    while (rc == HT_OK && body.n && delimiter.n > 2) {
        size_t head = place(body, ht_slice_str("\r\n\r\n"));
        struct ht_slice lines = ht_slice_of(body.p, ht_min(head + 4, body.n));
        struct ht_slice content = behind(body, lines.n);
        content.n = place(content, delimiter); /* with the line end before it */
        body = behind(body, lines.n + content.n);
        rc = put(out, lines);
        if (rc == HT_OK && is_secret_part(s, lines))
            rc = ht_buf_append_str(out, content.n ? INSPECT_DOTS "\r\n" : "");
        else if (rc == HT_OK)
            rc = put(out, content);
    }
    return rc < 0 ? rc : put(out, body);
}

/* ---- JSON ---- */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static size_t skip_space(struct ht_slice s, size_t i) {
    while (i < s.n && is_space(s.p[i]))
        i++;
    return i;
}

/* Behind the string that begins at `i` with its quote; s.n: it is cut. */
static size_t string_end(struct ht_slice s, size_t i) {
    for (i++; i < s.n && s.p[i] != '"'; i++)
        i += s.p[i] == '\\';
    return ht_min(i + 1, s.n);
}

/* Behind the value that begins at `i`. */
static size_t value_end(struct ht_slice s, size_t i) {
    size_t depth = 0;
    for (; i < s.n; i++) {
        char c = s.p[i];
        if (c == '"') {
            i = string_end(s, i) - 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth && (c == '}' || c == ']')) {
            depth--;
        } else if (depth || (c != ',' && c != '}' && c != ']' && !is_space(c))) {
            continue;
        } else {
            return i;
        }
        if (depth == 0)
            return i + 1;
    }
    return i;
}

/* The text of a string without its quotes and with \u00XX undone, so that an escape hides no name. */
static struct ht_slice plain_string(struct ht_slice s, char to[NAME_MAX_READ]) {
    size_t n = 0;
    for (size_t i = 1; i + 1 < s.n && n < NAME_MAX_READ; i++) {
        bool coded = s.p[i] == '\\' && i + 6 < s.n && s.p[i + 1] == 'u' && ht_hex_digit(s.p[i + 4]) >= 0 &&
                     ht_hex_digit(s.p[i + 5]) >= 0;
        to[n++] = coded ? (char)(16 * ht_hex_digit(s.p[i + 4]) + ht_hex_digit(s.p[i + 5])) : s.p[i];
        i += coded ? 5 : 0;
    }
    return ht_slice_of(to, n);
}

/* null, true and false are told: they are no secrets, and say that there is none. */
static bool is_word(struct ht_slice v) {
    return ht_slice_is(v, "null") || ht_slice_is(v, "true") || ht_slice_is(v, "false");
}

static int mask_json(const struct inspect_secrets *s, struct ht_slice body, struct ht_buf *out) {
    char room[NAME_MAX_READ];
    size_t told = 0;
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < body.n;) {
        if (body.p[i] != '"') {
            i++;
            continue;
        }
        size_t end = string_end(body, i), colon = skip_space(body, end);
        bool secret = colon < body.n && body.p[colon] == ':' &&
                      inspect_is_secret_member(s, plain_string(ht_slice_of(body.p + i, end - i), room));
        i = end;
        if (!secret)
            continue;
        size_t from = skip_space(body, colon + 1), to = value_end(body, from);
        i = to;
        if (from == to || is_word(ht_slice_of(body.p + from, to - from)))
            continue;
        rc = put(out, ht_slice_of(body.p + told, from - told));
        if (rc == HT_OK)
            rc = ht_buf_append_str(out, "\"" INSPECT_DOTS "\"");
        told = to;
    }
    return rc < 0 ? rc : put(out, behind(body, told));
}

/* ---- bodies ---- */

static int mask_known(struct ht_slice body, struct ht_slice known, struct ht_buf *out) {
    int rc = HT_OK;
    for (const char *at; rc == HT_OK && (at = memmem(body.p, body.n, known.p, known.n)) != NULL;) {
        size_t n = (size_t)(at - body.p);
        rc = put(out, ht_slice_of(body.p, n));
        if (rc == HT_OK)
            rc = put_dots(out);
        body = behind(body, n + known.n);
    }
    return rc < 0 ? rc : put(out, body);
}

static int mask_by_type(const struct inspect_secrets *s, struct ht_slice type, struct ht_slice body,
                        struct ht_buf *out) {
    size_t first = skip_space(body, 0);
    bool looks = first < body.n && (body.p[first] == '{' || body.p[first] == '[');
    if (find(type, "json") < type.n || (looks && find(type, "text/") == type.n))
        return mask_json(s, body, out);
    if (find(type, "multipart/form-data") < type.n)
        return mask_parts(s, body, out);
    if (find(type, "x-www-form-urlencoded") < type.n)
        return mask_form(s, body, out);
    return put(out, body);
}

int inspect_mask_body(const struct inspect_secrets *s, struct ht_slice type, struct ht_slice body,
                      const struct ht_slice *known, size_t n_known, struct ht_buf *out) {
    struct ht_buf now = {0}, next = {0};
    int rc = body.n ? mask_by_type(s, type, body, &now) : HT_OK;
    for (size_t i = 0; rc == HT_OK && ht_buf_size(&now) && i < n_known; i++) {
        if (known[i].n < INSPECT_KNOWN_MIN || !memmem(ht_buf_head(&now), ht_buf_size(&now), known[i].p, known[i].n))
            continue;
        rc = mask_known(ht_buf_slice(&now), known[i], &next);
        ht_buf_free(&now);
        now = next;
        next = (struct ht_buf){0};
    }
    if (rc == HT_OK)
        rc = put(out, ht_buf_slice(&now));
    ht_buf_free(&now);
    ht_buf_free(&next);
    return rc;
}
