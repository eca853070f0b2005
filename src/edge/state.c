#include "edge/state_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN "state/open"
#define REMOVED "state/removed.json" /* the highest version that a document which is gone had */

const char *const edge_kind_names[EDGE_KINDS] = {
    [EDGE_PROJECT] = "project", [EDGE_CONTAINER] = "container", [EDGE_ALIAS] = "alias", [EDGE_DOMAIN] = "domain"};

static char *name_of(enum edge_kind kind, const char *id, char out[EDGE_PATH]) {
    snprintf(out, EDGE_PATH, "state/%s/%s.json", edge_kind_names[kind], id);
    return out;
}
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

struct edge_doc *edge_state_find(const struct edge_state *s, enum edge_kind kind, const char *id) {
    size_t at = place_of(s, kind, id);
    bool there = at < s->kinds[kind].n && strcmp(s->kinds[kind].docs[at]->id, id) == 0;
    return there ? s->kinds[kind].docs[at] : NULL;
}

int edge_state_room(struct edge_state *s, enum edge_kind kind) {
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

/* `d` takes the place of the document with its id, which is returned; NULL: it goes. There is room. */
struct edge_doc *edge_state_replace(struct edge_state *s, enum edge_kind kind, const char *id, struct edge_doc *d) {
    struct edge_doc **docs = s->kinds[kind].docs;
    size_t at = place_of(s, kind, id), n = s->kinds[kind].n;
    bool there = at < n && strcmp(docs[at]->id, id) == 0;
    struct edge_doc *old = there ? docs[at] : NULL;
    if (there && !d)
        memmove(docs + at, docs + at + 1, (n - at - 1) * sizeof(struct edge_doc *));
    else if (!there && d)
        memmove(docs + at + 1, docs + at, (n - at) * sizeof(struct edge_doc *));
    s->kinds[kind].n = n - (there && !d) + (!there && d);
    if (d)
        docs[at] = d;
    return old;
}

const struct edge_doc *edge_state_get(const struct edge_state *s, enum edge_kind kind, const char *id) {
    return edge_state_find(s, kind, id);
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
                   "%s:%u: error: this is no document of the edge's: an object with " EDGE_VERSION
                   " and parts is wanted; put the right file there, or take it away",
                   path, line);
}

/* A document is taken from `space`, which all of them share: memory of its own for the largest one would leave a page
 * for each. */
static int load_one(struct edge_state *s, enum edge_kind kind, const char *file, char *space, struct ht_errmsg *err) {
    char name[EDGE_PATH], path[EDGE_PATH], id[EDGE_ID_MAX + 1];
    struct edge_doc *d = NULL;
    size_t at;
    snprintf(id, sizeof id, "%.*s", (int)(strlen(file) - strlen(".json")), file);
    int got = edge_folder_read(s->folder, name_of(kind, id, name), space, EDGE_DOC_MAX + 1, err);
    if (got < 0)
        return got == HT_EOF ? HT_OK : got;
    char *text = edge_state_room(s, kind) == HT_OK ? ht_malloc((size_t)got + 1) : NULL;
    if (!text)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    memcpy(text, space, (size_t)got + 1);
    int rc = edge_doc_parse(&d, id, text, (size_t)got, &at);
    if (rc == HT_EPROTO)
        return not_good(edge_path(s->folder, name, path), space, ht_min(at, strlen(space)), err);
    if (rc < 0)
        return ht_fail(err, rc, "out of memory");
    s->kinds[kind].docs[s->kinds[kind].n++] = d; /* load_kind() sorts them */
    return HT_OK;
}

/* What a crash has left half written is removed; anything else that is no document is none of ours, and is said. */
static int load_file(struct edge_state *s, enum edge_kind kind, int folder, const char *file, char *space,
                     struct ht_errmsg *err) {
    static const char part[] = ".part", json[] = ".json";
    size_t n = strlen(file);
    if (file[0] == '.')
        return HT_OK;
    if (n > sizeof part && strcmp(file + n - (sizeof part - 1), part) == 0) {
        (void)unlinkat(folder, file, 0);
        return HT_OK;
    }
    if (n > sizeof json - 1 && strcmp(file + n - (sizeof json - 1), json) == 0 &&
        edge_doc_id_good(ht_slice_of(file, n - (sizeof json - 1))))
        return load_one(s, kind, file, space, err);
    return ht_fail(err, HT_EINVAL, "%s/state/%s/%s: error: a document is called ID.json; take this file away",
                   s->folder, edge_kind_names[kind], file);
}

