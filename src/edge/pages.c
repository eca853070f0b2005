#include "edge/pages.h"

#include "base/base64.h"
#include "base/mem.h"
#include "json/json.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#define EDGE_OWNER "edge" /* of pages for all hosts (answer.lua.j2) */
#define SUFFIX ".html"
#define WHATS (2 * HAPROXY_SAID) /* what a page can be for: a name, or its status, some of them more than once */
#define WHAT_TEXT 48
#define TEXT_MAX ((HAPROXY_PAGE_MAX + 2) / 3 * 4 + 1)

/* ---- what a page is for ---- */

static const char *what_of(size_t i, char out[WHAT_TEXT]) {
    if (i < HAPROXY_SAID)
        snprintf(out, WHAT_TEXT, "%s", haproxy_said[i].name);
    else
        snprintf(out, WHAT_TEXT, "%u", haproxy_said[i - HAPROXY_SAID].status);
    return out;
}

/* The first one of those with the same status. */
static size_t first_of(size_t i) {
    size_t first = HAPROXY_SAID;
    while (haproxy_said[first - HAPROXY_SAID].status != haproxy_said[i - HAPROXY_SAID].status)
        first++;
    return first;
}

/* WHATS: nothing. */
static size_t index_of(struct ht_slice what) {
    for (size_t i = 0; i < HAPROXY_SAID; i++)
        if (ht_slice_is(what, haproxy_said[i].name))
            return i;
    bool digits = what.n == 3 && ht_is_digit(what.p[0]) && ht_is_digit(what.p[1]) && ht_is_digit(what.p[2]);
    int status = digits ? (what.p[0] - '0') * 100 + (what.p[1] - '0') * 10 + what.p[2] - '0' : 0;
    for (size_t i = HAPROXY_SAID; i < WHATS; i++)
        if (haproxy_said[i - HAPROXY_SAID].status == status)
            return i;
    return WHATS;
}

