#include "edge/state.h"

#include "base/clock.h"
#include "base/mem.h"
#include "edge/edge_priv.h"
#include "events_gen.h"
#include "json/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION "file_version"
#define REMOVED "state/removed.json" /* the highest version that a document which is gone had */
#define AUDIT "audit.log"

const char *const edge_kind_names[EDGE_KINDS] = {
    [EDGE_PROJECT] = "project", [EDGE_CONTAINER] = "container", [EDGE_ALIAS] = "alias", [EDGE_DOMAIN] = "domain"};

struct part {
    char name[EDGE_PART_NAME_MAX + 1];
    struct ht_slice value; /* in the document's text */
};

struct edge_doc {
    uint64_t version;
    char *text; /* the file */
    size_t n_parts;
    struct part *parts;
    char id[EDGE_ID_MAX + 1];
};

struct edge_state {
    const char *folder;
    struct {
        struct edge_doc **docs; /* sorted by id */
        size_t n, cap;
    } kinds[EDGE_KINDS];
    uint64_t removed; /* what REMOVED says */
    struct edge_observer *observers;
};

/* ---- names ---- */

static bool id_good(struct ht_slice s) {
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
    return s.n > 0 && s.n <= EDGE_PART_NAME_MAX && !ht_slice_is(s, VERSION);
}

static char *name_of(enum edge_kind kind, const char *id, char out[EDGE_PATH]) {
    snprintf(out, EDGE_PATH, "state/%s/%s.json", edge_kind_names[kind], id);
    return out;
}

/* ---- a document's text ---- */

