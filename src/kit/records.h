/*
 * Records of sessions, as spec/restart.yaml describes them: the text, apart from where it is kept (store.c) and from
 * what becomes of it (restore.c).
 */
#ifndef HT_KIT_RECORDS_H
#define HT_KIT_RECORDS_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "restart_gen.h"

/* ---- writing ---- */

struct records_writer {
    struct ht_buf body;
    uint32_t lines;
    int rc; /* the first error; what follows it is left out */
};

/* A zero-initialised writer is ready. Adds a line. */
void records_add(struct records_writer *w, const struct restart_message *m);
/* Appends the whole text to `out`, and frees what the writer has. `head` has its type, seq, saved and program. 0;
 * HT_ENOMEM; HT_EINVAL: a value was out of bounds. */
int records_finish(struct records_writer *w, struct restart_message *head, struct ht_buf *out) HT_MUST_USE;

/* ---- reading ---- */

struct records {
    struct restart_message head;
    char *text, *arena; /* of the messages */
    struct json_arena used;
    uint8_t *at; /* the next line */
    size_t left;
    uint32_t lines;  /* that are left */
    unsigned before; /* the type of the message before */
};

/*
 * Checks the whole text (rules RREC-1 to RREC-4) and copies it. 0; HT_EPROTO with *err: it is damaged; HT_ELIMIT with
 * *err: a newer version has written it; HT_ENOMEM. records_free() in each case.
 */
int records_open(struct records *r, struct ht_slice all, struct ht_errmsg *err) HT_MUST_USE;
/* The next message behind the head, valid until records_free(). False: that was the last one. */
bool records_next(struct records *r, struct restart_message *m);
void records_free(struct records *r);

#endif
