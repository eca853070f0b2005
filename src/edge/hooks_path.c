/* Paths of requests in one form, and what hooks compare them with. */
#include "base/mem.h"
#include "edge/hooks_priv.h"

#define PATTERN_PARTS 64

/* RFC 3986 3.3: what a path has without percents. A slash is none of them. */
static bool is_path_char(unsigned char c) {
    return ht_is_digit((char)c) || (ht_lower((char)c) >= 'a' && ht_lower((char)c) <= 'z') ||
           (c && strchr("-._~!$&'()*+,;=:@", c));
}

/* What a percent needlessly hides. */
static bool is_plain(unsigned char c) { return is_path_char(c) && !strchr(".!$&'()*+,;=:@", c); }

/* ---- one form for all ways to write a path ---- */

struct normal {
    char *to;
    size_t n, begin; /* where the present part begins */
    bool odd;
};

static void put_hidden(struct normal *o, unsigned char c) {
    static const char digits[] = "0123456789ABCDEF";
    o->to[o->n++] = '%';
    o->to[o->n++] = digits[c >> 4];
    o->to[o->n++] = digits[c & 15];
}

/* A part has ended. */
static void end_part(struct normal *o, bool slash) {
    struct ht_slice part = ht_slice_of(o->to + o->begin, o->n - o->begin);
    bool up = ht_slice_is(part, ".."), dots = up || ht_slice_is(part, ".");
    o->odd |= dots;
    if (dots)
        o->n = o->begin;
    if (up && o->begin > 1) /* behind the slash before the part before */
        for (o->n--; o->to[o->n - 1] != '/';)
            o->n--;
    if (slash && o->to[o->n - 1] != '/')
        o->to[o->n++] = '/';
    o->begin = o->n;
}

/* One byte, or three of them with a percent, at p. Returns how many. */
static size_t take(struct normal *o, struct ht_slice s) {
    unsigned char c = (unsigned char)*s.p;
    int high = c == '%' && s.n > 2 ? ht_hex_digit(s.p[1]) : -1, low = high >= 0 ? ht_hex_digit(s.p[2]) : -1;
    bool hidden = low >= 0;
    if (hidden)
        c = (unsigned char)(high << 4 | low);
    o->odd |= (hidden && (c == '.' || c == '/')) || c == '\\' || (!hidden && c == '%');
    if (c == '/')
        end_part(o, true);
    else if (hidden ? is_plain(c) || c == '.' : is_path_char(c))
        o->to[o->n++] = (char)c;
    else
        put_hidden(o, c);
    return hidden ? 3 : 1;
}

int hook_path_normal(struct ht_slice path, struct ht_buf *out, bool *odd) {
    struct normal o = {.to = (char *)ht_buf_reserve(out, 3 * path.n + 1)};
    if (!o.to)
        return HT_ENOMEM;
    if (path.n == 0 || path.p[0] != '/') { /* as of OPTIONS */
        *odd = true;
        return ht_buf_append(out, path.p, path.n);
    }
    o.to[o.n++] = '/';
    o.begin = o.n;
    for (size_t i = 1; i < path.n;)
        i += take(&o, ht_slice_of(path.p + i, path.n - i));
    end_part(&o, false);
    ht_buf_commit(out, o.n);
    *odd = o.odd;
    return HT_OK;
}

/* Upper case, and nothing that is plain or odd. */
static bool is_hidden_well(struct ht_slice s) {
    if (s.n < 3 || strspn(s.p + 1, "0123456789ABCDEF") < 2)
        return false;
    unsigned char c = (unsigned char)(ht_hex_digit(s.p[1]) << 4 | ht_hex_digit(s.p[2]));
    return !is_plain(c) && c != '.' && c != '/' && c != '\\';
}

static bool is_dots(struct ht_slice part) { return ht_slice_is(part, ".") || ht_slice_is(part, ".."); }

bool hook_path_is_good(struct ht_slice path) {
    size_t begin = 1;
    if (path.n == 0 || path.p[0] != '/')
        return false;
    for (size_t i = 1; i < path.n; i++) {
        struct ht_slice rest = ht_slice_of(path.p + i, path.n - i);
        if (*rest.p == '/') {
            if (i == begin || is_dots(ht_slice_of(path.p + begin, i - begin)))
                return false;
            begin = i + 1;
        } else if (*rest.p == '%') {
            char three[4] = {0};
            memcpy(three, rest.p, ht_min(rest.n, 3));
            if (!is_hidden_well(ht_slice_of(three, ht_min(rest.n, 3))))
                return false;
            i += 2;
        } else if (!is_path_char((unsigned char)*rest.p)) {
            return false;
        }
    }
    return !is_dots(ht_slice_of(path.p + begin, path.n - begin));
}