static int by_id(const void *a, const void *b) {
    return strcmp((*(struct edge_doc *const *)a)->id, (*(struct edge_doc *const *)b)->id);
}

static int load_kind(struct edge_state *s, enum edge_kind kind, char *space, struct ht_errmsg *err) {
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
        rc = load_file(s, kind, dirfd(dir), entry->d_name, space, err);
    closedir(dir);
    if (s->kinds[kind].n)
        qsort(s->kinds[kind].docs, s->kinds[kind].n, sizeof(struct edge_doc *), by_id);
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
    bool good = json_object_begin(r) == 0 && json_object_next(r, &key) > 0 && ht_slice_is(key, EDGE_VERSION) &&
                json_read_uint(r, &s->removed) == 0 && json_object_next(r, &key) == 0 && json_end(r) == 0;
    ht_free(r);
    return good ? HT_OK : not_good(edge_path(s->folder, REMOVED, path), text, 0, err);
}

/* ---- files that follow ---- */

/* The file of a document is to be written, or to go. */
int edge_state_unfile(struct edge_state *s, enum edge_kind kind, const char *id) {
    struct unfiled *u = ht_calloc(1, sizeof *u);
    if (!u)
        return HT_ENOMEM;
    u->kind = kind;
    snprintf(u->id, sizeof u->id, "%s", id);
    ht_list_push_back(&s->unfiled, &u->node);
    s->n_unfiled++;
    return HT_OK;
}

/* The version of a document that is gone must not come again: it is kept first. */
static int remove_file(const struct edge_state *s, const char *name, struct ht_errmsg *err) {
    char text[64];
    snprintf(text, sizeof text, "{\"" EDGE_VERSION "\":%" PRIu64 "}\n", s->removed);
    int rc = edge_folder_write(s->folder, REMOVED, ht_slice_str(text), true, err);
    return rc == HT_OK ? edge_folder_remove(s->folder, name, err) : rc;
}

/* A document that has changed several times stands in the list once for each, and is written by the first. */
static int file_one(const struct edge_state *s, const struct unfiled *u, struct ht_errmsg *err) {
    char name[EDGE_PATH];
    struct edge_doc *d = edge_state_find(s, u->kind, u->id);
    if (d && !d->unfiled)
        return HT_OK;
    name_of(u->kind, u->id, name);
    int rc = d ? edge_folder_write(s->folder, name, ht_slice_str(d->text), true, err) : remove_file(s, name, err);
    if (rc == HT_OK && d)
        d->unfiled = false;
    return rc;
}

/* What is in the files now is what is acknowledged: nothing is pending. */
bool edge_state_follow(struct edge_state *s, size_t n) {
    struct ht_errmsg err;
    int rc = HT_OK;
    while (rc == HT_OK && n-- > 0 && !ht_list_empty(&s->unfiled)) {
        struct unfiled *u = HT_LIST_ENTRY(s->unfiled.next, struct unfiled, node);
        rc = file_one(s, u, &err);
        if (rc < 0)
            break;
        ht_list_remove(&u->node);
        ht_free(u);
        s->n_unfiled--;
    }
    if (rc == HT_OK && ht_list_empty(&s->unfiled))
        rc = edge_journal_clear(&s->journal, &err);
    if (rc < 0)
        ht_error("edge", "%s; it is in the journal, and tried again", err.text);
    return rc < 0 || !ht_list_empty(&s->unfiled);
}

bool edge_state_tidy(struct edge_state *s, size_t n) {
    struct ht_errmsg err;
    if (edge_state_commit(s, &err) < 0)
        ht_error("edge", "%s", err.text);
    return edge_state_follow(s, n);
}

/* ---- whose folder it is ---- */

/* A file says that an edge works in the folder, and in which one: a copy of the folder is another one. */
static int identity_of(const char *folder, char out[64], struct ht_errmsg *err) {
    char path[EDGE_PATH];
    struct statx st;
    if (statx(AT_FDCWD, edge_path(folder, "state", path), 0, STATX_INO | STATX_BTIME, &st) != 0)
        return ht_fail(err, HT_EIO, "%s: %s", path, strerror(errno));
    bool born = st.stx_mask & STATX_BTIME; /* a file system need not know it */
    snprintf(out, 64, "%llu %lld.%u\n", (unsigned long long)st.stx_ino, born ? (long long)st.stx_btime.tv_sec : 0,
             born ? (unsigned)st.stx_btime.tv_nsec : 0);
    return HT_OK;
}

