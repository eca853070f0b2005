/* What has changed in documents since their own files were written: see journal.c. For state.c. */
#ifndef HT_EDGE_JOURNAL_H
#define HT_EDGE_JOURNAL_H

#include "base/buf.h"
#include "edge/state.h"

struct edge_journal {
    int fd;
    uint64_t size, chain; /* of its whole records */
};

struct edge_record {
    enum edge_kind kind;
    char id[EDGE_ID_MAX + 1];
    uint64_t version;
    struct ht_slice text; /* empty: the document was removed */
};

/* Makes folder/state/journal if it is not there, and calls each() for its records, in order, until one fails. 0; or
 * HT_EIO, HT_ENOMEM or what each() has returned, with *err. The caller ends it with edge_journal_close() in any case.
 */
int edge_journal_open(struct edge_journal *j, const char *folder, int (*each)(void *ctx, const struct edge_record *r),
                      void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* The same for the bytes of a journal; *text is then what is left of it, and *chain that of the last record. */
int edge_journal_read(struct ht_slice *text, uint64_t *chain, int (*each)(void *ctx, const struct edge_record *r),
                      void *ctx) HT_MUST_USE;
void edge_journal_close(struct edge_journal *j);
/* Appends a record to `out`. *chain is that of the journal, or of the record before it in `out`. HT_ENOMEM: `out` is as
 * it was. */
int edge_journal_put(struct ht_buf *out, uint64_t *chain, enum edge_kind kind, const char *id, uint64_t version,
                     struct ht_slice text) HT_MUST_USE;
/* The records are on the disk when this returns 0; `chain` is that of the last one. HT_EIO with *err. */
int edge_journal_write(struct edge_journal *j, struct ht_slice records, uint64_t chain,
                       struct ht_errmsg *err) HT_MUST_USE;
/*
 * Nothing is in it any more: all documents are on the disk as files. This does not wait for the disk: should the
 * machine end now, the old records may be there again, which are what the files say. Once a new record is on the disk,
 * so is this. HT_EIO with *err: it is as it was.
 */
int edge_journal_clear(struct edge_journal *j, struct ht_errmsg *err) HT_MUST_USE;

#endif
