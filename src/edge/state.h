/*
 * What the edge keeps: documents, one for each project, container, alias and domain, in FOLDER/state/KIND/ID.json. A
 * document has a version, which each change raises, and parts: members of the file's JSON object. A part belongs to
 * whoever writes it, such as `permissions`, and has any JSON value; the store does not look into it.
 *
 * A change is on the disk when edge_state_change() returns HT_OK, or, of a group, when its edge_state_commit() does.
 * Whenever this program or the machine ends, each document is there whole, as it was before a change or after it. A
 * version never comes twice for an id, not even when the document is removed and made again.
 *
 * A change is first in FOLDER/state/journal (journal.h), and in its file when edge_state_tidy() comes to it. So whoever
 * puts files there by hand, or copies the folder, ends the edge first; after an orderly end the journal is empty.
 */
#ifndef HT_EDGE_STATE_H
#define HT_EDGE_STATE_H

#include "base/base.h"
#include "base/err.h"

/* The folders below FOLDER/state. */
enum edge_kind { EDGE_PROJECT, EDGE_CONTAINER, EDGE_ALIAS, EDGE_DOMAIN, EDGE_KINDS };
extern const char *const edge_kind_names[EDGE_KINDS];

#define EDGE_ID_MAX 100                   /* bytes of an id: a-z, 0-9, and - and . inside */
#define EDGE_PART_NAME_MAX 40             /* bytes of a part's name: a-z and _ */
#define EDGE_DOC_MAX (4u * 1024u * 1024u) /* bytes of a document */
#define EDGE_PARTS_MAX 32

struct edge_state;
struct edge_doc; /* valid until the next change of the document */

/*
 * Reads all documents of FOLDER/state, and makes its folders. HT_EINVAL: a file is no document; *err names file and
 * line. HT_EINUSE: this is a copy of a folder that an edge worked in when it was copied, or that it did not leave in
 * order: it may lack what that edge has acknowledged. HT_EIO or HT_ENOMEM with *err. The folder's lock must be held.
 * The caller ends it with edge_state_close().
 */
int edge_state_open(struct edge_state **out, const char *folder, struct ht_errmsg *err) HT_MUST_USE;
/* From now on a copy is taken for the folder itself, whatever it lacks. 0, or HT_EIO with *err. */
int edge_state_take_over(const char *folder, struct ht_errmsg *err) HT_MUST_USE;
/* Commits a group, and writes all files. Clears the pointer. NULL is ignored. */
void edge_state_close(struct edge_state **s);
/* The size at which a new file of the audit begins; 0, as at first: none. */
void edge_state_limit_audit(struct edge_state *s, uint64_t max_bytes);

/* NULL: there is none. */
const struct edge_doc *edge_state_get(const struct edge_state *s, enum edge_kind kind, const char *id);
size_t edge_state_count(const struct edge_state *s, enum edge_kind kind);
/* Calls each() for all documents of a kind, sorted by id, until it returns another number than 0, which is returned.
 * each() may not change documents. */
int edge_state_each(const struct edge_state *s, enum edge_kind kind, int (*each)(void *ctx, const struct edge_doc *doc),
                    void *ctx);

const char *edge_doc_id(const struct edge_doc *d);
/* 0 for NULL, as of a document that is not there. */
uint64_t edge_doc_version(const struct edge_doc *d);
/* The JSON text of a part, which is valid JSON; .p is NULL when there is no such part, or d is NULL. */
struct ht_slice edge_doc_part(const struct edge_doc *d, const char *part);
/* How many parts it has, 0 for NULL; and the name of one. */
size_t edge_doc_parts(const struct edge_doc *d);
const char *edge_doc_part_name(const struct edge_doc *d, size_t i);

/* A part that is to change. .p of value NULL: it is removed. */
struct edge_change {
    const char *part;
    struct ht_slice value; /* any JSON value, borrowed */
};

/* Who changes something, for the line of the audit. Texts may hold anything. */
struct edge_actor {
    const char *who;  /* a user's name, or "uid 0" */
    const char *what; /* the operation, such as containerAddressPut */
    const char *from; /* an address, or "unix" */
};

/*
 * Changes parts of a document, in one step. `expected` is the version that it must have, 0: it must not be there yet;
 * EDGE_ANY_VERSION: whatever it has, also none. A document without parts is no document any more.
 *
 * HT_OK: it is on the disk, observers have been told; *version, which may be NULL, is the new one (also of the removed
 * document). A change that changes nothing still makes a new version.
 * HT_EAGAIN: it has another version, which is in *version (0: there is none).
 * HT_EINVAL: an id, a part's name or a value is none. HT_ELIMIT: it becomes too large. HT_ENOMEM.
 * HT_EIO: the disk has not taken it: the document is as it was for this program; after a restart it may be the new one.
 * *err says it, for everything but HT_OK and HT_EAGAIN.
 */
#define EDGE_ANY_VERSION UINT64_MAX
int edge_state_change(struct edge_state *s, enum edge_kind kind, const char *id, uint64_t expected,
                      const struct edge_change *changes, size_t n, const struct edge_actor *by, uint64_t *version,
                      struct ht_errmsg *err) HT_MUST_USE;

/*
 * Changes of a group wait for the disk once. Between edge_state_group(s, true) and edge_state_group(s, false) changes
 * are made in memory, and observers are told at once; versions count on. Nobody outside may be told that they are done,
 * nor be made to follow them, before edge_state_commit() has returned HT_OK. On an error, with *err, all of the group
 * are taken back, from the last to the first, and observers are told so. A change outside of a group commits the one
 * that is open, too.
 */
void edge_state_group(struct edge_state *s, bool on);
size_t edge_state_pending(const struct edge_state *s); /* changes of a group that are not committed */
int edge_state_commit(struct edge_state *s, struct ht_errmsg *err) HT_MUST_USE;
/* One who is told how each commit of at least a change has ended, `text` says why it failed. Called inside of it: it
 * may not change documents. NULL: nobody any more. */
void edge_state_on_commit(struct edge_state *s, void (*committed)(void *ctx, int rc, const char *text), void *ctx);
/* Writes up to `n` documents that have changed to their own files. True: there are more. For a timer: it waits for the
 * disk, twice for each. What cannot be written is tried again by the next call. */
bool edge_state_tidy(struct edge_state *s, size_t n);

/*
 * Who wants to know of changes, after they are on the disk: to make maps of them. `doc` is NULL when the document was
 * removed. changed() may not change documents itself, and cannot refuse: what it cannot do now it must try again. The
 * structure is the observer's, and must stay where it is until edge_state_unwatch() or edge_state_close(). At the start
 * nothing is told; edge_state_each() shows what there is.
 */
struct edge_observer {
    struct edge_observer *next;
    void (*changed)(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc);
};
void edge_state_watch(struct edge_state *s, struct edge_observer *o);
/* Harmless for one that does not watch. */
void edge_state_unwatch(struct edge_state *s, struct edge_observer *o);

#endif