static int unknown(struct ht_slice what, struct ht_errmsg *err) {
    char list[400] = "", text[WHAT_TEXT];
    for (size_t i = 0, at = 0; i < HAPROXY_SAID && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", what_of(i, text));
    return ht_fail(err, HT_EINVAL, "there is no page for %.*s; there is one for a status, such as 503, or for %s",
                   (int)ht_min(what.n, 40), what.p, list);
}

/* ---- what is in it ---- */

static bool is_placeholder(struct ht_slice name) {
    for (size_t i = 0; i < HAPROXY_PLACEHOLDERS; i++)
        if (ht_slice_is(name, haproxy_placeholders[i]))
            return true;
    return false;
}

static int check_page(struct ht_slice what, struct ht_slice html, struct ht_errmsg *err) {
    size_t n = 0;
    if (index_of(what) == WHATS)
        return unknown(what, err);
    if (html.n == 0 || html.n > HAPROXY_PAGE_MAX)
        return ht_fail(err, HT_EINVAL, "the page for %.*s has %zu bytes; it may have 1 to %d", HT_SLICE_ARG(what),
                       html.n, HAPROXY_PAGE_MAX);
    if (memchr(html.p, '\0', html.n))
        return ht_fail(err, HT_EINVAL, "the page for %.*s has a NUL", HT_SLICE_ARG(what));
    const char *at = html.p, *end = html.p + html.n;
    while ((at = memmem(at, (size_t)(end - at), "{{", 2)) != NULL) {
        const char *close = memmem(at, (size_t)(end - at), "}}", 2);
        struct ht_slice name =
            ht_slice_of(at + 2, close ? (size_t)(close - at - 2) : ht_min((size_t)(end - at - 2), 20));
        if (!close || !is_placeholder(name))
            return ht_fail(
                err, HT_EINVAL,
                "the page for %.*s: {{%.*s stands for nothing; {{status}}, {{title}}, {{code}}, {{message}} and "
                "{{host}} do",
                HT_SLICE_ARG(what), (int)ht_min(name.n, 20), name.p);
        if (++n > HAPROXY_PAGE_PLACEHOLDERS_MAX)
            return ht_fail(err, HT_EINVAL, "the page for %.*s has more than %d placeholders", HT_SLICE_ARG(what),
                           HAPROXY_PAGE_PLACEHOLDERS_MAX);
        at = close + 2;
    }
    return HT_OK;
}

/* ---- pages of a document ---- */

typedef int each_page(void *ctx, struct ht_slice what, struct ht_slice html);

/* Calls each() for all pages until it returns another number than 0, which is returned. HT_EINVAL: it is no object of
 * texts. */
static int walk(struct ht_slice json, each_page *each, void *ctx) {
    struct json_reader r;
    struct ht_slice key, html;
    char *space = ht_malloc(json.n + 1);
    if (!space)
        return HT_ENOMEM;
    json_begin(&r, json.p, json.n, NULL);
    int rc = HT_OK, more = json_peek(&r) == JSON_T_OBJECT ? json_object_begin(&r) : -1;
    while (rc == HT_OK && more >= 0 && (more = json_object_next(&r, &key)) > 0) {
        struct json_arena arena = {.p = space, .cap = json.n};
        if (json_peek(&r) != JSON_T_STRING || json_read_string(&r, false, &arena, &html) != 0)
            more = -1;
        else
            rc = each(ctx, key, html);
    }
    if (rc == HT_OK && (more < 0 || json_end(&r) < 0))
        rc = HT_EINVAL;
    ht_free(space);
    return rc;
}

static int check_each(void *ctx, struct ht_slice what, struct ht_slice html) { return check_page(what, html, ctx); }

int edge_pages_check(struct ht_slice json, struct ht_errmsg *err) {
    err->text[0] = '\0';
    int rc = walk(json, check_each, err);
    if (rc < 0 && !err->text[0])
        ht_fail(err, rc, "%s",
                rc == HT_EINVAL ? "pages must be an object: a status, or a reason such as off, -> HTML"
                                : ht_err_text(rc));
    return rc;
}

/* ---- entries ---- */

struct setting {
    struct edge_maps *maps;
    const char *owner;
    bool there[WHATS];
};

static const char *key_of(const char *owner, size_t i, char out[128]) {
    char text[WHAT_TEXT];
    snprintf(out, 128, "%s.%s", owner, what_of(i, text));
    return out;
}

static int set_each(void *ctx, struct ht_slice what, struct ht_slice html) {
    struct setting *s = ctx;
    struct ht_errmsg err;
    char key[128];
    _Static_assert(TEXT_MAX + sizeof key < EDGE_MAP_ENTRY, "a page has to fit into an entry");
    if (check_page(what, html, &err) < 0)
        return HT_OK;
    char *value = ht_malloc(TEXT_MAX);
    if (!value)
        return HT_ENOMEM;
    size_t i = index_of(what);
    value[ht_base64_put(value, html.p, html.n)] = '\0';
    int rc = edge_maps_set(s->maps, HAPROXY_MAP_PAGES, key_of(s->owner, i, key), value);
    s->there[i] = true;
    ht_free(value);
    return rc;
}

static void remove_others(const struct setting *s) {
    char key[128];
    for (size_t i = 0; i < WHATS && edge_maps_count(s->maps, HAPROXY_MAP_PAGES); i++)
        if (!s->there[i < HAPROXY_SAID ? i : first_of(i)])
            edge_maps_remove(s->maps, HAPROXY_MAP_PAGES, key_of(s->owner, i, key));
}

int edge_pages_set(struct edge_maps *maps, const char *owner, struct ht_slice json) {
    struct setting s = {.maps = maps, .owner = owner};
    int rc = json.p ? walk(json, set_each, &s) : HT_OK;
    if (rc == HT_ENOMEM)
        return rc;
    remove_others(&s);
    return HT_OK;
}

/* ---- files ---- */

struct loading {
    struct setting *set; /* NULL: they are only checked */
    const char *folder;
    struct ht_errmsg *err;
};

static int load_file(const struct loading *l, const char *name) {
    char path[4096], text[HAPROXY_PAGE_MAX + 1];
    struct ht_errmsg why;
    size_t n = strlen(name), tail = sizeof SUFFIX - 1;
    struct ht_slice what = ht_slice_of(name, n > tail ? n - tail : 0);
    if (n <= tail || strcmp(name + what.n, SUFFIX) != 0)
        return HT_OK;
    snprintf(path, sizeof path, "%s/%s", l->folder, name);
    FILE *f = fopen(path, "re");
    if (!f)
        return ht_fail(l->err, HT_EIO, "%s cannot be opened: %s", path, strerror(errno));
    struct ht_slice html = ht_slice_of(text, fread(text, 1, sizeof text, f));
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad)
        return ht_fail(l->err, HT_EIO, "%s cannot be read", path);
    int rc = check_page(what, html, &why);
    if (rc < 0)
        return ht_fail(l->err, rc, "%s: %s", path, why.text);
    rc = l->set ? set_each(l->set, what, html) : HT_OK;
    return rc == HT_OK ? rc : ht_fail(l->err, rc, "%s", ht_err_text(rc));
}

static int load_all(const struct loading *l) {
    DIR *d = opendir(l->folder);
    const struct dirent *one;
    int rc = HT_OK;
    if (!d)
        return ht_fail(l->err, HT_EIO, "the folder of pages %s: %s", l->folder, strerror(errno));
    while (rc == HT_OK && (one = readdir(d)) != NULL)
        rc = load_file(l, one->d_name);
    closedir(d);
    return rc;
}

int edge_pages_load(struct edge_maps *maps, const char *folder, struct ht_errmsg *err) {
    struct setting s = {.maps = maps, .owner = EDGE_OWNER};
    struct loading l = {.folder = folder, .err = err};
    int rc = folder ? load_all(&l) : HT_OK;
    if (rc < 0)
        return rc;
    l.set = &s;
    rc = folder ? load_all(&l) : HT_OK;
    if (rc == HT_OK)
        remove_others(&s);
    return rc;
}
