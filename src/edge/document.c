/* Documents: their text, their parts, and what a change makes of them. */
#include "base/mem.h"
#include "edge/state_priv.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- names ---- */

bool edge_doc_id_good(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++) {
        bool inside = (s.p[i] == '-' || s.p[i] == '.') && i > 0 && i + 1 < s.n && s.p[i - 1] != '.';
        if (!inside && !ht_is_digit(s.p[i]) && (s.p[i] < 'a' || s.p[i] > 'z'))
            return false;
    }
    return s.n > 0 && s.n <= EDGE_ID_MAX;
}

static bool part_good(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '_' && (s.p[i] < 'a' || s.p[i] > 'z'))
            return false;
    return s.n > 0 && s.n <= EDGE_PART_NAME_MAX && !ht_slice_is(s, EDGE_VERSION);
}

/* ---- a document's text ---- */

void edge_doc_free(struct edge_doc *d) {
    if (!d)
        return;
    if (d->text)
        explicit_bzero(d->text, strlen(d->text)); /* secrets of permissions may be in it */
    ht_free(d->text);
    ht_free(d->parts);
    ht_free(d);
}

static int doc_member(struct edge_doc *d, struct json_reader *r, struct ht_slice key) {
    char name[EDGE_PART_NAME_MAX + 1];
    if (ht_slice_is(key, EDGE_VERSION))
        return json_read_uint(r, &d->version) == 0 && d->version > 0 && d->version < EDGE_ANY_VERSION ? HT_OK
                                                                                                      : HT_EPROTO;
    if (!part_good(key) || d->n_parts == EDGE_PARTS_MAX)
        return HT_EPROTO;
    snprintf(name, sizeof name, "%.*s", HT_SLICE_ARG(key)); /* the key is good until the next call alone */
    (void)json_peek(r);                                     /* goes to where the value begins */
    const char *from = (const char *)r->p;
    if (json_skip(r) < 0)
        return HT_EPROTO;
    struct part *p = &d->parts[d->n_parts++];
    memcpy(p->name, name, sizeof name);
    p->value = ht_slice_of(from, (size_t)((const char *)r->p - from));
    return HT_OK;
}

/* Takes `text`, which has a NUL behind it. 0; HT_EPROTO with the place in *at; HT_ENOMEM. */
int edge_doc_parse(struct edge_doc **out, const char *id, char *text, size_t n, size_t *at) {
    struct json_reader *r = ht_calloc(1, sizeof *r);
    struct edge_doc *d = ht_calloc(1, sizeof *d);
    struct ht_slice key;
    int rc = HT_ENOMEM, more = 0;
    *at = 0;
    if (d) {
        d->text = text;
        snprintf(d->id, sizeof d->id, "%s", id);
        d->parts = ht_calloc(EDGE_PARTS_MAX, sizeof *d->parts);
    }
    if (r && d && d->parts) {
        json_begin(r, text, n, NULL);
        rc = json_object_begin(r) == 0 ? HT_OK : HT_EPROTO;
        while (rc == HT_OK && (more = json_object_next(r, &key)) > 0)
            rc = doc_member(d, r, key);
        if (rc == HT_OK && (more < 0 || json_end(r) < 0 || d->version == 0 || d->n_parts == 0))
            rc = HT_EPROTO;
        *at = (size_t)(r->p - r->start);
    }
    if (rc == HT_OK) {
        struct part *fit = ht_realloc(d->parts, d->n_parts * sizeof *fit);
        d->parts = fit ? fit : d->parts;
    }
    ht_free(r);
    if (rc < 0) {
        if (!d)
            ht_free(text);
        edge_doc_free(d);
        d = NULL;
    }
    *out = d;
    return rc;
}

static const struct part *find_part(const struct edge_doc *d, const char *name) {
    for (size_t i = 0; d && i < d->n_parts; i++)
        if (strcmp(d->parts[i].name, name) == 0)
            return &d->parts[i];
    return NULL;
}

const char *edge_doc_id(const struct edge_doc *d) { return d->id; }

uint64_t edge_doc_version(const struct edge_doc *d) { return d ? d->version : 0; }

