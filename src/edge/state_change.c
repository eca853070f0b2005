/* Changes of documents: alone, or in groups that wait for the disk once; and who is told of them. */
#include "edge/audit.h"
#include "edge/state_priv.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

#define JOURNAL_FULL (1024u * 1024u) /* bytes from which on a change pays for more files than it makes */

static void tell(struct edge_state *s, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    for (struct edge_observer *o = s->observers, *after; o; o = after) {
        after = o->next;
        o->changed(o, kind, id, doc);
    }
}

/* ---- a group ---- */

static struct edge_audited audited(const struct pending *p) {
    return (struct edge_audited){.who = p->who,
                                 .what = p->what,
                                 .from = p->from,
                                 .kind = edge_kind_names[p->kind],
                                 .id = p->id,
                                 .parts = p->parts,
                                 .version = p->version};
}

static char *keep_text(char **at, const char *text) {
    char *kept = *at;
    *at += strlen(strcpy(kept, text)) + 1;
    return kept;
}

static struct pending *pending_of(enum edge_kind kind, const char *id, const struct edge_change *changes, size_t n,
                                  const struct edge_actor *by, uint64_t version) {
    struct pending *p = ht_calloc(1, sizeof *p + strlen(by->who) + strlen(by->what) + strlen(by->from) + 3);
    size_t at = 0;
    if (!p)
        return NULL;
    char *texts = (char *)(p + 1);
    p->kind = kind;
    p->version = version;
    snprintf(p->id, sizeof p->id, "%s", id);
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(p->parts + at, sizeof p->parts - at, "%s%s", i ? "," : "", changes[i].part);
    p->who = keep_text(&texts, by->who);
    p->what = keep_text(&texts, by->what);
    p->from = keep_text(&texts, by->from);
    return p;
}

/* What is written for it. HT_ENOMEM: nothing has changed. */
static int put_pending(struct edge_state *s, const struct pending *p, const struct edge_doc *now) {
    struct edge_audited a = audited(p);
    size_t lines = s->lines.len, records = s->records.len;
    uint64_t chain = s->n_pending ? s->chain : s->journal.chain;
    int rc = edge_audit_line(&s->lines, &a, NULL);
    if (rc == HT_OK)
        rc = edge_journal_put(&s->records, &chain, p->kind, p->id, p->version,
                              now ? ht_slice_str(now->text) : ht_slice_of("", 0));
    if (rc == HT_OK)
        rc = edge_state_unfile(s, p->kind, p->id);
    if (rc < 0) {
        s->lines.len = lines;
        s->records.len = records;
        return rc;
    }
    s->chain = chain;
    return HT_OK;
}

static void take_back(struct edge_state *s, struct pending *p) {
    struct edge_doc *now =
        edge_state_replace(s, p->kind, p->id, p->old); /* a document keeps its room: edge_state_room() had made it */
    s->removed = p->removed;
    if (p->told)
        tell(s, p->kind, p->id, p->old);
    edge_doc_free(now);
}

/* Harmless for the disk, and for who reads the audit, is what the list of files to write has too many. */
static void end_group(struct edge_state *s, int rc, const struct ht_errmsg *why) {
    struct ht_errmsg none;
    struct ht_buf lines = {0};
    while (!ht_list_empty(&s->pending)) {
        struct ht_list *last = rc < 0 ? s->pending.prev : s->pending.next;
        struct pending *p = HT_LIST_ENTRY(last, struct pending, node);
        struct edge_audited a = audited(p);
        ht_list_remove(&p->node);
        if (rc < 0 && edge_audit_line(&lines, &a, why->text) < 0)
            ht_debug("edge", "out of memory for a line of the audit");
        if (rc < 0)
            take_back(s, p);
        else
            edge_doc_free(p->old);
        ht_free(p);
    }
    if (ht_buf_size(&lines) && edge_audit_write(s->folder, s->audit_max, ht_buf_slice(&lines), &none) < 0)
        ht_error("edge", "%s", none.text);
    ht_buf_free(&lines);
    if (s->records.data)
        explicit_bzero(s->records.data, s->records.len);
    ht_buf_consume(&s->records, ht_buf_size(&s->records));
    ht_buf_consume(&s->lines, ht_buf_size(&s->lines));
    s->n_pending = 0;
}

void edge_state_group(struct edge_state *s, bool on) { s->grouped = on; }

size_t edge_state_pending(const struct edge_state *s) { return s->n_pending; }

void edge_state_on_commit(struct edge_state *s, void (*committed)(void *ctx, int rc, const char *text), void *ctx) {
    s->committed = committed;
    s->committed_ctx = ctx;
}

int edge_state_commit(struct edge_state *s, struct ht_errmsg *err) {
    struct ht_errmsg why = {""};
    size_t n = s->n_pending;
    if (n == 0)
        return HT_OK;
    int rc = edge_audit_write(s->folder, s->audit_max, ht_buf_slice(&s->lines), &why);
    if (rc == HT_OK)
        rc = edge_journal_write(&s->journal, ht_buf_slice(&s->records), s->chain, &why);
    end_group(s, rc, &why);
    if (rc < 0 && err)
        *err = why;
    if (s->committed)
        s->committed(s->committed_ctx, rc, why.text);
    if (rc == HT_OK && s->journal.size > JOURNAL_FULL) /* however fast they come, it is empty again one day */
        (void)edge_state_follow(s, 2 * n + 8);
    return rc;
}

/* ---- a change ---- */

/* Takes the place in memory, and stands in the group. HT_ENOMEM: nothing has changed. */
static int join(struct edge_state *s, struct pending *p, struct edge_doc *now) {
    int rc = edge_state_room(s, p->kind);
    if (rc == HT_OK)
        rc = put_pending(s, p, now);
    if (rc < 0)
        return rc;
    p->removed = s->removed;
    if (!now)
        s->removed = ht_max64(s->removed, p->version);
    else
        now->unfiled = true;
    p->old = edge_state_replace(s, p->kind, p->id, now);
    ht_list_push_back(&s->pending, &p->node);
    s->n_pending++;
    return HT_OK;
}

int edge_state_change(struct edge_state *s, enum edge_kind kind, const char *id, uint64_t expected,
                      const struct edge_change *changes, size_t n, const struct edge_actor *by, uint64_t *version,
                      struct ht_errmsg *err) {
    struct edge_doc *now = NULL;
    int rc = edge_change_check(kind, id, changes, n, err);
    if (rc < 0)
        return rc;
    const struct edge_doc *old = edge_state_find(s, kind, id);
    uint64_t next = (old ? old->version : s->removed) + 1;
    if (version)
        *version = edge_doc_version(old);
    if (expected != EDGE_ANY_VERSION && expected != edge_doc_version(old))
        return HT_EAGAIN;
    rc = edge_doc_make(&now, id, old, changes, n, next, err);
    if (rc == HT_OK && !old && !now)
        return ht_fail(err, HT_EINVAL, "there is no such document");
    if (rc < 0)
        return rc;
    struct pending *p = pending_of(kind, id, changes, n, by, next);
    rc = p ? join(s, p, now) : HT_ENOMEM;
    if (rc < 0) {
        edge_doc_free(now);
        ht_free(p);
        return ht_fail(err, rc, "out of memory");
    }
    char kept[EDGE_ID_MAX + 1]; /* `id` may be the old document's */
    snprintf(kept, sizeof kept, "%s", p->id);
    p->told = s->grouped;
    if (!s->grouped && (rc = edge_state_commit(s, err)) < 0)
        return rc;
    if (version)
        *version = next;
    tell(s, kind, kept, now);
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
