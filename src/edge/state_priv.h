/* What state.c, state_change.c and document.c share. */
#ifndef HT_EDGE_STATE_PRIV_H
#define HT_EDGE_STATE_PRIV_H

#include "base/list.h"
#include "edge/edge_priv.h"
#include "edge/journal.h"
#include "edge/state.h"

#define EDGE_VERSION "file_version"

struct part {
    char name[EDGE_PART_NAME_MAX + 1];
    struct ht_slice value; /* in the document's text */
};

struct edge_doc {
    uint64_t version;
    char *text; /* the file */
    size_t n_parts;
    struct part *parts;
    bool unfiled; /* its file is older, or not there */
    char id[EDGE_ID_MAX + 1];
};

/* A document whose file is older; for one that is gone, it may still be there. */
struct unfiled {
    struct ht_list node;
    enum edge_kind kind;
    char id[EDGE_ID_MAX + 1];
};

/* A change that is not on the disk yet. */
struct pending {
    struct ht_list node;
    enum edge_kind kind;
    struct edge_doc *old; /* what is to come back if it fails; NULL: nothing */
    uint64_t version, removed;
    bool told; /* observers have been */
    char id[EDGE_ID_MAX + 1], parts[EDGE_PARTS_MAX * (EDGE_PART_NAME_MAX + 1) + 1];
    char *who, *what, *from; /* behind it */
};

struct edge_state {
    const char *folder;
    struct {
        struct edge_doc **docs; /* sorted by id */
        size_t n, cap;
    } kinds[EDGE_KINDS];
    uint64_t removed; /* what REMOVED says, or will */
    struct edge_observer *observers;
    struct edge_journal journal;
    struct ht_list unfiled; /* struct unfiled, the oldest first */
    size_t n_unfiled;
    uint64_t audit_max;
    /* The group that is open. */
    struct ht_list pending;
    size_t n_pending;
    bool grouped;
    struct ht_buf lines, records; /* of the audit, and of the journal */
    uint64_t chain;               /* of `records` */
    void (*committed)(void *ctx, int rc, const char *text);
    void *committed_ctx;
};

/* ---- document.c ---- */

bool edge_doc_id_good(struct ht_slice s);
/* Takes `text`, which has a NUL behind it. 0; HT_EPROTO with the place in *at; HT_ENOMEM. */
int edge_doc_parse(struct edge_doc **out, const char *id, char *text, size_t n, size_t *at) HT_MUST_USE;
/* NULL is ignored. */
void edge_doc_free(struct edge_doc *d);
/* 0, or HT_EINVAL or HT_ELIMIT with *err. */
int edge_change_check(enum edge_kind kind, const char *id, const struct edge_change *changes, size_t n,
                      struct ht_errmsg *err) HT_MUST_USE;
/* The new document; *out is NULL when it has no parts left. 0, or HT_ELIMIT, HT_EINVAL or HT_ENOMEM with *err. */
int edge_doc_make(struct edge_doc **out, const char *id, const struct edge_doc *old, const struct edge_change *changes,
                  size_t n, uint64_t version, struct ht_errmsg *err) HT_MUST_USE;

/* ---- state.c ---- */

struct edge_doc *edge_state_find(const struct edge_state *s, enum edge_kind kind, const char *id);
/* Room for one more document. HT_ENOMEM. */
int edge_state_room(struct edge_state *s, enum edge_kind kind) HT_MUST_USE;
/* `d` takes the place of the document with its id, which is returned; NULL: it goes. There is room. */
struct edge_doc *edge_state_replace(struct edge_state *s, enum edge_kind kind, const char *id, struct edge_doc *d);
/* The file of a document is to be written, or to go. HT_ENOMEM. */
int edge_state_unfile(struct edge_state *s, enum edge_kind kind, const char *id) HT_MUST_USE;
/* edge_state_tidy(), when nothing is pending. */
bool edge_state_follow(struct edge_state *s, size_t n);

#endif