struct ht_slice edge_doc_part(const struct edge_doc *d, const char *part) {
    const struct part *p = find_part(d, part);
    return p ? p->value : ht_slice_of(NULL, 0);
}

size_t edge_doc_parts(const struct edge_doc *d) { return d ? d->n_parts : 0; }

const char *edge_doc_part_name(const struct edge_doc *d, size_t i) { return d->parts[i].name; }

/* ---- changing ---- */

static const struct edge_change *change_of(const struct edge_change *changes, size_t n, const char *part) {
    for (size_t i = n; i-- > 0;)
        if (strcmp(changes[i].part, part) == 0)
            return &changes[i];
    return NULL;
}

static int put_part(struct ht_buf *b, const char *name, struct ht_slice value) {
    int rc = ht_buf_printf(b, ",\n\"%s\":", name);
    return rc == HT_OK ? ht_buf_append(b, value.p, value.n) : rc;
}

/* The parts that stay as they are, then those that are new or change. How many there are, or HT_ENOMEM. */
static int put_doc(struct ht_buf *b, const struct edge_doc *old, const struct edge_change *changes, size_t n,
                   uint64_t version) {
    int rc = ht_buf_printf(b, "{\"" EDGE_VERSION "\":%" PRIu64, version), parts = 0;
    for (size_t i = 0; rc == HT_OK && old && i < old->n_parts; i++)
        if (!change_of(changes, n, old->parts[i].name)) {
            rc = put_part(b, old->parts[i].name, old->parts[i].value);
            parts++;
        }
    for (size_t i = 0; rc == HT_OK && i < n; i++)
        if (changes[i].value.p && change_of(changes, n, changes[i].part) == &changes[i]) {
            rc = put_part(b, changes[i].part, changes[i].value);
            parts++;
        }
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, "}\n");
    if (rc == HT_OK)
        rc = ht_buf_append(b, "", 1);
    return rc == HT_OK ? parts : rc;
}

int edge_change_check(enum edge_kind kind, const char *id, const struct edge_change *changes, size_t n,
                      struct ht_errmsg *err) {
    if (!edge_doc_id_good(ht_slice_str(id)))
        return ht_fail(err, HT_EINVAL, "this is no id of a document of the kind %s: 1 to %d of a-z, 0-9, - and .",
                       edge_kind_names[kind], EDGE_ID_MAX);
    for (size_t i = 0; i < n; i++) {
        struct json_error bad;
        if (!part_good(ht_slice_str(changes[i].part)))
            return ht_fail(err, HT_EINVAL, "\"%s\" is no name of a part", changes[i].part);
        if (changes[i].value.p && json_validate(changes[i].value.p, changes[i].value.n, NULL, &bad) < 0)
            return ht_fail(err, HT_EINVAL, "the part %s is no JSON: %s", changes[i].part, json_reason_text(bad.reason));
    }
    return n > 0 && n <= EDGE_PARTS_MAX ? HT_OK : ht_fail(err, HT_ELIMIT, "1 to %d parts may change", EDGE_PARTS_MAX);
}

/* The new document; *out is NULL when it has no parts left. */
int edge_doc_make(struct edge_doc **out, const char *id, const struct edge_doc *old, const struct edge_change *changes,
                  size_t n, uint64_t version, struct ht_errmsg *err) {
    struct ht_buf b = {0};
    size_t at;
    *out = NULL;
    int rc = put_doc(&b, old, changes, n, version);
    size_t size = ht_buf_size(&b);
    if (rc > EDGE_PARTS_MAX || (rc > 0 && size > EDGE_DOC_MAX))
        rc = ht_fail(err, HT_ELIMIT, "a document has at most %d parts and %u bytes", EDGE_PARTS_MAX, EDGE_DOC_MAX);
    else if (rc < 0)
        ht_fail(err, rc, "out of memory");
    if (rc <= 0) {
        ht_buf_free(&b);
        return rc;
    }
    rc = edge_doc_parse(out, id, (char *)b.data, size - 1, &at); /* b is its memory from now on */
    if (rc == HT_EPROTO)
        return ht_fail(err, HT_EINVAL, "the document has too many members, or is nested too deeply");
    return rc < 0 ? ht_fail(err, rc, "out of memory") : rc;
}