static int take_folder(const char *folder, struct ht_errmsg *err) {
    char own[64], was[64];
    int rc = identity_of(folder, own, err);
    int n = rc == HT_OK ? edge_folder_read(folder, OPEN, was, sizeof was, err) : rc;
    if (n >= 0 && strcmp(own, was) != 0)
        return ht_fail(err, HT_EINUSE,
                       "%s is a copy of the folder of an edge that worked in it, or was killed: it may lack what that "
                       "edge has acknowledged. End that edge, and copy the folder again; if it is lost, --take-over "
                       "goes on with what is here",
                       folder);
    return n >= 0 ? HT_OK : n == HT_EOF ? edge_folder_write(folder, OPEN, ht_slice_str(own), true, err) : n;
}

int edge_state_take_over(const char *folder, struct ht_errmsg *err) { return edge_folder_remove(folder, OPEN, err); }

/* ---- beginning and end ---- */

/* A record of the journal, which is not older than the document's file. */
static int take_record(void *ctx, const struct edge_record *r) {
    struct edge_state *s = ctx;
    struct edge_doc *d = NULL;
    size_t at;
    if (!edge_doc_id_good(ht_slice_str(r->id)))
        return HT_EPROTO;
    if (r->text.n) {
        char *text = ht_strndup(r->text.p, r->text.n);
        int rc = text ? edge_doc_parse(&d, r->id, text, r->text.n, &at) : HT_ENOMEM;
        if (rc < 0)
            return rc;
        d->unfiled = true;
    } else {
        s->removed = ht_max64(s->removed, r->version);
    }
    if (edge_state_room(s, r->kind) < 0 || edge_state_unfile(s, r->kind, r->id) < 0) {
        edge_doc_free(d);
        return HT_ENOMEM;
    }
    edge_doc_free(edge_state_replace(s, r->kind, r->id, d));
    return HT_OK;
}

int edge_state_open(struct edge_state **out, const char *folder, struct ht_errmsg *err) {
    struct edge_state *s = ht_calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    s->folder = folder;
    s->journal.fd = -1;
    ht_list_init(&s->unfiled);
    ht_list_init(&s->pending);
    char *space = ht_malloc(EDGE_DOC_MAX + 1);
    int rc = space ? take_folder(folder, err) : ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc == HT_OK)
        rc = load_removed(s, err);
    for (int kind = 0; rc == HT_OK && kind < EDGE_KINDS; kind++)
        rc = load_kind(s, kind, space, err);
    if (space)
        explicit_bzero(space, EDGE_DOC_MAX + 1); /* secrets of permissions may be in it */
    ht_free(space);
    if (rc == HT_OK)
        rc = edge_journal_open(&s->journal, folder, take_record, s, err);
    if (rc == HT_OK) /* a document is there for good only when its folder is */
        rc = edge_folder_sync(folder, "state", err);
    if (rc == HT_OK)
        rc = edge_folder_sync(folder, "", err);
    if (rc < 0) {
        while (!ht_list_empty(&s->unfiled)) /* nothing is written */
            ht_free(HT_LIST_ENTRY(ht_list_pop_front(&s->unfiled), struct unfiled, node));
        s->journal.size = 0;
        edge_state_close(&s);
    }
    *out = s;
    return rc;
}

void edge_state_close(struct edge_state **sp) {
    struct edge_state *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    s->committed = NULL;
    s->observers = NULL;
    struct ht_errmsg err;
    if (s->journal.fd >= 0 && !edge_state_tidy(s, SIZE_MAX) && edge_folder_remove(s->folder, OPEN, &err) < 0)
        ht_error("edge", "%s", err.text);
    edge_journal_close(&s->journal);
    while (!ht_list_empty(&s->unfiled))
        ht_free(HT_LIST_ENTRY(ht_list_pop_front(&s->unfiled), struct unfiled, node));
    for (int kind = 0; kind < EDGE_KINDS; kind++) {
        for (size_t i = 0; i < s->kinds[kind].n; i++)
            edge_doc_free(s->kinds[kind].docs[i]);
        ht_free(s->kinds[kind].docs);
    }
    ht_buf_free(&s->lines);
    if (s->records.data)
        explicit_bzero(s->records.data, s->records.cap);
    ht_buf_free(&s->records);
    ht_free(s);
}

void edge_state_limit_audit(struct edge_state *s, uint64_t max_bytes) { s->audit_max = max_bytes; }