/* ---- patterns ---- */

/* The part up to the next slash, off *rest. True: a slash was behind it. */
static bool next_part(struct ht_slice *rest, struct ht_slice *part) {
    const char *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
    *part = ht_slice_of(rest->p, slash ? (size_t)(slash - rest->p) : rest->n);
    *rest = slash ? ht_slice_of(slash + 1, rest->n - part->n - 1) : ht_slice_of("", 0);
    return slash != NULL;
}

static const char *read_part(struct hook_part *p, struct ht_slice part, bool last) {
    const char *star = part.n ? memchr(part.p, '*', part.n) : NULL;
    *p = (struct hook_part){.before = part, .star = star != NULL, .rest = ht_slice_is(part, "**")};
    if (p->rest)
        return last ? NULL : "** is the last part of a pattern";
    if (!star)
        return NULL;
    p->before = ht_slice_of(part.p, (size_t)(star - part.p));
    p->after = ht_slice_of(star + 1, part.n - p->before.n - 1);
    return memchr(p->after.p, '*', p->after.n) ? "a pattern has at most one * between two slashes" : NULL;
}

const char *hook_pattern_read(struct hook_path *p, struct ht_slice text, int *rc) {
    struct ht_slice rest = ht_slice_of(text.p + 1, text.n - 1), part;
    size_t stars = 0;
    const char *wrong = NULL;
    bool more = true;
    p->kind = HOOK_PATH_PATTERN;
    p->text = text;
    while (!wrong && more) {
        more = next_part(&rest, &part);
        if (p->n == PATTERN_PARTS)
            return "a pattern has at most 64 parts between slashes";
        struct hook_part *to = policy_one_more((void **)&p->parts, p->n, sizeof *to);
        if (!to) {
            *rc = HT_ENOMEM;
            return NULL;
        }
        p->n++;
        wrong = read_part(to, part, !more);
        stars += to->star;
    }
    return wrong || stars <= HOOKS_CAPTURES ? wrong : "a pattern has at most 9 stars";
}

static bool begins(struct ht_slice s, struct ht_slice with) {
    return s.n >= with.n && memcmp(s.p, with.p, with.n) == 0;
}

static bool part_matches(const struct hook_part *p, struct ht_slice s, struct hook_captures *c) {
    if (!p->star)
        return ht_slice_eq(p->before, s);
    if (s.n <= p->before.n + p->after.n || !begins(s, p->before) ||
        memcmp(s.p + s.n - p->after.n, p->after.p, p->after.n) != 0)
        return false;
    c->all[c->n++] = ht_slice_of(s.p + p->before.n, s.n - p->before.n - p->after.n);
    return true;
}

static bool pattern_matches(const struct hook_path *p, struct ht_slice path, struct hook_captures *c) {
    struct ht_slice rest = ht_slice_of(path.p + 1, path.n - 1), part;
    for (size_t i = 0; i < p->n; i++) {
        if (p->parts[i].rest) {
            c->all[c->n++] = rest;
            return true;
        }
        bool more = next_part(&rest, &part);
        if (!part_matches(&p->parts[i], part, c) || more != (i + 1 < p->n))
            return false;
    }
    return true;
}

bool hook_path_below(struct ht_slice path, struct ht_slice prefix, struct ht_slice *rest) {
    size_t n = prefix.n - (prefix.p[prefix.n - 1] == '/'); /* a slash at its end says nothing more */
    if (!begins(path, ht_slice_of(prefix.p, n)) || (path.n > n && path.p[n] != '/'))
        return false;
    *rest = ht_slice_of(path.p + n, path.n - n);
    return true;
}

bool hook_path_matches(const struct hook_path *p, struct ht_slice path, struct hook_captures *c) {
    c->n = 0;
    if (p->kind == HOOK_PATH_ANY)
        return true;
    if (path.n == 0 || path.p[0] != '/')
        return false;
    switch (p->kind) {
    case HOOK_PATH_EXACT:
        return ht_slice_eq(path, p->text);
    case HOOK_PATH_PREFIX:
        return hook_path_below(path, p->text, &c->all[c->n++]);
    default:
        return pattern_matches(p, path, c);
    }
}