static void doc_free(struct edge_doc *d) {
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
    if (ht_slice_is(key, VERSION))
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
static int doc_parse(struct edge_doc **out, const char *id, char *text, size_t n, size_t *at) {
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
        doc_free(d);
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

/* ---- the table of a kind ---- */

/* Where the id is, or would be. */
static size_t place_of(const struct edge_state *s, enum edge_kind kind, const char *id) {
    size_t low = 0, high = s->kinds[kind].n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(s->kinds[kind].docs[mid]->id, id) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct edge_doc *find(const struct edge_state *s, enum edge_kind kind, const char *id) {
    size_t at = place_of(s, kind, id);
    bool there = at < s->kinds[kind].n && strcmp(s->kinds[kind].docs[at]->id, id) == 0;
    return there ? s->kinds[kind].docs[at] : NULL;
}

static int make_room(struct edge_state *s, enum edge_kind kind) {
    if (s->kinds[kind].n < s->kinds[kind].cap)
        return HT_OK;
    size_t cap = s->kinds[kind].cap ? s->kinds[kind].cap * 2 : 64;
    struct edge_doc **more = ht_realloc(s->kinds[kind].docs, cap * sizeof(struct edge_doc *));
    if (!more)
        return HT_ENOMEM;
    s->kinds[kind].docs = more;
    s->kinds[kind].cap = cap;
    return HT_OK;
}

/* `d` takes the place of the document with its id; NULL: it goes. There is room. */
static void replace(struct edge_state *s, enum edge_kind kind, const char *id, struct edge_doc *d) {
    struct edge_doc **docs = s->kinds[kind].docs;
    size_t at = place_of(s, kind, id), n = s->kinds[kind].n;
    bool there = at < n && strcmp(docs[at]->id, id) == 0;
    if (there)
        doc_free(docs[at]);
    if (there && !d)
        memmove(docs + at, docs + at + 1, (n - at - 1) * sizeof(struct edge_doc *));
    else if (!there && d)
        memmove(docs + at + 1, docs + at, (n - at) * sizeof(struct edge_doc *));
    s->kinds[kind].n = n - (there && !d) + (!there && d);
    if (d)
        docs[at] = d;
}

const struct edge_doc *edge_state_get(const struct edge_state *s, enum edge_kind kind, const char *id) {
    return find(s, kind, id);
}

size_t edge_state_count(const struct edge_state *s, enum edge_kind kind) { return s->kinds[kind].n; }

int edge_state_each(const struct edge_state *s, enum edge_kind kind, int (*each)(void *ctx, const struct edge_doc *doc),
                    void *ctx) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->kinds[kind].n; i++)
        rc = each(ctx, s->kinds[kind].docs[i]);
    return rc;
}

/* ---- reading ---- */

static int not_good(const char *path, const char *text, size_t at, struct ht_errmsg *err) {
    unsigned line = 1;
    for (size_t i = 0; i < at; i++)
        line += text[i] == '\n';
    return ht_fail(err, HT_EINVAL,
                   "%s:%u: error: this is no document of the edge's: an object with " VERSION
                   " and parts is wanted; put the right file there, or take it away",
                   path, line);
}

static int load_one(struct edge_state *s, enum edge_kind kind, const char *file, struct ht_errmsg *err) {
    char name[EDGE_PATH], path[EDGE_PATH], id[EDGE_ID_MAX + 1];
    struct edge_doc *d;
    size_t at, n = strlen(file);
    snprintf(id, sizeof id, "%.*s", (int)(n - strlen(".json")), file);
    char *text = ht_malloc(EDGE_DOC_MAX + 1);
    if (!text)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    int got = edge_folder_read(s->folder, name_of(kind, id, name), text, EDGE_DOC_MAX + 1, err);
    char *fit = got >= 0 ? ht_realloc(text, (size_t)got + 1) : NULL;
    text = fit ? fit : text;
    if (got < 0) {
        ht_free(text);
        return got == HT_EOF ? HT_OK : got;
    }
    char *copy = ht_strndup(text, (size_t)got); /* for the message */
    int rc = make_room(s, kind);
    if (rc < 0)
        ht_free(text);
    else
        rc = doc_parse(&d, id, text, (size_t)got, &at);
    if (rc == HT_EPROTO && copy)
        not_good(edge_path(s->folder, name, path), copy, ht_min(at, strlen(copy)), err);
    else if (rc < 0)
        ht_fail(err, rc, "out of memory");
    else
        replace(s, kind, id, d);
    if (copy)
        explicit_bzero(copy, strlen(copy));
    ht_free(copy);
    return rc == HT_EPROTO ? HT_EINVAL : rc;
}

/* What a crash has left half written is removed; anything else that is no document is none of ours, and is said. */
static int load_file(struct edge_state *s, enum edge_kind kind, int folder, const char *file, struct ht_errmsg *err) {
    static const char part[] = ".part", json[] = ".json";
    size_t n = strlen(file);
    if (file[0] == '.')
        return HT_OK;
    if (n > sizeof part && strcmp(file + n - (sizeof part - 1), part) == 0) {
        (void)unlinkat(folder, file, 0);
        return HT_OK;
    }
    if (n > sizeof json - 1 && strcmp(file + n - (sizeof json - 1), json) == 0 &&
        id_good(ht_slice_of(file, n - (sizeof json - 1))))
        return load_one(s, kind, file, err);
    return ht_fail(err, HT_EINVAL, "%s/state/%s/%s: error: a document is called ID.json; take this file away",
                   s->folder, edge_kind_names[kind], file);
}

static int load_kind(struct edge_state *s, enum edge_kind kind, struct ht_errmsg *err) {
    char name[EDGE_PATH], path[EDGE_PATH];
    int rc = HT_OK;
    snprintf(name, sizeof name, "state/%s", edge_kind_names[kind]);
    if (mkdir(edge_path(s->folder, name, path), 0700) != 0 && errno != EEXIST)
        return ht_fail(err, HT_EIO, "%s cannot be made: %s", path, strerror(errno));
    DIR *dir = opendir(path);
    if (!dir)
        return ht_fail(err, HT_EIO, "%s: %s", path, strerror(errno));
    struct dirent *entry;
    while (rc == HT_OK && (entry = readdir(dir)))
        rc = load_file(s, kind, dirfd(dir), entry->d_name, err);
    closedir(dir);
    return rc;
}

static int load_removed(struct edge_state *s, struct ht_errmsg *err) {
    char text[64], path[EDGE_PATH];
    struct ht_slice key;
    struct json_reader *r = ht_calloc(1, sizeof *r);
    int n = edge_folder_read(s->folder, REMOVED, text, sizeof text, err);
    if (n < 0 || !r) {
        ht_free(r);
        return n == HT_EOF && r ? HT_OK : n < 0 && n != HT_EOF ? n : ht_fail(err, HT_ENOMEM, "out of memory");
    }
    json_begin(r, text, (size_t)n, NULL);
    bool good = json_object_begin(r) == 0 && json_object_next(r, &key) > 0 && ht_slice_is(key, VERSION) &&
                json_read_uint(r, &s->removed) == 0 && json_object_next(r, &key) == 0 && json_end(r) == 0;
    ht_free(r);
    return good ? HT_OK : not_good(edge_path(s->folder, REMOVED, path), text, 0, err);
}

int edge_state_open(struct edge_state **out, const char *folder, struct ht_errmsg *err) {
    struct edge_state *s = ht_calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    s->folder = folder;
    int rc = load_removed(s, err);
    for (int kind = 0; rc == HT_OK && kind < EDGE_KINDS; kind++)
        rc = load_kind(s, kind, err);
    if (rc == HT_OK) /* a document is there for good only when its folder is */
        rc = edge_folder_sync(folder, "state", err);
    if (rc == HT_OK)
        rc = edge_folder_sync(folder, "", err);
    if (rc < 0)
        edge_state_close(&s);
    *out = s;
    return rc;
}

void edge_state_close(struct edge_state **sp) {
    struct edge_state *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    for (int kind = 0; kind < EDGE_KINDS; kind++) {
        for (size_t i = 0; i < s->kinds[kind].n; i++)
            doc_free(s->kinds[kind].docs[i]);
        ht_free(s->kinds[kind].docs);
    }
    ht_free(s);
}

/* ---- the audit ---- */

static int put_line(struct ht_buf *b, enum edge_kind kind, const char *id, const struct edge_change *changes, size_t n,
                    const struct edge_actor *by, uint64_t version, const char *failed) {
    char when[HT_TIME_TEXT], parts[EDGE_PARTS_MAX * (EDGE_PART_NAME_MAX + 1) + 1] = "";
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(parts + at, sizeof parts - at, "%s%s", i ? "," : "", changes[i].part);
    return tell_edge_change(b, ht_now_text(when),
                            &(struct tell_edge_change){.who = by->who,
                                                       .from = by->from,
                                                       .what = by->what,
                                                       .kind = edge_kind_names[kind],
                                                       .id = id,
                                                       .parts = parts,
                                                       .version = version,
                                                       .failed = failed});
}

/* Opened for each line, so that whoever moves the file away has the next one in a new file. A line that the machine's
 * end has cut does not take the next one with it. */
static int append_line(const char *folder, struct ht_slice line, struct ht_errmsg *err) {
    char path[EDGE_PATH], last = '\n';
    int fd = open(edge_path(folder, AUDIT, path), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    bool ok = size == 0 || (size > 0 && pread(fd, &last, 1, size - 1) == 1);
    if (ok && last != '\n')
        ok = write(fd, "\n", 1) == 1;
    ok = ok && write(fd, line.p, line.n) == (ssize_t)line.n && fdatasync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    return ok ? HT_OK : ht_fail(err, HT_EIO, "%s cannot be written, so nothing is changed: %s", path, strerror(why));
}

static int audit(const struct edge_state *s, enum edge_kind kind, const char *id, const struct edge_change *changes,
                 size_t n, const struct edge_actor *by, uint64_t version, const char *failed, struct ht_errmsg *err) {
    struct ht_buf line = {0};
    int rc = put_line(&line, kind, id, changes, n, by, version, failed);
    rc = rc < 0 ? ht_fail(err, rc, "out of memory") : append_line(s->folder, ht_buf_slice(&line), err);
    ht_buf_free(&line);
    return rc;
}

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
    int rc = ht_buf_printf(b, "{\"" VERSION "\":%" PRIu64, version), parts = 0;
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

static int check_change(enum edge_kind kind, const char *id, const struct edge_change *changes, size_t n,
                        struct ht_errmsg *err) {
    if (!id_good(ht_slice_str(id)))
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
static int make(struct edge_doc **out, const char *id, const struct edge_doc *old, const struct edge_change *changes,
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
    rc = doc_parse(out, id, (char *)b.data, size - 1, &at); /* b is its memory from now on */
    if (rc == HT_EPROTO)
        return ht_fail(err, HT_EINVAL, "the document has too many members, or is nested too deeply");
    return rc < 0 ? ht_fail(err, rc, "out of memory") : rc;
}

/* The version of a document that is gone must not come again: it is kept first. */
static int remove_file(struct edge_state *s, const char *name, uint64_t version, struct ht_errmsg *err) {
    char text[64];
    uint64_t highest = ht_max64(s->removed, version);
    snprintf(text, sizeof text, "{\"" VERSION "\":%" PRIu64 "}\n", highest);
    int rc = edge_folder_write(s->folder, REMOVED, ht_slice_str(text), true, err);
    if (rc < 0)
        return rc;
    s->removed = highest;
    return edge_folder_remove(s->folder, name, err);
}

static int write_change(struct edge_state *s, enum edge_kind kind, const char *id, const struct edge_doc *now,
                        uint64_t version, struct ht_errmsg *err) {
    char name[EDGE_PATH];
    name_of(kind, id, name);
    return now ? edge_folder_write(s->folder, name, ht_slice_str(now->text), true, err)
               : remove_file(s, name, version, err);
}

int edge_state_change(struct edge_state *s, enum edge_kind kind, const char *id, uint64_t expected,
                      const struct edge_change *changes, size_t n, const struct edge_actor *by, uint64_t *version,
                      struct ht_errmsg *err) {
    struct ht_errmsg none;
    struct edge_doc *now = NULL;
    int rc = check_change(kind, id, changes, n, err);
    if (rc < 0)
        return rc;
    const struct edge_doc *old = find(s, kind, id);
    uint64_t next = (old ? old->version : s->removed) + 1;
    if (version)
        *version = edge_doc_version(old);
    if (expected != EDGE_ANY_VERSION && expected != edge_doc_version(old))
        return HT_EAGAIN;
    rc = make(&now, id, old, changes, n, next, err);
    if (rc == HT_OK && !old && !now)
        return ht_fail(err, HT_EINVAL, "there is no such document");
    if (rc == HT_OK && (rc = make_room(s, kind)) < 0)
        ht_fail(err, rc, "out of memory");
    if (rc == HT_OK)
        rc = audit(s, kind, id, changes, n, by, next, NULL, err);
    if (rc == HT_OK && (rc = write_change(s, kind, id, now, next, err)) < 0)
        (void)audit(s, kind, id, changes, n, by, next, err ? err->text : "", &none);
    if (rc < 0) {
        doc_free(now);
        return rc;
    }
    char kept[EDGE_ID_MAX + 1]; /* `id` may be the old document's */
    snprintf(kept, sizeof kept, "%s", id);
    replace(s, kind, kept, now);
    if (version)
        *version = next;
    for (struct edge_observer *o = s->observers, *after; o; o = after) {
        after = o->next;
        o->changed(o, kind, kept, now);
    }
    return HT_OK;
}

/* ---- observers ---- */

void edge_state_watch(struct edge_state *s, struct edge_observer *o) {
    struct edge_observer **at = &s->observers;
    while (*at)
        at = &(*at)->next;
    o->next = NULL;
    *at = o;
}

void edge_state_unwatch(struct edge_state *s, struct edge_observer *o) {
    for (struct edge_observer **at = &s->observers; *at; at = &(*at)->next)
        if (*at == o) {
            *at = o->next;
            return;
        }
}
